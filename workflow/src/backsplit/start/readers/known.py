"""Data sets that are downloaded in nnU-Net's folders without, or beyond, what describes them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Known:
    """A data set that its cases' names tell.

    Attributes
    ----------
    layout : what it is called
    case : pattern of every case's name
    patient : pattern that gives the patient, group 1 or the whole of what it finds; empty where
        each case is a patient
    channels : in order
    part : of the body
    labels : name to value, for where no dataset.json says it
    ending : of the files; empty for any
    """

    layout: str
    case: str
    patient: str
    channels: Sequence[str]
    part: str
    labels: Mapping[str, int] = field(default_factory=dict)
    ending: str = ""


KNOWN = (
    Known("autopet3", r"(fdg|psma)_[^_]+_.+", r"^(?:fdg|psma)_[^_]+", ("ct", "pet"), "whole_body",
          {"lesion": 1}),
    Known("panther", r"\d{5}(_\d{4})?", r"^\d+", ("mr",), "abdomen", {"tumor": 1, "pancreas": 2},
          ".mha"),
    Known("mswal", r"MSWAL_\d+", "", ("ct",), "abdomen",
          {"gallstone": 1, "kidney_stone": 2, "liver_tumor": 3, "kidney_tumor": 4,
           "pancreatic_cancer": 5, "liver_cyst": 6, "kidney_cyst": 7}),
)  # fmt: skip
"""PANTHER's task 1 has several images a patient (10000_0001), task 2 one (10303)."""


PATIENTS = (r"^BraTS-[A-Za-z]+-\d+(?=-\d{3}$)",)
"""Patterns of patients in names of cases that tell them wherever they are: BraTS-GLI-00005-100."""


def patient_pattern(cases: Sequence[str]) -> str:
    """The pattern that gives each case's patient; empty where none fits all."""
    return next((p for p in PATIENTS if cases and all(re.search(p, c) for c in cases)), "")


def known_set(cases: Sequence[str], ending: str, channels: int) -> Known | None:
    """The data set that these names are of; None where they are of none."""
    for known in KNOWN:
        fits = channels == len(known.channels) and ending.lower().endswith(known.ending)
        if cases and fits and all(re.fullmatch(known.case, case) for case in cases):
            return known
    return None


def patient_in(name: str, pattern: str) -> str:
    """The part of a name that a pattern gives: its first group, else all that it finds."""
    match = re.search(pattern, name)
    if match is None:
        return ""
    return (match[1] if match.re.groups else match[0]) or ""

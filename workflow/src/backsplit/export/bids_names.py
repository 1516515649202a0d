"""Names of BIDS: which subject and session a case becomes, and where its files lie."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from backsplit.cases.table import Case
from backsplit.config.export import BIDS_TYPES

LONGEST = 60
"""Letters of a label: subject and session are in a file's name, which has room for 255."""


@dataclass(frozen=True)
class Member:
    """Where a case is in a data set.

    Attributes
    ----------
    case, patient : as the case table has them
    subject, session : labels of BIDS; `session` is empty where no patient has two cases
    """

    case: str
    patient: str
    subject: str
    session: str

    @property
    def entities(self) -> tuple[str, ...]:
        """Names of its folders, which its files' names begin with."""
        session = (f"ses-{self.session}",) if self.session else ()
        return (f"sub-{self.subject}", *session)

    def path(self, data_type: str, suffix: str, ending: str) -> Path:
        """A file of it, from the data set's folder."""
        return Path(*self.entities, data_type, f"{'_'.join(self.entities)}_{suffix}{ending}")


def members_of(cases: Sequence[Case]) -> list[Member]:
    """Subject and session of each case, in the order of the cases.

    The subject is the case's patient. A patient with several cases has a session
    for each, called by what the case's id says beyond the patient; then everyone has one, as BIDS
    wants it. Labels of BIDS are letters and digits: other characters are left out, and where two
    names would become one (`pt-1` and `pt_1`), each gets a piece of its own SHA-256. So does one
    that is too long for the name of a file, which is cut.
    """
    patients = {case.id: case.patient for case in cases}
    cases_of: dict[str, list[str]] = {}
    for case, patient in patients.items():
        cases_of.setdefault(patient, []).append(case)
    subjects = _distinct({patient: _entity("sub", patient) or patient for patient in cases_of})
    several = any(len(c) > 1 for c in cases_of.values()) or any(_entity("ses", c) for c in patients)
    sessions: dict[str, str] = {}
    if several:
        for patient, ids in cases_of.items():
            sessions |= _sessions(patient, ids)
    return [Member(c, p, subjects[p], sessions.get(c, "")) for c, p in patients.items()]


def data_type(suffix: str) -> str:
    """Folder of an image by its suffix, whatever entities come before it."""
    return BIDS_TYPES.get(suffix.rpartition("_")[2], "anat")


def _sessions(patient: str, cases: Collection[str]) -> dict[str, str]:
    """Label of the session of each of a patient's cases."""
    beyond = re.compile(rf"{re.escape(patient)}(?:[._-]+(.*))?")
    texts = {}
    for case in cases:
        match = beyond.fullmatch(case)
        rest = match[1] if match else case
        texts[case] = _entity("ses", case) or rest or "1"
    if len({_plain(text).casefold() for text in texts.values()}) < len(texts):
        texts = {case: case for case in cases}
    return _distinct(texts)


def _entity(key: str, text: str) -> str:
    """The label in a name of BIDS (01 of `sub-01_ses-2` for the key `sub`), or nothing."""
    match = re.search(rf"(?:^|_){key}-([A-Za-z0-9]+)", text)
    return match[1] if match else ""


def _distinct(texts: Mapping[str, str]) -> dict[str, str]:
    """A label for each name from the text that it is made of; no two alike in any case."""
    times = Counter(_plain(text).casefold() for text in texts.values())
    labels = {}
    for name, text in texts.items():
        plain = _plain(text)
        alone = 0 < len(plain) <= LONGEST and times[plain.casefold()] == 1
        mark = hashlib.sha256(name.encode()).hexdigest()[:8]
        labels[name] = plain if alone else f"{plain[: LONGEST - 9]}x{mark}"
    return labels


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "", text)

"""What is wrong nearly everywhere: a fault of the mapping, said once and not of every case."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from backsplit.config.quality import AnatomyRules, Severity
from backsplit.judge.anatomy import ROW, Case, findings
from backsplit.judge.cube import Cube

SYSTEMATIC_SHARE = 0.5
SYSTEMATIC_CASES = 5
"""What is wrong in at least half of the cases that have the structure, and in that many, is a fault
of the mapping or of the segmenter, and is reported once."""

ELSEWHERE_SHARE = 0.2
"""A group has a fault of its own when at most so many of the other cases have it."""

EXCHANGE_CASES = 5
"""So many of the cases with a fault are looked at for two names that were exchanged."""

MOST_EXCHANGED = 12
"""Where more structures than this are wrong everywhere, it is not for two names."""

LABELS = "labels"
"""Source of what was composed; the others are segmenters."""

Groups = Mapping[str, Mapping[str, Sequence[str]]]
"""Column of the case table to {value: cases}."""

Choose = Callable[[str, frozenset[str]], str]
"""Of a subject and some cases: the one that shows best what is wrong."""


@dataclass(frozen=True)
class Fault:
    """Something that is wrong in nearly all cases, or in nearly all of a group.

    Attributes
    ----------
    subject, rule : of the single flags
    where : in words, how many cases of how many
    cases : which
    expected, message : what should be, and all in words
    partner : the other structure that it speaks of, if any
    example : the case that shows it best
    """

    subject: str
    rule: str
    where: str
    cases: frozenset[str]
    expected: str
    message: str
    partner: str = ""
    example: str = ""

    def flag(self) -> dict[str, str]:
        """A flag without a case."""
        return {
            "case": "",
            "subject": self.subject,
            "rule": f"systematic_{self.rule}",
            "severity": Severity.REVIEW,
            "value": self.where,
            "expected": self.expected,
            "message": self.message,
            "example": self.example,
        }


def typical(subject: str, cases: Iterable[str], cubes: Mapping[str, Cube]) -> str:
    """The case in which the volume of a structure is nearest to the median of some cases.

    Parameters
    ----------
    subject : structure, or segmenter/class
    cases : which cases
    cubes : source to its measures

    Returns
    -------
    case
        Empty where none of the cases has a voxel of it.
    """
    source, _, name = subject.rpartition("/")
    cube = cubes.get(source or LABELS)
    if cube is None or name not in cube.structures:
        return ""
    j, wanted = cube.structures.index(name), frozenset(cases)
    chosen = np.fromiter((case in wanted for case in cube.cases), bool, len(cube.cases))
    having = np.flatnonzero(chosen & (cube["voxels"][:, j] > 0))
    if not len(having):
        return ""
    volumes = cube["volume_ml"][having, j]
    return cube.cases[int(having[np.argmin(np.abs(volumes - np.median(volumes)))])]


def split(
    flags: pd.DataFrame,
    present: Mapping[str, set[str]],
    groups: Groups,
    choose: Choose,
) -> tuple[list[Fault], pd.DataFrame]:
    """Take what is wrong nearly everywhere out of the flags of single cases.

    Parameters
    ----------
    flags : of single cases
    present : subject to the cases that have it
    groups : column of the case table to {value: cases}
    choose : of a subject and cases: the one that is an example

    Returns
    -------
    faults, flags
        the systematic ones; those of single cases that remain. A case keeps no flag of a fault
        that is not its own.
    """
    kept, faults = [], []
    for (subject, rule), mine in flags.groupby(["subject", "rule"], sort=False):
        bad = set(mine["case"])
        if len(bad) < SYSTEMATIC_CASES:
            kept.append(mine)
            continue
        everyone = present.get(str(subject), set()) | bad
        explained: set[str] = set()
        for name, members in _populations(everyone, groups):
            hit, others = bad & members, everyone - members
            often = len(hit) >= max(SYSTEMATIC_CASES, SYSTEMATIC_SHARE * len(members))
            if often and len(bad & others) <= ELSEWHERE_SHARE * len(others):
                case = choose(str(subject), frozenset(hit)) or min(hit)
                example = mine[mine["case"] == case].iloc[0]
                faults.append(_fault(str(rule), example, name, hit, len(members)))
                explained = hit
                break
        kept.append(mine[~mine["case"].isin(explained)])
    single = pd.concat(kept, ignore_index=True) if kept else flags
    return faults, single.reindex(columns=flags.columns)


def exchanged(
    faults: Sequence[Fault], cube: Cube, rules: AnatomyRules, ct: set[str]
) -> list[Fault]:
    """Say which two structures have each other's name, where that explains faults of anatomy.

    Two structures, at least one of them with a fault that speaks of the other or both with faults,
    have been exchanged when nothing is wrong with either of them once their names are put back.

    Parameters
    ----------
    faults : systematic ones
    cube : measures of the composed label maps
    rules : the rules of anatomy
    ct : cases whose image is a CT

    Returns
    -------
    faults
        those that an exchange explains are one fault instead
    """
    kinds = set(AnatomyRules.model_fields)
    left = list(faults)
    wrong = [f for f in faults if f.rule in kinds and f.subject in cube.structures]
    if len({f.subject for f in wrong}) > MOST_EXCHANGED:
        return left
    for fault in wrong:
        if fault not in left:
            continue
        chosen = cube.of_cases(sorted(fault.cases)[:EXCHANGE_CASES])
        cases = [Case(rows, is_ct=case in ct) for case, rows in chosen.records(ROW)]
        for other in _others(fault, wrong, cube):
            pair = (fault.subject, other)
            if cases and not any(_wrong_with(case.renamed(pair), pair, rules) for case in cases):
                gone = [f for f in left if f.subject in pair and f.cases & fault.cases]
                left = [f for f in left if f not in gone]
                left.append(_exchange(fault, other, gone))
                break
    return left


def _others(fault: Fault, wrong: Sequence[Fault], cube: Cube) -> Iterator[str]:
    """Structures that a fault may have been exchanged with: those it speaks of come first."""
    spoken = [word for word in re.split(r"[\s,;:()]+", fault.message) if word in cube.structures]
    for name in dict.fromkeys([*spoken, *(f.subject for f in wrong)]):
        if name != fault.subject:
            yield name


def _wrong_with(case: Case, pair: Sequence[str], rules: AnatomyRules) -> bool:
    return any(finding.subject in pair for finding in findings(case, rules))


def _exchange(fault: Fault, other: str, gone: Sequence[Fault]) -> Fault:
    names = ", ".join(dict.fromkeys(f.rule for f in gone if not f.rule.startswith("cohort_")))
    message = (
        f"{fault.subject} and {other} have each other's size and place in {fault.where}: their "
        f"names are exchanged in the mapping, or in the segmenter's class table; swapped back, "
        f"nothing is wrong with either ({names})"
    )
    expected = f"{fault.subject} and {other} the other way round"
    return replace(fault, rule="exchanged", expected=expected, message=message, partner=other)


def _populations(everyone: set[str], groups: Groups) -> Iterator[tuple[str, set[str]]]:
    """The whole data set, then each group of each column."""
    yield "", everyone
    for column, values in groups.items():
        for value, cases in values.items():
            yield f"{column} {value}", everyone & set(cases)


def _fault(rule: str, example: pd.Series, group: str, hit: set[str], members: int) -> Fault:
    subject = str(example["subject"])
    where = f"{len(hit)} of {members} cases" + (f" of {group}" if group else "")
    message = (
        f"{subject} is wrong in {where}: its mapping, or its segmenter, not the cases; "
        f"e.g. {example['case']}: {example['message']}"
    )
    expected, case = str(example["expected"]), str(example["case"])
    return Fault(subject, rule, where, frozenset(hit), expected, message, example=case)

"""Flags of a data set: anatomy, cohort, agreement, and what is wrong with the mapping itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from backsplit.config.lesion_words import is_lesion
from backsplit.config.quality import WEIGHTS, AnatomyRules, Cohort, Quality, Severity
from backsplit.judge.absent import absences
from backsplit.judge.anatomy import ROW, Case, Finding, anatomy_rules, findings, fits
from backsplit.judge.cube import Cube
from backsplit.judge.echoes import without_echoes, without_unused
from backsplit.judge.evidence import Compared, Scale, compare, fields_of_view, named
from backsplit.judge.mapping import looks_like, one_side, several_parts, two_groups
from backsplit.judge.place import off_from_others
from backsplit.judge.ranking import NOTABLE, told_from
from backsplit.judge.symmetry import lopsided
from backsplit.judge.systematic import LABELS, Fault, Groups, exchanged, split, typical
from backsplit.judge.verdicts import FLAG_COLUMNS, SCORED_COLUMNS
from backsplit.volume.intensity import is_ct

AT_THE_END_MM = 10.0

NAMED = 8
"""So many structures are named in a message."""


def all_flags(
    measures: pd.DataFrame,
    agreement: pd.DataFrame,
    sources: Mapping[str, Mapping[str, str]],
    groups: Groups,
    settings: Quality,
    targets: Sequence[str] = (),
    parts: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Everything that the measures say against cases, and against the mapping.

    Parameters
    ----------
    measures, agreement : the tables of `results/qc`
    sources : segmenter to {class: structure}
    groups : column of the case table to {value: cases}
    settings : the section `qc`
    targets : lesions, which have no usual shape, size or place; what a name calls a lesion is
        none of the anatomy either
    parts : the table of `results/qc`, where there is one

    Returns
    -------
    flags
        `FLAG_COLUMNS` and score; of each case at least what speaks most against it, however little
        that is
    """
    cubes = cubes_of(measures, targets)
    rules, ct = anatomy_rules().with_first(settings.rules), cases_of_ct(measures)
    missing = flag_absences_of(cubes, measures, groups, rules, settings.cohort)
    fixed = pd.concat(
        [flag_anatomy(cubes, rules, ct), missing, flag_disagreement(agreement, settings.least_dice)]
    )
    compared = flag_compared(cubes, sources, groups, settings)
    flags = pd.concat([fixed, compared])
    # what is said twice, of all cases and of a group, is said once: the gravest
    flags = flags.assign(weight=flags["severity"].map(WEIGHTS))
    flags = flags.sort_values(["weight", "score"], ascending=False)
    flags = flags.drop_duplicates(["case", "subject", "rule"]).sort_index(kind="stable")
    flags = flags.drop(columns="weight")
    flags = without_echoes(without_off(flags, settings.off), sources)
    flags = without_unused(flags, sources)
    minor = flags["score"] < NOTABLE
    choose = partial(typical, cubes=cubes)
    faults, single = split(flags[~minor], _present(cubes), groups, choose)
    few = []
    if LABELS in cubes:
        faults = exchanged(faults, cubes[LABELS], rules, ct)
        odd = [
            *_odd(cubes, sources, groups, rules, settings.cohort),
            *([] if parts is None else lopsided(parts, cubes[LABELS], rules)),
        ]
        faults, single = _with_odd(faults, single, odd)
        few = [flag_too_few(cubes[LABELS], groups, settings.cohort)]
    shown = [replace(f, example=f.example or choose(f.subject, f.cases)) for f in faults]
    said = pd.DataFrame([fault.flag() for fault in shown], columns=SCORED_COLUMNS)
    whole = without_off(pd.concat([said, *few]), settings.off)
    return pd.concat([whole, single, flags[minor]], ignore_index=True)


def cubes_of(measures: pd.DataFrame, targets: Sequence[str]) -> dict[str, Cube]:
    """The measures of each source of labels, without lesions.

    What ends within `AT_THE_END_MM` of the first or the last slice counts as cut off: the last
    voxels of a brain that is hardly in view are no small brain.
    """
    anatomy = measures[~measures["structure"].isin(_lesions(measures, targets))]
    cut = anatomy["touches_border"].eq(True) | _at_end(anatomy, fields_of_view(measures))
    anatomy = anatomy.assign(touches_border=cut)
    return {
        str(source): Cube.of(mine)
        for source, mine in anatomy.groupby("source", sort=False)
        if source != "image"
    }


def _at_end(measures: pd.DataFrame, field: Mapping[str, tuple[float, float]]) -> pd.Series:
    """Whether a structure ends next to the first or last slice of its image, by row."""
    low, high = (
        measures["case"].map({case: ends[i] for case, ends in field.items()}).astype(float)
        for i in (0, 1)
    )
    near_low = measures["box_z_min"].astype(float) < low + AT_THE_END_MM
    return near_low | (measures["box_z_max"].astype(float) > high - AT_THE_END_MM)


def _lesions(measures: pd.DataFrame, targets: Sequence[str]) -> set[str]:
    """Names of lesions among the structures."""
    return {*targets, *(name for name in measures["structure"].unique() if is_lesion(name))}


def _odd(
    cubes: Mapping[str, Cube],
    sources: Mapping[str, Mapping[str, str]],
    groups: Groups,
    rules: AnatomyRules,
    settings: Cohort,
) -> Iterator[Fault]:
    """Faults of the mapping that no single case shows."""
    cube = cubes[LABELS]
    yield from looks_like(cubes, LABELS, sources)
    yield from one_side(cubes, LABELS, rules)
    yield from several_parts(cube, rules)
    yield from two_groups(cube, off_from_others(cube, settings.fewest), groups, settings)


def _with_odd(
    faults: list[Fault], single: pd.DataFrame, odd: Sequence[Fault]
) -> tuple[list[Fault], pd.DataFrame]:
    """Add faults of the mapping that no single case shows; what they say better goes.

    Of a structure that is wrong otherwise already only what is missing on one side is added.
    """
    for fault in odd:
        its = [f for f in faults if fault.subject in (f.subject, f.partner)]
        if fault.rule == "two_kinds":
            less = [f for f in its if f.rule.startswith("cohort_")]
        else:
            less = [f for f in its if f.rule in ("volume", "pair", "near")]
        if fault.rule in ("one_side", "lopsided") or len(less) == len(its):
            faults = [*(f for f in faults if f not in less), fault]
    explained = {(case, f.subject) for f in odd if f.rule == "two_kinds" for case in f.cases}
    mine = zip(single["case"], single["subject"], single["rule"], strict=True)
    kept = [
        not (rule.startswith("cohort_") and (case, subject) in explained)
        for case, subject, rule in mine
    ]
    return faults, single[np.array(kept, bool)]


def flag_anatomy(cubes: Mapping[str, Cube], rules: AnatomyRules, ct: Set[str]) -> pd.DataFrame:
    """Hold the anatomy rules against every case, for each source of labels.

    Parameters
    ----------
    cubes : source to its measures
    rules : the rules
    ct : cases whose image is a CT
    """
    rows: list[dict[str, str]] = []
    for source, cube in cubes.items():
        for case, measured in cube.records(ROW):
            found = findings(Case(measured, is_ct=case in ct), rules)
            rows += [_row(case, source, finding) for finding in found]
    return pd.DataFrame(rows, columns=FLAG_COLUMNS)


def cases_of_ct(measures: pd.DataFrame) -> set[str]:
    """Cases whose intensities go as low as a CT's only do."""
    lowest = zip(measures["case"], measures["minimum"], strict=True)
    return {case for case, value in lowest if is_ct(value)}


def _populations(cubes: Mapping[str, Cube], groups: Groups) -> Iterator[tuple[str, Cube]]:
    """All cases of each source; then each group of them."""
    for source, cube in cubes.items():
        yield source, cube
        for values in groups.values():
            for cases in values.values():
                yield source, cube.of_cases(cases)


def flag_compared(
    cubes: Mapping[str, Cube],
    sources: Mapping[str, Mapping[str, str]],
    groups: Groups,
    settings: Quality,
) -> pd.DataFrame:
    """Compare the cases with each other, of each source; then within each group."""
    compared = compared_cases(cubes, sources, groups, settings)
    scale = Scale.of(compared)
    rows = [row for one in compared for row in named(one, scale, told_from(settings.review))]
    return pd.DataFrame(rows, columns=SCORED_COLUMNS)


def compared_cases(
    cubes: Mapping[str, Cube],
    sources: Mapping[str, Mapping[str, str]],
    groups: Groups,
    settings: Quality,
) -> list[Compared]:
    """All comparisons of all sources and groups; of classes those that a structure takes."""
    found = []
    for source, cube in _populations(cubes, groups):
        used = set(sources.get(source, {}))
        kept = [j for j, name in enumerate(cube.structures) if source == LABELS or name in used]
        subjects = [subject_of(source, name) for name in cube.structures]
        wanted = {subjects[j] for j in kept}

        def keep(rule: str, subject: str, wanted: Set[str] = wanted) -> bool:
            return subject in wanted and not is_off(rule, subject, settings.off)

        one = compare(cube, subjects, settings.cohort, keep)
        if one is not None:
            found.append(one)
    return found


def flag_absences_of(
    cubes: Mapping[str, Cube],
    measures: pd.DataFrame,
    groups: Groups,
    rules: AnatomyRules,
    settings: Cohort,
) -> pd.DataFrame:
    """Flag what a case lacks, or has cut off, and the others have not."""
    field = fields_of_view(measures)
    rows = [
        _row(case, source, finding)
        for source, cube in _populations(cubes, groups)
        for case, finding in absences(cube, field, rules, settings)
    ]
    return pd.DataFrame(rows, columns=FLAG_COLUMNS)


def flag_too_few(cube: Cube, groups: Groups, settings: Cohort) -> pd.DataFrame:
    """Say which structures were not compared because too few cases have them."""
    populations = {"the data set": cube}
    for column, values in groups.items():
        for value, cases in values.items():
            populations[f"{column} {value}"] = cube.of_cases(cases)
    rows = []
    for name, part in populations.items():
        count = len(part.cases)
        rare = _rare(part, settings.fewest)
        if count < settings.fewest:
            few = f"too few cases to compare ({count}; at least {settings.fewest})"
            rows.append(_too_few(name, count, few))
        elif rare:
            few = f"compared without {rare}, which too few of its {count} cases have"
            rows.append(_too_few(name, count, few))
    flags = pd.DataFrame(rows, columns=FLAG_COLUMNS)
    flags["expected"] = f"at least {settings.fewest} cases"
    return flags


def _rare(cube: Cube, fewest: int) -> str:
    """Structures that some cases have, but too few to be compared."""
    number = cube.there.sum(axis=0)
    names = [cube.structures[j] for j in np.flatnonzero((number > 0) & (number < fewest))]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _too_few(name: str, count: int, what: str) -> dict[str, str]:
    return {
        "case": "",
        "subject": name,
        "rule": "too_few",
        "severity": Severity.INFO,
        "value": f"{count} cases",
        "message": f"{name}: {what}",
    }


def flag_disagreement(agreement: pd.DataFrame, least_dice: float) -> pd.DataFrame:
    """Flag structures on which segmenters disagree; of three or more, name the odd one out."""
    low = agreement[agreement["dice"] < least_dice]
    concerned = agreement.merge(low[["case", "structure"]].drop_duplicates())
    rows = []
    for (case, structure), mine in concerned.groupby(["case", "structure"], sort=False):
        odd = odd_one_out(mine, least_dice)
        worst = mine.sort_values("dice").iloc[0]
        if odd is None:
            value = f"Dice {worst['dice']:.2f}"
            who = f"{worst['first']} and {worst['second']} agree with a Dice of {worst['dice']:.2f}"
        else:
            theirs = mine[(mine["first"] == odd) | (mine["second"] == odd)]["dice"]
            value = f"{odd}: Dice up to {theirs.max():.2f} with the rest"
            who = f"{odd} is the outlier: Dice at most {theirs.max():.2f} with the others, which "
            who += "agree with each other"
        rows.append(
            {
                "case": case,
                "subject": structure,
                "rule": "agreement",
                "severity": Severity.WARN,
                "value": value,
                "expected": f"at least {least_dice:g}",
                "message": f"{structure}: {who} only; expected at least {least_dice:g}",
            }
        )
    return pd.DataFrame(rows, columns=FLAG_COLUMNS)


def odd_one_out(pairs: pd.DataFrame, least_dice: float) -> str | None:
    """Which of three or more segmenters disagrees with all others, who agree with each other.

    Parameters
    ----------
    pairs : first, second, dice of one structure in one case; NaN, where neither found it, is
        agreement
    least_dice : what counts as agreement
    """
    segmenters: list[str] = list(dict.fromkeys([*pairs["first"], *pairs["second"]]))
    if len(segmenters) < 3:  # of two either may be wrong
        return None
    low = pairs["dice"] < least_dice
    for segmenter in segmenters:
        its = (pairs["first"] == segmenter) | (pairs["second"] == segmenter)
        if (low == its).all():
            return segmenter
    return None


def is_off(rule: str, subject: str, off: Sequence[str]) -> bool:
    """Whether `qc.off` names a rule, as `rule` or `rule:subject`."""
    return any(fits(text, tuple(off)) for text in (rule, f"{rule}:{subject}"))


def without_off(flags: pd.DataFrame, off: Sequence[str]) -> pd.DataFrame:
    """Leave out what `qc.off` names."""
    pairs = zip(flags["rule"], flags["subject"], strict=True)
    return flags[~np.array([is_off(rule, subject, off) for rule, subject in pairs], bool)]


def _present(cubes: Mapping[str, Cube]) -> dict[str, set[str]]:
    """Subject to the cases that have it."""
    return {
        subject_of(source, structure): {cube.cases[i] for i in np.flatnonzero(cube.there[:, j])}
        for source, cube in cubes.items()
        for j, structure in enumerate(cube.structures)
    }


def subject_of(source: str, structure: str) -> str:
    """How flags call a structure of a source."""
    return structure if source == LABELS else f"{source}/{structure}"


def _row(case: str, source: str, finding: Finding) -> dict[str, str]:
    return {
        "case": case,
        **vars(finding),
        "subject": subject_of(source, finding.subject),
    }

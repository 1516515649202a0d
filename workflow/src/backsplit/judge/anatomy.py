"""Anatomy rules held against the measures of one case."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib import resources
from typing import Any

import yaml

from backsplit.config.file import FAST_LOADER
from backsplit.config.quality import AnatomyRules, ChainRule, OrderRule, Rule, Severity, SidesRule

Row = Mapping[str, Any]
"""One row of `measures.parquet`."""

FEWEST_VOXELS = 20
"""A structure whose lower limit is fewer voxels than this is too small for the grid to be judged
by volume."""

ORDER_MM = 30.0
"""Centroids may be out of order by this much: organs lie obliquely and move with breathing, and a
large liver reaches down to the kidneys' lower poles."""

TOUCH_MM = 15.0
"""Boxes of neighbours in a chain lie no further apart: less than the height of a vertebra."""


ROW = (
    *("voxels", "volume_ml", "p50", "components_large", "spread_mm", "holes_ml", "touches_border"),
    *(f"centroid_{axis}" for axis in "xyz"),
    *(f"box_{axis}_{end}" for axis in "xyz" for end in ("min", "max")),
)
"""Columns of `measures.parquet` that the rules speak of."""


@lru_cache(maxsize=1)
def anatomy_rules() -> AnatomyRules:
    """The rules that come with the package."""
    text = resources.files("backsplit.judge").joinpath("anatomy.yaml").read_text("utf-8")
    rules = yaml.load(text, Loader=FAST_LOADER)  # noqa: S506 (it is safe)
    return AnatomyRules.model_validate(rules)


@dataclass(frozen=True)
class Finding:
    """A rule that does not hold.

    Attributes
    ----------
    subject : structure, or structures
    rule : kind of rule
    value, expected, message : what was found, what should be, both in words
    """

    subject: str
    rule: str
    severity: Severity
    value: str
    expected: str
    message: str


@lru_cache(maxsize=1 << 16)
def fits(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether a name is one of those meant; asked of the same names in each case."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


@lru_cache(maxsize=1 << 14)
def _fitting(names: tuple[str, ...], patterns: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the names that are meant; most cases have the same names."""
    return tuple(name for name in names if fits(name, patterns))


class Case:
    """Measures of one case from one source, by name; structures without a voxel are left out."""

    def __init__(self, rows: Mapping[str, Row], *, is_ct: bool) -> None:
        self.rows = {name: row for name, row in rows.items() if row["voxels"] > 0}
        self.names = tuple(self.rows)
        self.is_ct = is_ct

    def renamed(self, pair: Sequence[str]) -> Case:
        """The same case in which two structures have each other's name."""
        first, second = pair
        other = {first: second, second: first}
        rows = {other.get(name, name): row for name, row in self.rows.items()}
        return Case(rows, is_ct=self.is_ct)

    def matching(self, patterns: Sequence[str]) -> tuple[str, ...]:
        """Names that fit one of the patterns."""
        return _fitting(self.names, tuple(patterns))

    def whole(self, name: str) -> bool:
        """Whether the field of view does not cut the structure off."""
        return not self.rows[name]["touches_border"]

    def pairs(self, rule: SidesRule) -> Iterator[tuple[str, str]]:
        """Names of both sides."""
        if "*" not in rule.left:
            if rule.left in self.rows and rule.right in self.rows:
                yield rule.left, rule.right
            return
        for left in self.matching([rule.left]):
            right = left.replace(rule.left.strip("*"), rule.right.strip("*"))
            if right != left and right in self.rows:
                yield left, right


def findings(case: Case, rules: AnatomyRules) -> list[Finding]:
    """Hold every rule against a case; of each kind a structure is reported once: the gravest."""
    kinds: Sequence[Callable[[Case, AnatomyRules], Iterator[Finding]]] = (
        _volume, _intensity, _side, _pair, _order, _chain, _near, _components, _holes,
    )  # fmt: skip
    found: dict[tuple[str, str], Finding] = {}
    for kind in kinds:
        for finding in kind(case, rules):
            key = (finding.subject, finding.rule)
            if key not in found or finding.severity.weight > found[key].severity.weight:
                found[key] = finding
    return list(found.values())


def _first_of(case: Case, rules: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Each name with the first rule that speaks of it."""
    taken: set[str] = set()
    for rule in rules:
        for name in case.matching(rule.of):
            if name not in taken:
                taken.add(name)
                yield name, rule


def _volume(case: Case, rules: AnatomyRules) -> Iterator[Finding]:
    for name, rule in _first_of(case, rules.volume):
        row = case.rows[name]
        volume, voxel_ml = row["volume_ml"], row["volume_ml"] / row["voxels"]
        if rule.low < FEWEST_VOXELS * voxel_ml:
            continue
        if volume > rule.high or (volume < rule.low and case.whole(name)):
            yield _finding(
                rule, name, "volume", f"{volume:.3g} ml", f"{rule.low:g} to {rule.high:g} ml"
            )


def _intensity(case: Case, rules: AnatomyRules) -> Iterator[Finding]:
    for name, rule in _first_of(case, rules.intensity) if case.is_ct else ():
        median = case.rows[name]["p50"]
        if not rule.low <= median <= rule.high:
            yield _finding(
                rule, name, "intensity", f"median {median:.0f} HU",
                f"{rule.low:g} to {rule.high:g} HU",
            )  # fmt: skip


def _side(case: Case, rules: AnatomyRules) -> Iterator[Finding]:
    for rule in rules.side:
        for left, right in case.pairs(rule):
            further = case.rows[left]["centroid_x"] - case.rows[right]["centroid_x"]
            if further < 0:
                yield _finding(
                    rule, left, "side", f"{-further:.0f} mm to the right of {right}",
                    f"to the left of {right}",
                )  # fmt: skip


def _pair(case: Case, rules: AnatomyRules) -> Iterator[Finding]:
    for rule in rules.pair:
        for left, right in case.pairs(rule):
            if not (case.whole(left) and case.whole(right)):
                continue
            sizes = case.rows[left]["volume_ml"], case.rows[right]["volume_ml"]
            factor = max(sizes) / min(sizes)
            if factor > rule.factor:
                yield _finding(
                    rule, left, "pair", f"{sizes[0]:.3g} ml, {right} {sizes[1]:.3g} ml",
                    f"no more than {rule.factor:g} times apart",
                )  # fmt: skip


def _order(case: Case, rules: AnatomyRules) -> Iterator[Finding]:
    for rule in rules.order:
        yield from _in_order(case, rule, [case.matching(entry) for entry in rule.names])


def _in_order(
    case: Case, rule: OrderRule | ChainRule, entries: Sequence[Sequence[str]]
) -> Iterator[Finding]:
    """Report what lies below something that should be beneath it."""
    kind = "chain" if isinstance(rule, ChainRule) else "order"
    slack = 0.0 if kind == "chain" else ORDER_MM
    entries = [names for names in entries if names]
    for i, uppers in enumerate(entries):
        for lowers in entries[i + 1 :]:
            for upper, lower in ((u, w) for u in uppers for w in lowers):
                if not (case.whole(upper) and case.whole(lower)):
                    continue
                above = case.rows[upper]["centroid_z"] - case.rows[lower]["centroid_z"]
                if above < -slack:
                    yield _finding(
                        rule, upper, kind, f"{-above:.0f} mm below {lower}", f"above {lower}"
                    )


def _chain(case: Case, rules: AnatomyRules) -> Iterator[Finding]:
    for rule in rules.chain:
        there = [i for i, name in enumerate(rule.names) if name in case.rows]
        if not there:
            continue
        yield from _in_order(case, rule, [[rule.names[i]] for i in there])
        for i in range(there[0], there[-1]):
            if rule.names[i] not in case.rows:
                yield _finding(
                    rule, rule.names[i], "chain", "0 voxels",
                    f"there, as {rule.names[there[0]]} and {rule.names[there[-1]]} are",
                )  # fmt: skip
        ends = ((0, there[0], rule.first_touches), (-1, there[-1], rule.last_touches))
        for end, at, anchor in ends:
            if anchor is None or anchor not in case.rows:
                continue
            last, found = rule.names[end], rule.names[at]
            gap = box_gap_mm(case.rows[found], case.rows[anchor])
            if last != found and gap <= TOUCH_MM:
                yield _finding(rule, found, "chain", f"next to {anchor}", f"{last} next to it")
            elif last == found and gap > TOUCH_MM:
                yield _finding(
                    rule, found, "chain", f"{gap:.0f} mm from {anchor}", f"next to {anchor}"
                )


def _near(case: Case, rules: AnatomyRules) -> Iterator[Finding]:
    for rule in rules.near:
        if rule.of not in case.rows or rule.to not in case.rows:
            continue
        gap = box_gap_mm(case.rows[rule.of], case.rows[rule.to])
        if gap > rule.within_mm and case.whole(rule.of) and case.whole(rule.to):
            yield _finding(
                rule, rule.of, "near", f"{gap:.0f} mm from {rule.to}",
                f"within {rule.within_mm:g} mm of {rule.to}",
            )  # fmt: skip


def _components(case: Case, rules: AnatomyRules) -> Iterator[Finding]:
    for name, rule in _first_of(case, rules.components):
        row = case.rows[name]
        if row["components_large"] > rule.most and case.whole(name):
            yield _finding(
                rule, name, "components",
                f"{row['components_large']:.0f} large parts, up to {row['spread_mm']:.0f} mm apart",
                f"at most {rule.most:g}",
            )  # fmt: skip


def _holes(case: Case, rules: AnatomyRules) -> Iterator[Finding]:
    for name, rule in _first_of(case, rules.holes):
        share = case.rows[name]["holes_ml"] / case.rows[name]["volume_ml"]
        if share > rule.most:
            yield _finding(
                rule, name, "holes", f"holes of {share:.0%} of its volume",
                f"at most {rule.most:.0%}",
            )  # fmt: skip


def box_gap_mm(a: Row, b: Row) -> float:
    """Distance between two boxes, mm; 0 where they overlap."""
    gaps = []
    for axis in "xyz":
        low, high = f"box_{axis}_min", f"box_{axis}_max"
        gaps.append(max(a[low] - b[high], b[low] - a[high], 0.0))
    return float(sum(gap**2 for gap in gaps) ** 0.5)


def _finding(rule: Rule, subject: str, kind: str, value: str, expected: str) -> Finding:
    message = f"{subject}: {value}; expected {expected} ({rule.source})"
    return Finding(subject, kind, rule.severity, value, expected, message)

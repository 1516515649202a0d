"""The fault bench: clean cohorts, faults put into them one at a time, and what is found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from backsplit.config.quality import Quality
from backsplit.judge.flags import all_flags
from backsplit.judge.verdicts import DECISION_COLUMNS, settled, verdicts
from backsplit.measure.agreement import COLUMNS
from backsplit.measure.table import measure
from backsplit.volume import Grid, Volume, read_labels, read_volume
from support.faults import FAULTS, half_missing_at, lesion_at_surface
from support.gross import Spread, middle
from support.project import SHARED
from support.torso import NAMES as TORSO_NAMES
from support.torso import make_torso

AGREEMENT = pd.DataFrame(columns=list(COLUMNS))
DECISIONS = pd.DataFrame(columns=list(DECISION_COLUMNS))
OPENKBP_NAMES = (
    "background", "brainstem", "spinal_cord", "parotid_right", "parotid_left", "esophagus",
    "larynx", "mandible",
)  # fmt: skip
LEFT_RIGHT = {"parotid_left": "parotid_right", "kidney_left": "kidney_right"}
FOUND_WITHIN = 0.1
"""A fault is found when its case is among the first two of twenty: one of them is the clean case
that comes first without the fault."""

NEXT_TO_LESION = "half next to the lesion missing"


class Bench:
    """Cases with their images and label maps, measured once.

    Parameters
    ----------
    cases : case to its image and label map
    names : of the ids, background first
    lesions : case to the mask of its lesion; without, one is put where a fault needs it
    """

    def __init__(
        self,
        cases: Mapping[str, tuple[Volume, np.ndarray]],
        names: tuple[str, ...],
        lesions: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.cases, self.names, self.lesions = cases, names, lesions or {}
        self.clean = {case: self.measured(case, labels) for case, (_, labels) in cases.items()}
        self.flags, self.verdicts = self.judge({})

    def measured(self, case: str, labels: np.ndarray) -> pd.DataFrame:
        """Measures of a label map of a case."""
        image = self.cases[case][0]
        table = measure(image.array, labels, self.names, image.grid)
        return table.assign(case=case, source="labels")

    def judge(self, faulty: Mapping[str, np.ndarray], groups=None, settings=None):
        """Flags and verdicts with some label maps in place of the clean ones."""
        tables = [
            self.measured(case, faulty[case]) if case in faulty else table
            for case, table in self.clean.items()
        ]
        return self.judge_tables(tables, groups, settings)

    def judge_tables(self, tables: Sequence[pd.DataFrame], groups=None, settings=None):
        """Flags and verdicts of measures."""
        measures = pd.concat(tables)
        settings = settings or Quality()
        flags = all_flags(measures, AGREEMENT, {}, groups or {}, settings)
        cases = list(dict.fromkeys(measures["case"]))
        verdict = verdicts(cases, flags, DECISIONS, settings.review)
        written = settled(flags, verdict, DECISIONS, settings.review)
        return written, verdict.set_index("case")["verdict"]

    def found(self, case: str, labels: np.ndarray, review: float = FOUND_WITHIN) -> bool:
        """Whether a fault sends its case to review, for a reason that it did not have before."""
        flags, verdict = self.judge({case: labels}, settings=Quality(review=review))
        keys = ["case", "subject", "rule"]
        before = set(self.flags[keys].itertuples(index=False, name=None))
        new = set(flags[keys].itertuples(index=False, name=None)) - before
        return verdict[case] != "accept" and any(row[0] == case for row in new)

    def faulty(self, per_case: int, seed: int) -> Iterator[tuple[str, str, int, np.ndarray]]:
        """Faults, one at a time: name, case, structure, label map."""
        rng = np.random.default_rng(seed)
        for name in (*FAULTS, NEXT_TO_LESION):
            for case, (image, labels) in self.cases.items():
                spacing = image.grid.spacing[::-1]
                values = rng.permutation(np.unique(labels[labels > 0]))
                for value in values[: 1 if name.startswith("flipped") else per_case].tolist():
                    fault = FAULTS.get(name)
                    if fault is None:
                        lesion = self.lesions.get(case)
                        if lesion is None:
                            lesion = lesion_at_surface(labels, value, spacing, rng)
                        fault = half_missing_at(lesion)
                    bad = fault(labels, value, spacing, rng)
                    if bad is not None:
                        yield name, case, value, bad

    def rates(self, per_case: int = 2, seed: int = 0) -> pd.DataFrame:
        """Each fault, whether it is gross and whether it is found."""
        rows = [
            (name, case, self.names[value], self.gross(case, value, bad), self.found(case, bad))
            for name, case, value, bad in self.faulty(per_case, seed)
        ]
        return pd.DataFrame(rows, columns=["fault", "case", "structure", "gross", "found"])

    def gross(self, case: str, value: int, bad: np.ndarray) -> bool:
        """Whether a fault makes of a structure what no patient has; see `gross`."""
        image, labels = self.cases[case]
        spacing = np.array(image.grid.spacing[::-1])
        return self.spreads[value].gross(case, labels == value, bad == value, spacing)

    @cached_property
    def spreads(self) -> dict[int, Spread]:
        """What the clean cases differ by, of each structure."""
        spacings = {case: np.array(im.grid.spacing[::-1]) for case, (im, _) in self.cases.items()}
        middles = {
            case: {
                value: middle(labels == value, spacings[case])
                for value in np.unique(labels[labels > 0]).tolist()
            }
            for case, (_, labels) in self.cases.items()
        }
        found = {}
        for value in range(1, len(self.names)):
            having = [case for case in self.cases if value in middles[case]]
            masks = {case: self.cases[case][1] == value for case in having}
            frames = {
                case: np.mean([at for v, at in middles[case].items() if v != value], axis=0)
                for case in masks
            }
            found[value] = Spread.of(masks, spacings, frames)
        return found

    def renamed(self, labels: np.ndarray, other: Mapping[str, str]) -> np.ndarray:
        """A label map in which structures have another one's id."""
        table = np.arange(len(self.names), dtype=np.uint8)
        for name, instead in other.items():
            if name in self.names:
                table[self.names.index(name)] = self.names.index(instead)
        return table[labels]

    def swapped(self, case: str) -> np.ndarray:
        """Left and right have each other's ids."""
        both = LEFT_RIGHT | {right: left for left, right in LEFT_RIGHT.items()}
        return self.renamed(self.cases[case][1], both)


def torso_bench(seeds: Sequence[int]) -> Bench:
    """Phantoms."""
    cases = {}
    for seed in seeds:
        image, labels, spacing = make_torso(seed)
        grid = Grid(labels.shape[::-1], spacing[::-1], (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
        cases[f"torso_{seed:02d}"] = (Volume(image, grid), labels)
    return Bench(cases, TORSO_NAMES)


@lru_cache(maxsize=1)
def torsos() -> Bench:
    """Twenty phantoms."""
    return torso_bench(range(20))


def head_and_neck(places: Sequence[Path]) -> Bench:
    """Head-and-neck CTs with organs and target volumes drawn by hand, a folder each."""
    cases = {
        at.name: (
            read_volume(at / "ct.nii.gz"),
            read_labels(at / "organs.nii.gz").array.astype(np.uint8),
        )
        for at in places
    }
    ptv = {at.name: read_labels(at / "ptv.nii.gz").array > 0 for at in places}
    return Bench(cases, OPENKBP_NAMES, ptv)


@lru_cache(maxsize=1)
def openkbp() -> Bench:
    """Twenty real head-and-neck CTs."""
    return head_and_neck(sorted((SHARED / "data" / "openkbp").glob("pt_*")))


def table(found: pd.DataFrame) -> str:
    """Found and gross faults by kind, and what was missed."""
    lines = [f"{'fault':32} {'all':>9} {'gross':>9}   missed (* gross)"]
    kinds = [*found.groupby("fault", sort=False), ("all", found)]
    for name, mine in kinds:
        shares = [f"{part['found'].sum()}/{len(part)}" for part in (mine, mine[mine["gross"]])]
        missed = mine[~mine["found"]]
        what = (missed["structure"] + missed["gross"].map({True: "*", False: ""})).value_counts()
        text = ", ".join(f"{structure} {count}" for structure, count in what.items())
        lines.append(f"{name:32} {shares[0]:>9} {shares[1]:>9}   {text if name != 'all' else ''}")
    return "\n".join(lines)

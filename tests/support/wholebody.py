"""Real whole-body label maps with injected faults: how early in the ranking the faults come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from backsplit.measure.table import measure
from backsplit.volume import Grid, read_labels
from support.faults import FAULTS, REAL_LIFE
from support.gross import Spread, middle

NAMES = (
    "background", "spleen", "kidneys", "liver", "urinary_bladder", "lungs", "brain", "heart",
    "stomach", "prostate", "head_glands",
)  # fmt: skip
LEVELS = (20, 55, 35, 60, 8, -800, 35, 45, 25, 40, 50)
"""HU of each of `NAMES`, to make an image of the labels."""

COARSE_MM = 4.0
KINDS = FAULTS | REAL_LIFE


@dataclass(frozen=True)
class Patient:
    """A label map, (z, y, x), cropped to what is labelled, and where it lies."""

    labels: np.ndarray
    grid: Grid
    field: tuple[float, float]
    seed: int

    def image(self) -> np.ndarray:
        """An intensity for each organ, other ones for each patient, and noise."""
        rng = np.random.default_rng(self.seed)
        levels = np.array(LEVELS) + rng.normal(0, 8, len(LEVELS))
        noise = rng.normal(0, 12, self.labels.shape)
        return np.asarray(levels[self.labels] + noise).astype(np.int16)

    def measured(self, case: str, labels: np.ndarray) -> pd.DataFrame:
        """Measures of a label map of the patient, and how far the image reaches."""
        table = measure(self.image(), labels, NAMES, self.grid).assign(source="labels")
        view = {"source": "image", "structure": "field_of_view", "voxels": labels.size}
        view |= {"box_z_min": self.field[0], "box_z_max": self.field[1], "touches_border": True}
        return pd.concat([table, pd.DataFrame([view])], ignore_index=True).assign(case=case)


def read_patient(path: Path, seed: int, coarse_mm: float = COARSE_MM) -> Patient:
    """Read a map at about 4 mm (0: as it is), cropped where nothing is labelled."""
    volume = read_labels(path)
    grid = volume.grid
    steps = [max(1, round(coarse_mm / side)) if coarse_mm else 1 for side in grid.spacing_zyx]
    array = volume.array[tuple(slice(None, None, step) for step in steps)].astype(np.uint8)
    box = []
    for axis in range(3):
        inside = np.flatnonzero(array.any(axis=tuple(a for a in range(3) if a != axis)))
        box.append(slice(max(0, int(inside[0]) - 6), int(inside[-1]) + 7))
    cropped = np.ascontiguousarray(array[tuple(box)])
    first = np.array([[s.start * step for s, step in zip(box, steps, strict=True)]])
    spacing = [float(side * step) for side, step in zip(grid.spacing_zyx, steps, strict=True)]
    z, y, x = cropped.shape
    ends = grid.to_mm(np.array([[-0.5, 0, 0], [volume.array.shape[0] - 0.5, 0, 0]]))[:, 2]
    smaller = Grid(
        (x, y, z), tuple(spacing[::-1]), tuple(grid.to_mm(first)[0].tolist()), grid.direction
    )
    return Patient(cropped, smaller, (float(ends.min()), float(ends.max())), seed)


def pool(folder: Path, cache: Path, seed: int = 0) -> pd.DataFrame:
    """Measures of every map as it came, and with each kind of fault; kept in a folder.

    Returns
    -------
    table
        measures with the columns kind ("" as it came) and gross
    """
    kept = cache / f"pool_{seed}.parquet"
    if kept.exists():
        return pd.read_parquet(kept)
    paths = sorted(folder.glob("*.nii.gz"))
    patients = {p.name.split(".")[0]: read_patient(p, i) for i, p in enumerate(paths)}
    rng = np.random.default_rng(seed)
    spreads = _spreads(patients, rng)
    tables = []
    for case, patient in patients.items():
        tables.append(patient.measured(case, patient.labels).assign(kind="", gross=False))
        spacing = patient.grid.spacing_zyx
        for kind, fault in KINDS.items():
            value = int(rng.choice(np.unique(patient.labels[patient.labels > 0])))
            bad = fault(patient.labels, value, spacing, rng)
            if bad is None or np.array_equal(bad, patient.labels):
                continue
            gross = _gross(patient, case, spreads[case], bad)
            tables.append(patient.measured(case, bad).assign(kind=kind, gross=gross))
        print(case, flush=True)
    table = pd.concat(tables, ignore_index=True)
    cache.mkdir(parents=True, exist_ok=True)
    table.to_parquet(kept)
    return table


def _spreads(patients, rng, size: int = 15) -> dict[str, dict[int, Spread]]:
    """What patients differ by, told from some others each."""
    found: dict[str, dict[int, Spread]] = {}
    cases = list(patients)
    rng.shuffle(cases)
    for at in range(0, len(cases), size):
        some = cases[at : at + size]
        spacings = {case: np.array(patients[case].grid.spacing_zyx) for case in some}
        middles = {
            case: {
                value: middle(patients[case].labels == value, spacings[case])
                for value in np.unique(patients[case].labels).tolist() if value
            }
            for case in some
        }  # fmt: skip
        for value in range(1, len(NAMES)):
            having = [case for case in some if value in middles[case]]
            if len(having) < 3:
                continue
            masks = {case: patients[case].labels == value for case in having}
            frames = {
                case: np.mean([m for v, m in middles[case].items() if v != value], axis=0)
                for case in having
            }
            spread = Spread.of(masks, spacings, frames)
            for case in having:
                found.setdefault(case, {})[value] = spread
    return found


def _gross(patient: Patient, case: str, spreads: dict[int, Spread], bad: np.ndarray) -> bool:
    """Whether any structure is as no patient has it."""
    spacing = np.array(patient.grid.spacing_zyx)
    changed = np.unique(patient.labels[bad != patient.labels]).tolist()
    return any(
        spreads[value].gross(case, patient.labels == value, bad == value, spacing)
        for value in changed if value and value in spreads
    )  # fmt: skip


@dataclass(frozen=True)
class Draw:
    """A cohort in which some cases have a fault: measures, and the kind and grossness of each."""

    measures: pd.DataFrame
    faulty: dict[str, tuple[str, bool]]


def draws(table: pd.DataFrame, count: int, share: float, seed: int) -> Iterator[Draw]:
    """Cohorts in which a share of the cases has a random fault each."""
    rng = np.random.default_rng(seed)
    parts = dict(iter(table.groupby(["case", "kind"], sort=False)))
    cases = list(dict.fromkeys(table["case"]))
    kinds = [kind for kind in dict.fromkeys(table["kind"]) if kind]
    for _ in range(count):
        faulty: dict[str, tuple[str, bool]] = {}
        for case in rng.permutation(cases).tolist():
            kind = str(rng.choice(kinds))
            if (case, kind) in parts:
                faulty[case] = (kind, bool(parts[case, kind]["gross"].iloc[0]))
            if len(faulty) == round(share * len(cases)):
                break
        chosen = [parts[case, faulty[case][0] if case in faulty else ""] for case in cases]
        yield Draw(pd.concat(chosen, ignore_index=True).drop(columns=["kind", "gross"]), faulty)


def by_volume(measures: pd.DataFrame) -> list[str]:
    """Cases by their largest z-score of a volume: what most quality control does."""
    rows = measures[(measures["source"] == "labels") & (measures["structure"] != "background")]
    volumes = np.log1p(rows.pivot(index="case", columns="structure", values="volume_ml"))
    z = ((volumes - volumes.mean()) / volumes.std()).abs().max(axis=1)
    return [str(case) for case in z.sort_values(ascending=False, kind="stable").index]


def by_forest(measures: pd.DataFrame) -> list[str]:
    """Cases by an isolation forest (Liu 2008) on all measures of all structures."""
    from sklearn.ensemble import IsolationForest

    rows = measures[(measures["source"] == "labels") & (measures["structure"] != "background")]
    skipped = ("case", "source", "structure")
    wide = rows.pivot(
        index="case", columns="structure", values=[c for c in rows.columns if c not in skipped]
    ).astype(float)
    filled = wide.fillna(wide.median()).dropna(axis=1)
    score = IsolationForest(n_estimators=300, random_state=0).fit(filled).score_samples(filled)
    return [str(case) for case in filled.index[np.argsort(score, kind="stable")]]


def summary(orders: Sequence[Sequence[str]], drawn: Sequence[Draw]) -> dict[str, float]:
    """Recall and precision among the first 5 and 10 %, area under the curve, means over draws."""
    rows = []
    for order, draw in zip(orders, drawn, strict=True):
        count = len(order)
        rank = {case: i for i, case in enumerate(order)}
        gross = [case for case, (_, g) in draw.faulty.items() if g]
        row = {}
        for share in (0.05, 0.1):
            first = set(order[: round(share * count)])
            name = f"{share:.0%}"
            row[f"gross in first {name}"] = np.mean([c in first for c in gross])
            row[f"all in first {name}"] = np.mean([c in first for c in draw.faulty])
            row[f"precision {name}"] = len(first & set(draw.faulty)) / len(first)
        for what, hit in (("gross", set(gross)), ("all", set(draw.faulty))):
            others = [rank[c] for c in order if c not in draw.faulty]
            mine = np.array([rank[c] for c in hit])
            row[f"AUC {what}"] = float((mine[:, None] < np.array(others)).mean())
        rows.append(row)
    return {k: float(v) for k, v in pd.DataFrame(rows).mean().items()}


def by_kind(orders: Sequence[Sequence[str]], drawn: Sequence[Draw]) -> pd.DataFrame:
    """Of each kind of fault: how many, how many gross, and what share of those comes early."""
    rows = []
    for order, draw in zip(orders, drawn, strict=True):
        rank = {case: i / len(order) for i, case in enumerate(order)}
        rows += [(kind, gross, rank[case] < 0.05, rank[case] < 0.1)
                 for case, (kind, gross) in draw.faulty.items()]  # fmt: skip
    table = pd.DataFrame(rows, columns=["kind", "gross", "first 5 %", "first 10 %"])
    gross = table[table["gross"]].groupby("kind")
    found = gross[["first 5 %", "first 10 %"]].mean()
    found.insert(0, "gross", gross.size())
    found.insert(0, "drawn", table.groupby("kind").size())
    return found

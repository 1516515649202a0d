"""Sums over the cases: structures, layers, who was overruled by whom, who agrees with whom."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from backsplit.cases.table import lesion_column
from backsplit.config.base import IGNORE
from backsplit.config.model import Config
from backsplit.config.quality import Severity
from backsplit.report.facts import (
    Agreement,
    CaseFacts,
    Distribution,
    Flag,
    LayerSum,
    Outlier,
    Overruled,
    Spread,
    StructureFacts,
    Unused,
)
from backsplit.report.pictures.key import Key
from backsplit.scheme.colours import as_hex
from backsplit.scheme.scheme import Scheme
from backsplit.store.sidecars import ComposeSidecar
from backsplit.volume import Array

OUTLIERS_MOST = 40
"""Flagged cases shown for a structure; more are a smear, and swell the page."""

SEVERITIES = (Severity.REJECT, Severity.REVIEW, Severity.WARN)
"""The worst first."""


def structures(
    scheme: Scheme,
    measures: pd.DataFrame,
    unknown: Mapping[str, int],
    columns: Collection[str] = (),
) -> tuple[StructureFacts, ...]:
    """Sum up each label of the scheme over the cases that hold it.

    Parameters
    ----------
    scheme : names and ids
    measures : of the label maps
    unknown : structure to the number of cases in which it is unknown
    columns : of the case table, which may have one of lesion files for each target
    """
    sources: dict[str, list[str]] = defaultdict(list)
    for segmenter, classes in scheme.sources.items():
        for name, structure in classes.items():
            sources[structure].append(f"{segmenter}/{name}")
    for target, values in scheme.targets.items():
        own = lesion_column(target)
        from_all = f"lesion: {', '.join(map(str, values))}"
        sources[target].append(own if own in columns else from_all)
    ids = scheme.ids
    key = Key.of(scheme.all_names, len(scheme.targets))
    held = dict(iter(measures[measures["voxels"] > 0].groupby("structure")))
    facts = []
    for name, number in ids.items():
        if number == 0 or (name == IGNORE and name not in held):
            continue
        rows = held.get(name, measures.iloc[:0])
        volume = rows["volume_ml"].to_numpy(dtype=float)
        facts.append(
            StructureFacts(
                id=number,
                name=name,
                kind=key.kind(number),
                colour=as_hex(key.colours[number]),
                sources=tuple(sources[name]),
                cases=len(rows),
                unknown=unknown.get(name, 0),
                volume_ml=(_median(volume), *_range(volume)),
                mean=_median(rows["mean"].to_numpy(dtype=float)),
                sd=_median(rows["sd"].to_numpy(dtype=float)),
            )
        )
    return tuple(facts)


def distributions(
    facts: Sequence[StructureFacts],
    measures: pd.DataFrame,
    flags: Sequence[Flag],
    cases: Mapping[str, CaseFacts],
    sources: Mapping[str, Mapping[str, str]],
) -> tuple[Distribution, ...]:
    """How volumes and intensities are spread over the cases, and which cases stand out.

    Parameters
    ----------
    facts : labels of the data set
    measures : of the label maps
    flags : all of them; those of a structure make a case stand out
    cases : by id
    sources : segmenter to {class: structure}; a flag about a class counts for its structure
    """
    structure_of = {
        f"{segmenter}/{name}": structure
        for segmenter, classes in sources.items()
        for name, structure in classes.items()
    }
    held = dict(iter(measures[measures["voxels"] > 0].groupby("structure")))
    against: dict[str, dict[str, list[Flag]]] = defaultdict(lambda: defaultdict(list))
    for flag in flags:
        if flag.case in cases and flag.severity in SEVERITIES:
            subject = structure_of.get(flag.subject, flag.subject)
            against[subject][flag.case].append(flag)
    found = []
    for structure in facts:
        rows = held.get(structure.name)
        if rows is None or structure.kind == "ignore":
            continue
        outliers = _outliers(rows, against[structure.name], cases)
        found.append(
            Distribution(
                name=structure.name,
                colour=structure.colour,
                cases=len(rows),
                volume_ml=_spread(rows["volume_ml"].to_numpy(float)),
                intensity=_spread(rows["p50"].to_numpy(float)),
                outliers=tuple(outliers[:OUTLIERS_MOST]),
                more=max(0, len(outliers) - OUTLIERS_MOST),
            )
        )
    return tuple(found)


def _outliers(
    rows: pd.DataFrame, against: Mapping[str, Sequence[Flag]], cases: Mapping[str, CaseFacts]
) -> list[Outlier]:
    """Cases with a flag about a structure that they hold, the worst first."""
    mine = rows[rows["case"].isin(list(against))]
    found = []
    for case, volume, level in zip(mine["case"], mine["volume_ml"], mine["p50"], strict=True):
        flags = sorted(against[case], key=lambda flag: SEVERITIES.index(flag.severity))
        words = "; ".join(flag.message for flag in flags)
        link = cases[case].link
        found.append(Outlier(case, link, flags[0].severity, float(volume), float(level), words))
    return sorted(found, key=lambda o: (SEVERITIES.index(o.severity), o.case))


def _spread(values: Array) -> Spread:
    return Spread(*(float(v) for v in np.percentile(values, [5, 25, 50, 75, 95])))


def agreement(table: pd.DataFrame, cases: Mapping[str, CaseFacts]) -> tuple[Agreement, ...]:
    """Sum up what two segmenters agree on, the least agreement first."""
    there = table[table["dice"].notna()]
    found = []
    for (structure, first, second), rows in there.groupby(["structure", "first", "second"]):
        worst = str(rows["case"].iloc[int(rows["dice"].argmin())])
        found.append(
            Agreement(
                structure=str(structure),
                first=str(first),
                second=str(second),
                cases=len(rows),
                dice=float(rows["dice"].median()),
                lowest_dice=float(rows["dice"].min()),
                surface_mm=float(rows["surface_mm"].median()),
                worst=worst,
                link=cases[worst].link,
            )
        )
    return tuple(sorted(found, key=lambda a: (a.dice, a.structure, a.first, a.second)))


def _median(values: Array) -> float:
    return float(np.median(values)) if values.size else float("nan")


def _range(values: Array) -> tuple[float, float]:
    if values.size == 0:
        return float("nan"), float("nan")
    return float(values.min()), float(values.max())


def layers(config: Config, composed: Mapping[str, ComposeSidecar]) -> tuple[LayerSum, ...]:
    """Sum the accounts of each layer, in order of precedence."""
    keys = ("claimed", "kept", "agreed", "overruled", "set_aside")
    sums = {layer: dict.fromkeys(keys, 0) for layer in ("targets", *config.layers)}
    for sidecar in composed.values():
        for account in sidecar.layers:
            if account.layer in sums:
                for key in keys:
                    sums[account.layer][key] += getattr(account, key)
    return tuple(LayerSum(layer, **counts) for layer, counts in sums.items())


def overruled(composed: Mapping[str, ComposeSidecar]) -> tuple[Overruled, ...]:
    """Sum over the cases who was overruled by whom, the largest first."""
    sums: dict[tuple[str, str, str, str], list[float]] = defaultdict(lambda: [0, 0.0, 0])
    for sidecar in composed.values():
        for entry in sidecar.overruled:
            key = (entry.loser_layer, entry.loser, entry.winner_layer, entry.winner)
            total = sums[key]
            total[0] += entry.voxels
            total[1] += entry.voxels * sidecar.voxel_ml
            total[2] += 1
    found = [Overruled(*key, int(v), ml, int(n)) for key, (v, ml, n) in sums.items()]
    return tuple(sorted(found, key=lambda o: (-o.volume_ml, o.loser, o.winner)))


def unused(composed: Mapping[str, ComposeSidecar]) -> tuple[Unused, ...]:
    """Sum over the cases what the segmenters found that no structure takes."""
    sums: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for sidecar in composed.values():
        for segmenter, classes in sidecar.classes_without_structure.items():
            for name, voxels in classes.items():
                sums[segmenter, name][0] += voxels
                sums[segmenter, name][1] += 1
    found = [Unused(*key, voxels, cases) for key, (voxels, cases) in sums.items()]
    return tuple(sorted(found, key=lambda u: (u.segmenter, -u.voxels, u.name)))

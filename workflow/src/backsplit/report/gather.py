"""Read what the stages left on the disk; whatever is not there yet counts as nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from backsplit import __version__
from backsplit.cases import STATUS_COLUMNS, read_tsv
from backsplit.config import Config
from backsplit.config_file import dump_config
from backsplit.export.nnunet import FILE_ENDING, NnUNetDataset, dataset_folder
from backsplit.provenance import read_json, versions
from backsplit.qc.judge import ACCEPT, FLAG_COLUMNS, REJECT, REVIEW, VERDICT_COLUMNS
from backsplit.report.colours import as_hex, label_colours
from backsplit.report.facts import (
    NOT_JUDGED,
    CaseFacts,
    Flag,
    LayerSum,
    LesionFacts,
    Overruled,
    Provenance,
    ReportFacts,
    StructureFacts,
    Unused,
    WeightFile,
)
from backsplit.scheme import Scheme

MEASURE_COLUMNS = ["case", "source", "structure", "voxels", "volume_ml", "mean", "sd"]
ORDER = {REJECT: 0, REVIEW: 1, NOT_JUDGED: 2, ACCEPT: 3}
Sidecars = Mapping[str, Mapping[str, Any]]
"""Case id to its sidecar."""


def gather(config: Config, scheme: Scheme) -> ReportFacts:
    """Gather everything that the report says."""
    results = config.run.results
    table = _table(results / "cases.tsv", list(STATUS_COLUMNS))
    ready = [str(case) for case in table[table["status"] == "ok"]["case"]]
    measures = _measures(results / "qc" / "measures.parquet", ready)
    flags = _flags(results / "qc" / "flags.tsv")
    composed = _sidecars(results / "labels", ready)
    exported = _exported(config)
    cases = _cases(table, results, scheme, measures, flags, composed, exported or frozenset())
    return ReportFacts(
        name=config.dataset.name,
        dataset_id=config.dataset.id,
        cases=tuple(sorted(cases, key=_burden)),
        structures=_structures(scheme, measures),
        lesions=_lesions(results / "qc" / "lesions.parquet", ready),
        layers=_layers(config, composed),
        overruled=_overruled(composed),
        unused=_unused(composed),
        flags=tuple(flag for flag in flags if not flag.case),
        was_exported=exported is not None,
        provenance=_provenance(config, ready),
    )


def _burden(case: CaseFacts) -> tuple[int, int, float]:
    """Order on the page: what is not accepted and has most against it first, then by lesions."""
    return ORDER.get(case.verdict, 2), -case.weight, -case.lesion_ml


def _table(path: Path, columns: list[str]) -> pd.DataFrame:
    """Read a table of ours; an empty one where it is not there or has nothing in it."""
    try:
        return read_tsv(path)
    except (FileNotFoundError, pd.errors.EmptyDataError):
        return pd.DataFrame(columns=columns, dtype=str)


def _measures(path: Path, ready: Sequence[str]) -> pd.DataFrame:
    """Measures of the label maps of the cases that the table still has."""
    if not path.exists():
        return pd.DataFrame(columns=MEASURE_COLUMNS)
    measures = pd.read_parquet(path)
    return measures[(measures["source"] == "labels") & measures["case"].isin(ready)]


def _lesions(path: Path, ready: Sequence[str]) -> tuple[LesionFacts, ...]:
    """Lesions of the cases that the table still has, the largest first."""
    if not path.exists():
        return ()
    table = pd.read_parquet(path)
    table = table[table["case"].isin(ready)].sort_values("volume_ml", ascending=False)
    return tuple(
        LesionFacts(
            case=str(row["case"]),
            instance=int(row["instance"]),
            target=str(row["target"]),
            volume_ml=float(row["volume_ml"]),
            max_diameter_mm=float(row["max_diameter_mm"]),
            host=row["host"] if isinstance(row["host"], str) else "",
            inside_fraction=float(row["inside_fraction"]),
            contrast=float(row["contrast"]),
            touches_border=bool(row["touches_border"]),
        )
        for row in table.to_dict("records")
    )


def _flags(path: Path) -> list[Flag]:
    table = _table(path, FLAG_COLUMNS)
    return [Flag(*(str(cell) for cell in row)) for row in table[FLAG_COLUMNS].to_numpy()]


def _sidecars(folder: Path, cases: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Sidecars by case. Only ids that `check` let pass are made into paths."""
    found: dict[str, Mapping[str, Any]] = {}
    for case in cases:
        try:
            found[case] = read_json(folder / f"{case}.json")
        except (OSError, ValueError):
            continue  # not made yet; the case's flags say why
    return found


def _exported(config: Config) -> frozenset[str] | None:
    """Cases in the nnU-Net data set; None where it is not (wholly) written."""
    dataset = NnUNetDataset(dataset_folder(config))
    if not dataset.json.exists():
        return None
    files = (dataset.folder / "labelsTr").glob(f"*{FILE_ENDING}")
    return frozenset(path.name.removesuffix(FILE_ENDING) for path in files)


def _cases(
    table: pd.DataFrame,
    results: Path,
    scheme: Scheme,
    measures: pd.DataFrame,
    flags: Sequence[Flag],
    composed: Sidecars,
    exported: frozenset[str],
) -> Iterator[CaseFacts]:
    """Give each row of the table its facts; a refused row has none but its reason."""
    judged = _table(results / "qc" / "verdicts.tsv", VERDICT_COLUMNS)
    verdicts = {str(row["case"]): row for row in judged.to_dict("records")}
    volumes = _volumes(measures)
    flagged: dict[str, list[Flag]] = defaultdict(list)
    for flag in flags:
        flagged[flag.case].append(flag)
    for row in table.to_dict("records"):
        case, refused = str(row["case"]), row["status"] != "ok"
        mine = flagged[case]
        verdict = verdicts.get(case, {})
        sidecar = {} if refused else composed.get(case, {})
        measured = {} if refused else volumes.get(case, {})
        picture = results / "qc" / "cases" / f"{case}.png"
        yield CaseFacts(
            id=case,
            status=str(row["status"]),
            code=str(row["code"]),
            message=str(row["message"]),
            verdict=REJECT if refused else str(verdict.get("verdict", NOT_JUDGED)),
            decided=verdict.get("by") == "person",
            note=str(verdict.get("note", "")),
            # `check` speaks for itself in code and message
            flags=() if refused else tuple(f for f in mine if f.rule != "absent"),
            absent=() if refused else tuple(f.subject for f in mine if f.rule == "absent"),
            columns={str(k): str(v) for k, v in row.items() if k not in STATUS_COLUMNS},
            volumes=measured,
            targets_ml={name: measured[name] for name in scheme.targets if name in measured},
            overruled_voxels=_sum_overruled(sidecar),
            ignored_voxels=sidecar.get("ignored_voxels"),
            failed_segmenters=sidecar.get("failed_segmenters", {}),
            exported=not refused and case in exported,
            picture=picture if not refused and picture.exists() else None,
        )


def _volumes(measures: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Case to structure to volume, ml, without background."""
    volumes: dict[str, dict[str, float]] = defaultdict(dict)
    inside = measures[measures["structure"] != "background"]
    rows = zip(inside["case"], inside["structure"], inside["volume_ml"], strict=True)
    for case, structure, volume in rows:
        volumes[str(case)][str(structure)] = float(volume)
    return volumes


def _sum_overruled(sidecar: Mapping[str, Any]) -> int | None:
    if "overruled" not in sidecar:
        return None
    return sum(int(entry["voxels"]) for entry in sidecar["overruled"])


def _structures(scheme: Scheme, measures: pd.DataFrame) -> tuple[StructureFacts, ...]:
    """Sum up each label of the scheme over the cases that hold it."""
    sources: dict[str, list[str]] = defaultdict(list)
    for segmenter, classes in scheme.sources.items():
        for name, structure in classes.items():
            sources[structure].append(f"{segmenter}/{name}")
    for target, value in scheme.targets.items():
        sources[target].append(f"lesion file, value {value}")
    ids = scheme.ids
    colours = label_colours(len(ids), len(scheme.targets), has_ignore=True)
    held = dict(iter(measures[measures["voxels"] > 0].groupby("structure")))
    facts = []
    for name, number in ids.items():
        if number == 0 or (name == "ignore" and name not in held):
            continue
        rows = held.get(name, measures.iloc[:0])
        volume = rows["volume_ml"].to_numpy(dtype=float)
        facts.append(
            StructureFacts(
                id=number,
                name=name,
                kind=_kind(name, scheme),
                colour=as_hex(colours[number]),
                sources=tuple(sources[name]),
                cases=len(rows),
                volume_ml=(_median(volume), *_range(volume)),
                mean=_median(rows["mean"].to_numpy(dtype=float)),
                sd=_median(rows["sd"].to_numpy(dtype=float)),
            )
        )
    return tuple(facts)


def _kind(name: str, scheme: Scheme) -> str:
    return "ignore" if name == "ignore" else "target" if name in scheme.targets else "structure"


def _median(values: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    return float(np.median(values)) if values.size else float("nan")


def _range(values: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[float, float]:
    if values.size == 0:
        return float("nan"), float("nan")
    return float(values.min()), float(values.max())


def _layers(config: Config, composed: Sidecars) -> tuple[LayerSum, ...]:
    """Sum the accounts of each layer, in order of precedence."""
    keys = ("claimed", "kept", "agreed", "overruled")
    sums = {layer: dict.fromkeys(keys, 0) for layer in ("targets", *config.layers)}
    for sidecar in composed.values():
        for account in sidecar.get("layers", []):
            if account["layer"] in sums:
                for key in keys:
                    sums[account["layer"]][key] += int(account[key])
    return tuple(LayerSum(layer, **counts) for layer, counts in sums.items())


def _overruled(composed: Sidecars) -> tuple[Overruled, ...]:
    """Sum over the cases who was overruled by whom, the largest first."""
    sums: dict[tuple[str, str, str, str], list[float]] = defaultdict(lambda: [0, 0.0, 0])
    for sidecar in composed.values():
        for entry in sidecar.get("overruled", []):
            key = (entry["loser_layer"], entry["loser"], entry["winner_layer"], entry["winner"])
            total = sums[key]
            total[0] += int(entry["voxels"])
            total[1] += int(entry["voxels"]) * float(sidecar["voxel_ml"])
            total[2] += 1
    found = [Overruled(*key, int(v), ml, int(n)) for key, (v, ml, n) in sums.items()]
    return tuple(sorted(found, key=lambda o: (-o.volume_ml, o.loser, o.winner)))


def _unused(composed: Sidecars) -> tuple[Unused, ...]:
    """Sum over the cases what the segmenters found that no structure takes."""
    sums: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for sidecar in composed.values():
        for segmenter, classes in sidecar.get("classes_without_structure", {}).items():
            for name, voxels in classes.items():
                sums[segmenter, name][0] += int(voxels)
                sums[segmenter, name][1] += 1
    found = [Unused(*key, voxels, cases) for key, (voxels, cases) in sums.items()]
    return tuple(sorted(found, key=lambda u: (u.segmenter, -u.voxels, u.name)))


def _provenance(config: Config, ready: Sequence[str]) -> Provenance:
    """Versions and weights as the sidecars of the segmenters name them."""
    used: dict[tuple[str, str, str], int] = defaultdict(int)
    weights: dict[tuple[str, str, str], int] = defaultdict(int)
    for segmenter in config.used_segmenters:
        folder = config.run.results / "segment" / segmenter
        for sidecar in _sidecars(folder, ready).values():
            made_from = sidecar.get("made_from", {})
            for package, version in made_from.get("versions", {}).items():
                used[segmenter, package, version] += 1
            for file, sha256 in made_from.get("weights", {}).items():
                weights[segmenter, file, sha256] += 1
    packages = ("numpy", "SimpleITK", "nibabel", "connected-components-3d", "matplotlib", "pandas")
    return Provenance(
        made_with={"backsplit": __version__, **versions(*packages)},
        segmenters=tuple((*key, cases) for key, cases in sorted(used.items())),
        weights=tuple(WeightFile(*key, cases) for key, cases in sorted(weights.items())),
        config=dump_config(config),
    )

"""Read what the stages left on the disk; whatever is not there yet counts as nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from backsplit import __version__
from backsplit.config.file import dump_config
from backsplit.config.model import Config
from backsplit.export.files import FILE_ENDING
from backsplit.export.nnunet import NnUNetDataset, dataset_folder
from backsplit.judge.verdicts import ACCEPT, REJECT, REVIEW, VERDICT_COLUMNS
from backsplit.report import sums
from backsplit.report.facts import (
    NOT_JUDGED,
    CaseFacts,
    Flag,
    Provenance,
    ReportFacts,
    WeightFile,
)
from backsplit.report.read import (
    PAGES,
    Sidecars,
    read_agreement,
    read_flags,
    read_lesions,
    read_measures,
    read_pages,
    read_sidecars,
    read_text_table,
    read_unknown,
)
from backsplit.scheme.scheme import Scheme
from backsplit.store.provenance import versions
from backsplit.store.tsv import STATUS_COLUMNS

ORDER = {REJECT: 0, REVIEW: 1, NOT_JUDGED: 2, ACCEPT: 3}


def gather(config: Config, scheme: Scheme) -> ReportFacts:
    """Gather everything that the report says."""
    results = config.run.results
    table = read_text_table(results / "cases.tsv", STATUS_COLUMNS)
    ready = ready_cases(table)
    measures = read_measures(results, ready)
    measures = measures[measures["source"] == "labels"]
    flags = read_flags(results)
    composed = read_sidecars(results / "labels", ready)
    exported = _exported(config)
    cases = gather_cases(results, scheme, table, measures, flags, composed, exported or frozenset())
    by_id = {case.id: case for case in cases if case.status == "ok"}
    structures = sums.structures(scheme, measures, read_unknown(results, ready))
    return ReportFacts(
        name=config.dataset.name,
        dataset_id=config.dataset.id,
        cases=tuple(sorted(cases, key=_burden)),
        structures=structures,
        distributions=sums.distributions(structures, measures, flags, by_id, scheme.sources),
        agreement=sums.agreement(read_agreement(results, ready), by_id),
        lesions=read_lesions(results, ready),
        layers=sums.layers(config, composed),
        overruled=sums.overruled(composed),
        unused=sums.unused(composed),
        flags=tuple(flag for flag in flags if not flag.case),
        was_exported=exported is not None,
        provenance=_provenance(config, ready),
    )


def ready_cases(table: pd.DataFrame) -> list[str]:
    """Ids that `check` let pass: only these are ever made into paths."""
    return [str(case) for case in table[table["status"] == "ok"]["case"]]


def _burden(case: CaseFacts) -> tuple[int, int, float]:
    """Order on the page: what is not accepted and has most against it first, then by lesions."""
    return ORDER.get(case.verdict, 2), -case.weight, -case.lesion_ml


def _exported(config: Config) -> frozenset[str] | None:
    """Cases in the nnU-Net data set; None where it is not (wholly) written."""
    dataset = NnUNetDataset(dataset_folder(config))
    if not dataset.json.exists():
        return None
    files = (dataset.folder / "labelsTr").glob(f"*{FILE_ENDING}")
    return frozenset(path.name.removesuffix(FILE_ENDING) for path in files)


def gather_cases(
    results: Path,
    scheme: Scheme,
    table: pd.DataFrame,
    measures: pd.DataFrame,
    flags: Sequence[Flag],
    composed: Sidecars,
    exported: frozenset[str],
) -> list[CaseFacts]:
    """Give each row of the table its facts; a refused row has none but its reason.

    Parameters
    ----------
    results : folder of all outputs
    scheme : names and ids
    table : `cases.tsv`
    measures : of the label maps
    flags : all of them
    composed : sidecars of the label maps
    exported : cases of the exported data set
    """
    judged = read_text_table(results / "qc" / "verdicts.tsv", VERDICT_COLUMNS)
    verdicts = {str(row["case"]): row for row in judged.to_dict("records")}
    volumes = _volumes(measures)
    flagged: dict[str, list[Flag]] = defaultdict(list)
    for flag in flags:
        flagged[flag.case].append(flag)
    pages = read_pages(results)
    found = []
    for row in table.to_dict("records"):
        case, refused = str(row["case"]), row["status"] != "ok"
        mine = flagged[case]
        verdict = verdicts.get(case, {})
        sidecar = {} if refused else composed.get(case, {})
        measured = {} if refused else volumes.get(case, {})
        picture = results / "qc" / "cases" / f"{case}.png"
        page, problem = ("", "") if refused else pages.get(case, ("", ""))
        facts = CaseFacts(
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
            page=f"{PAGES.name}/{case}.html" if page == "done" else "",
            page_problem=problem if page == "failed" else "",
        )
        found.append(facts)
    return found


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


def _provenance(config: Config, ready: Sequence[str]) -> Provenance:
    """Versions and weights as the sidecars of the segmenters name them."""
    used: dict[tuple[str, str, str], int] = defaultdict(int)
    weights: dict[tuple[str, str, str], int] = defaultdict(int)
    for segmenter in config.used_segmenters:
        folder = config.run.results / "segment" / segmenter
        for sidecar in read_sidecars(folder, ready).values():
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

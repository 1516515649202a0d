"""Read what the stages left on the disk; whatever is not there yet counts as nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import pandas as pd

from backsplit import __version__
from backsplit.config.file import dump_config
from backsplit.config.model import Config
from backsplit.export.nnunet import NnUNetDataset, dataset_folder
from backsplit.judge.verdicts import VERDICT_COLUMNS, Verdict
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
from backsplit.store.results import Results
from backsplit.store.sidecars import ComposeSidecar, SegmentSidecar
from backsplit.store.status import STATUS_COLUMNS, Status

ORDER = {Verdict.REJECT: 0, Verdict.REVIEW: 1, NOT_JUDGED: 2, Verdict.ACCEPT: 3}


def gather(config: Config, scheme: Scheme) -> ReportFacts:
    """Gather everything that the report says."""
    results = config.results
    table = read_text_table(results.cases, STATUS_COLUMNS)
    ready = ready_cases(table)
    measures = read_measures(results, ready)
    measures = measures[measures["source"] == "labels"]
    flags = read_flags(results)
    composed = read_sidecars(results.labels, ready, ComposeSidecar)
    exported = _exported(config)
    cases = gather_cases(results, scheme, table, measures, flags, composed, exported or frozenset())
    by_id = {case.id: case for case in cases if case.status is Status.OK}
    unknown = read_unknown(results, ready)
    structures = sums.structures(scheme, measures, unknown, table.columns)
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
    return [str(case) for case in table[table["status"] == Status.OK]["case"]]


def _burden(case: CaseFacts) -> tuple[int, int, int, float]:
    """Order on the page: what is not accepted and ranks first, then by lesions."""
    return ORDER.get(case.verdict, 2), case.rank, -case.weight, -case.lesion_ml


def _exported(config: Config) -> frozenset[str] | None:
    """Cases in the nnU-Net data set; None where it is not (wholly) written."""
    dataset = NnUNetDataset(dataset_folder(config))
    if not dataset.json.exists():
        return None
    return frozenset(dataset.cases())


def gather_cases(
    results: Results,
    scheme: Scheme,
    table: pd.DataFrame,
    measures: pd.DataFrame,
    flags: Sequence[Flag],
    composed: Mapping[str, ComposeSidecar],
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
    judged = read_text_table(results.verdicts, VERDICT_COLUMNS)
    verdicts = {str(row["case"]): row for row in judged.to_dict("records")}
    volumes = _volumes(measures)
    flagged: dict[str, list[Flag]] = defaultdict(list)
    for flag in flags:
        flagged[flag.case].append(flag)
    pages = read_pages(results)
    found = []
    for row in table.to_dict("records"):
        case, refused = str(row["case"]), row["status"] != Status.OK
        mine = flagged[case]
        verdict = verdicts.get(case, {})
        sidecar = None if refused else composed.get(case)
        measured = {} if refused else volumes.get(case, {})
        picture = results.picture(case)
        page = None if refused else pages.get(case)
        facts = CaseFacts(
            id=case,
            status=Status(row["status"]),
            code=str(row["code"]),
            message=str(row["message"]),
            verdict=Verdict.REJECT if refused else str(verdict.get("verdict", NOT_JUDGED)),
            decided=verdict.get("by") == "person",
            note=str(verdict.get("note", "")),
            # `check` speaks for itself in code and message
            flags=() if refused else tuple(f for f in mine if f.rule != "absent"),
            absent=() if refused else tuple(f.subject for f in mine if f.rule == "absent"),
            columns={str(k): str(v) for k, v in row.items() if k not in STATUS_COLUMNS},
            volumes=measured,
            targets_ml={name: measured[name] for name in scheme.targets if name in measured},
            overruled_voxels=None if sidecar is None else sidecar.overruled_voxels,
            ignored_voxels=None if sidecar is None else sidecar.ignored_voxels,
            failed_segmenters=sidecar.failed_segmenters if sidecar else {},
            exported=not refused and case in exported,
            picture=picture if not refused and picture.exists() else None,
            page=_link(results, case) if page and page.status is Status.DONE else "",
            page_problem=page.message if page and page.status is Status.FAILED else "",
            rank=int(verdict.get("rank") or 0),
            score=float(verdict.get("score") or 0),
            reason=str(verdict.get("reason") or ""),
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


def _link(results: Results, case: str) -> str:
    """Where a case's page lies, from the report."""
    return results.pages.output(case).relative_to(results.report.parent).as_posix()


def _provenance(config: Config, ready: Sequence[str]) -> Provenance:
    """Versions and weights as the sidecars of the segmenters name them."""
    used: dict[tuple[str, str, str], int] = defaultdict(int)
    weights: dict[tuple[str, str, str], int] = defaultdict(int)
    for segmenter in config.used_segmenters:
        folder = config.results.segment(segmenter)
        for sidecar in read_sidecars(folder, ready, SegmentSidecar).values():
            for package, version in sidecar.made_from.versions.items():
                used[segmenter, package, version] += 1
            for file, sha256 in sidecar.made_from.weights.items():
                weights[segmenter, file, sha256] += 1
    packages = ("numpy", "SimpleITK", "nibabel", "connected-components-3d", "matplotlib", "pandas")
    return Provenance(
        made_with={"backsplit": __version__, **versions(*packages)},
        segmenters=tuple((*key, cases) for key, cases in sorted(used.items())),
        weights=tuple(WeightFile(*key, cases) for key, cases in sorted(weights.items())),
        config=dump_config(config),
    )

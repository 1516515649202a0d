"""What is known of each structure of a project, before and after its study."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pandas as pd

from backsplit.flow.project import Project
from backsplit.flow.study import StudyProject
from backsplit.judge.verdicts import FLAG_COLUMNS
from backsplit.segment.device import choose_device
from backsplit.store.provenance import read_json
from backsplit.store.results import VOLUME_ENDING
from backsplit.store.tsv import read_tsv, write_tsv
from backsplit.study.advise import RANKED, Tables, advice_text, advise_on, information_lines
from backsplit.study.evidence import Evidence, differs_by_structures, evidence, gains
from backsplit.study.evidence import evidence_lines as lines_of
from backsplit.study.jobs import Job
from backsplit.study.surroundings import Surroundings, by_structure, surroundings
from backsplit.study.theory import Split, Total, information
from backsplit.volume import read_labels, require_same_grid
from backsplit.work.progress import Say

CASES, VOXELS = 12, 4000
"""Cases, of those that it was not trained on, that a network's information is told from, and voxels
of each."""
THREADS = 2


def advise(project: Project, say: Say) -> str:
    """Tell what is known of each structure; writes the tables to `study/advice`.

    Parameters
    ----------
    project : its stages and its study may be done in part, or not at all
    say : prints a line where people read it

    Returns
    -------
    text
        For a person.
    """
    study = StudyProject(project) if project.config.study is not None else None
    totals, splits = _information(study, say)
    around = by_structure(_surroundings(project, study, say))
    status = _parquet(project.results.structure_status, ("case", "structure", "status"))
    measures = _parquet(
        project.results.quality("measures"), ("case", "source", "structure", "volume_ml")
    )
    flags = project.results.flags
    flagged = read_tsv(flags) if flags.exists() else pd.DataFrame(columns=FLAG_COLUMNS)
    tables = Tables(measures, status, flagged, around, splits)
    advice = advise_on(project.scheme.structures, tables)
    found = _evidence(study, advice)
    folder = project.results.study
    for name, table in (
        ("structures", advice),
        ("surroundings", around),
        ("information", totals),
        ("splits", splits),
        ("evidence", pd.DataFrame(found)),
    ):
        write_tsv(table, folder.advice(name))
    return advice_text(advice, [*information_lines(totals), *lines_of(found)])


def _surroundings(project: Project, study: StudyProject | None, say: Say) -> list[Surroundings]:
    """Of each case that has a label map; false alarms where the reference arm has predicted it."""
    maps = {case: project.results.labels.output(case) for case in project.table.ids}
    maps = {case: path for case, path in maps.items() if path.exists()}
    predicted = {} if study is None else _predictions(study)
    say(f"[backsplit] advise: {len(maps)} label maps, {len(maps.keys() & predicted)} predictions")
    one: Callable[[str], list[Surroundings]] = partial(
        _of_case,
        maps=maps,
        predictions=predicted,
        names=project.scheme.all_names,
        targets=len(project.config.targets),
    )
    with ThreadPoolExecutor(THREADS) as pool:
        return [row for rows in pool.map(one, maps) for row in rows]


def _of_case(
    case: str,
    maps: Mapping[str, Path],
    predictions: Mapping[str, Path],
    names: Sequence[str],
    targets: int,
) -> list[Surroundings]:
    labels = read_labels(maps[case])
    made = None
    if case in predictions:
        prediction = read_labels(predictions[case])
        require_same_grid(str(predictions[case]), prediction.grid, labels.grid, "its label map")
        made = prediction.array
    return surroundings(case, labels.array, made, labels.grid, names, targets)


def _predictions(study: StudyProject) -> dict[str, Path]:
    """Case to what the reference arm's first seed predicts, in the fold that validates it."""
    decision = str(study.study.decisions[0])
    found = {}
    for job in study.jobs:
        notes = study.notes(job)
        if job.arm.name == study.reference and job.seed == 0 and notes.predicted.exists():
            folder = notes.predictions_by(decision)
            found.update({path.name.removesuffix(VOLUME_ENDING): path for path in folder.iterdir()})
    return found


def _information(study: StudyProject | None, say: Say) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Of the trained network with the most structures, on cases that it has not seen."""
    job = None if study is None else _richest(study)
    if study is None or job is None:
        return (
            pd.DataFrame(columns=list(Total.__dataclass_fields__)),
            pd.DataFrame(columns=list(Split.__dataclass_fields__)),
        )
    from backsplit.segment.network import Model, load
    from backsplit.segment.nnunet_engine import Engine
    from backsplit.segment.timing import Timings
    from backsplit.segment.weights import trust_own
    from backsplit.study.features import joined, observe
    from backsplit.train.nnunet import let_find_ours

    trained = study.network(job)
    described = read_json(trained.model / "dataset.json")
    names = sorted(described["labels"], key=described["labels"].get)[: trained.classes]
    config = study.project.config
    trust_own(trained.sha256)
    let_find_ours()
    device = choose_device(config.run.device)
    network = load(Model(trained.model, (trained.fold,), device=device, mirroring=False))
    engine = Engine([network], list(config.dataset.channels), Timings(), config.run)
    cases = study.cases(job)[:CASES]
    say(f"[backsplit] advise: information of {job.name} on {len(cases)} cases")
    parts = [
        observe(network, engine.prepare(case).prepared.data, VOXELS, seed)
        for seed, case in enumerate(cases)
    ]
    return information(joined(parts), names, len(described["targets"]))


def _richest(study: StudyProject) -> Job | None:
    """The first trained job of the arm with the most structures: a plain one before others."""
    jobs = [
        job
        for job in study.jobs
        if job.arm.structures
        and job.arm.noise is None
        and job.arm.control is None
        and study.notes(job).trained.exists()
    ]
    return max(
        jobs,
        key=lambda job: (differs_by_structures(job.arm), len(job.arm.structures)),
        default=None,
    )


def _evidence(study: StudyProject | None, advice: pd.DataFrame) -> list[Evidence]:
    """What the arms say of the score and of each column that it is made of."""
    if study is None or not study.folder.table("scores").exists():
        return []
    scores = pd.read_parquet(study.folder.table("scores"))
    columns = ["score", *RANKED, "volume_ml"]
    return [
        each
        for how, measured in gains(scores, study.arms, study.reference).items()
        for each in evidence(advice, measured, how, columns)
    ]


def _parquet(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """A table of the stages; empty where it is not there yet."""
    if not path.exists():
        return pd.DataFrame(columns=list(columns))
    return pd.read_parquet(path, columns=list(columns))

"""`backsplit init`: look at a folder, write a case table and a configuration."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from backsplit.config.file import load_config
from backsplit.config.lesion_words import is_lesion
from backsplit.config.segmenters import NnUNet, TotalSegmentator
from backsplit.errors import Code, RunError
from backsplit.start.found import Found
from backsplit.start.layouts import LAYOUTS, find_by_layout
from backsplit.start.left_out import left_out
from backsplit.start.look import drawn_on, masks_among, with_values
from backsplit.start.models import Model
from backsplit.start.names import (
    case_ids,
    counted,
    few,
    is_anatomy_name,
    lesions_and_anatomy,
    name_of,
)
from backsplit.start.patterns import Patterns, find_by_patterns
from backsplit.start.presets import Preset, Protocol, doubts, preset_text
from backsplit.start.proposal import Summary, Where, config_text, propose, render
from backsplit.start.readers.files import FOLDS_KEPT
from backsplit.start.readers.known import patient_in, patient_pattern
from backsplit.start.region import view_of
from backsplit.start.split import needs_split, split_volumes
from backsplit.start.suggest import suggestion
from backsplit.start.tables import write_table
from backsplit.store.disk import atomic_path

PATIENTS = (
    "which patient each case belongs to is not known: if a patient has several, add a column "
    "`patient`, or run init again with --patient and a regular expression for the patient's part "
    "of a case's name"
)

FIRST_ID = 501
"""nnU-Net keeps the ids below for the Decathlon and for its own."""

FOLDS = 5
"""Of cross-validation (`export.folds`)."""

TABLE, CONFIG, RESULTS, NOTES = "cases.tsv", "config.yaml", "results", "README.md"
TRAINED = "trained"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Wanted:
    """What a person asks for beside the folder.

    Attributes
    ----------
    layouts : some of `LAYOUTS`; the first that fits is taken
    patterns : of files, for a folder of no known layout
    patient : regular expression that gives a case's patient
    drawn : RTSTRUCT or SEG, where a case has both
    split : whether 4D images may be split into files of one volume
    """

    layouts: Sequence[str] = tuple(LAYOUTS)
    patterns: Patterns | None = None
    patient: str = ""
    drawn: str | None = None
    split: bool = False


@dataclass(frozen=True)
class Target:
    """Where the files go, and what the data set is called.

    Attributes
    ----------
    into : folder for the files
    name, number : of the data set; an empty name, or 0, is chosen
    preset : the configuration to write instead of a proposal
    study : whether that is the paper's protocol, of a data set that the paper used
    models : segmenter to a trained model, for a proposal
    command : what a person typed, for a person
    """

    into: Path
    name: str = ""
    number: int = 0
    preset: Preset | None = None
    study: bool = False
    models: Mapping[str, Model] = field(default_factory=dict)
    command: str = ""

    @property
    def sources(self) -> Sequence[str]:
        """Sources of anatomy that have a configuration each; the main one is empty."""
        further = self.preset.sources if self.preset is not None and self.study else None
        return ["", *(further or [])]

    def config(self, source: str = "") -> Path:
        """The configuration of a source."""
        return self.into / (f"config-{source}.yaml" if source else CONFIG)


def find(root: Path, wanted: Wanted) -> Found:
    """Find the cases of a folder.

    Raises
    ------
    RunError
        LAYOUT_UNKNOWN when nothing fits, or no case is found.
    """
    if not root.is_dir():
        raise RunError(Code.LAYOUT_UNKNOWN, f"{root} is not a folder", "give the data set's folder")
    if wanted.patterns is not None:
        found: Found | None = find_by_patterns(root, wanted.patterns)
    else:
        inside = find_by_layout(root, wanted.layouts, wanted.drawn)
        found = None if inside is None else inside[0]
        if inside is not None and inside[1] != root and found is not None:
            found = replace(found, notes=[f"the data set is in {inside[1].name}", *found.notes])
    if found is None or not found.cases:
        looked = "--image patterns" if wanted.patterns else ", ".join(wanted.layouts)
        raise RunError(
            Code.LAYOUT_UNKNOWN,
            f"no case was found in {root} (looked for: {looked})",
            "give the folder that holds the cases, or name the files by patterns: "
            f"{suggestion(root)}",
        )
    return _with_patients(found, wanted.patient)


def _with_patients(found: Found, pattern: str) -> Found:
    """Patients by a regular expression, and what is odd about patients."""
    decide = list(found.decide)
    if not (pattern or found.patients_known or any(case.patient for case in found.cases)):
        pattern = patient_pattern([case.id for case in found.cases])
    if pattern:
        try:
            re.compile(pattern)
        except re.error as error:
            raise RunError(
                Code.LAYOUT_UNKNOWN, f"--patient {pattern!r}: {error}", "correct the expression"
            ) from None
        cases = [replace(case, patient=patient_in(case.id, pattern)) for case in found.cases]
        without = [case.id for case in cases if not case.patient]
        if without:
            number = counted(len(without), "case")
            said = f"--patient fits no part of {number} ({few(without)}): each counts as a patient"
            decide.append(said)
        found = replace(found, cases=cases)
    elif not found.patients_known and not any(case.patient for case in found.cases):
        return replace(found, decide=[*decide, PATIENTS])
    found, leaks = _without_leaks(found)
    decide += leaks
    patients = Counter(case.patient or case.id for case in found.cases)
    if len(patients) == 1 and len(found.cases) > 1:
        decide.append(
            f"all {len(found.cases)} cases are of one patient ({next(iter(patients))}): without a "
            "second one there is nothing to validate on; is the pattern right?"
        )
    elif len(patients) < FOLDS:
        folds = f"{counted(len(patients), 'fold')} instead of {FOLDS}"
        decide.append(f"only {counted(len(patients), 'patient')}: {folds}")
    return replace(found, decide=decide)


def _without_leaks(found: Found) -> tuple[Found, list[str]]:
    """Given folds only where each patient is in one of them."""
    folds: dict[str, set[int | None]] = {}
    for case in found.cases:
        folds.setdefault(case.patient or case.id, set()).add(case.fold)
    torn = [patient for patient, several in folds.items() if len(several) > 1]
    if not torn:
        return found, []
    kept = [note for note in found.notes if note != FOLDS_KEPT]
    said = (
        f"the data set's folds train and validate on the same patient ({torn[0]}; {len(torn)} in "
        "all): they are not kept, and new folds are made"
    )
    cases = [replace(case, fold=None) for case in found.cases]
    return replace(found, cases=cases, notes=kept), [said]


def init(root: Path, target: Target, found: Found, say: Say, *, split: bool = False) -> Path:
    """Write the case table, the configuration and what to know; nothing is overwritten.

    Parameters
    ----------
    root : the data set's folder
    target : where the files go, and what the data set is called
    found : what `find` gave
    say : prints a line where people read it
    split : write images that hold several channels as a file for each

    Returns
    -------
    config
        The configuration's path.

    Raises
    ------
    RunError
        WOULD_OVERWRITE; LAYOUT_UNKNOWN where images hold several channels, and `split` is not set.
    """
    into = target.into
    written = (into / TABLE, *map(target.config, target.sources))
    if there := [str(path) for path in written if path.exists()]:
        raise RunError(
            Code.WOULD_OVERWRITE,
            f"{there[0]} exists",
            f"to start over, first run `rm {shlex.join(there)}`; or name another folder with "
            "--into; or only add rows for new cases with --update",
        )
    left = left_out(root, found)
    ids = case_ids([case.id for case in found.cases])
    if needs_split(found):
        found = split_volumes(found, ids, into, say, allowed=split)
    found = with_values(found)
    texts, summary = _texts(root, target, found, ids, left)
    into.mkdir(parents=True, exist_ok=True)
    write_table(into / TABLE, found, ids)
    for path, text in texts.items():
        with atomic_path(path) as temporary:
            temporary.write_text(text, "utf-8")
    if not (into / NOTES).exists():
        with atomic_path(into / NOTES) as temporary:
            notes = render("README.md.j2", summary=summary, layout=found.layout, root=root.name)
            temporary.write_text(notes, "utf-8")
    _tell(summary, into, found.layout, len(ids), say)
    for path in texts if target.study else ():
        say(f"[backsplit] init: the paper's protocol: `backsplit study plan -c {path}`")
    return into / CONFIG


def _texts(
    root: Path, target: Target, found: Found, ids: Sequence[str], left: Sequence[str]
) -> tuple[dict[Path, str], Summary]:
    """Each configuration by its path, and what a person is told."""
    preset = target.preset
    own = (name_of(root.resolve().name).replace(".", "_"), FIRST_ID)
    title, number = own if preset is None else preset.named(found)
    cases = (target.into / TABLE).as_posix()

    def where(source: str) -> Where:
        results = target.into / (f"{RESULTS}-{source}" if source else RESULTS)
        name = target.name or title
        return Where(name, target.number or number, cases, results.as_posix(), target.command)

    if preset is None:
        text, summary = _proposed(root, found, ids, left, where(""), target.models)
        return {target.config(): text}, summary
    decide = [*doubts(preset, found), *_decide_lines(found, ids)]
    summary = Summary(_found_lines(found, ids), left, decide)
    if not target.study:
        return {target.config(): preset_text(preset, found, summary, where(""))}, summary
    trained = (target.into / TRAINED).as_posix()
    return {
        target.config(source): preset_text(
            preset, found, summary, where(source), Protocol(source, trained)
        )
        for source in target.sources
    }, summary


def _proposed(
    root: Path,
    found: Found,
    ids: Sequence[str],
    left: Sequence[str],
    where: Where,
    models: Mapping[str, Model],
) -> tuple[str, Summary]:
    """The proposed configuration, and what a person is told."""
    view = view_of(found, root)
    channel, others = drawn_on(found)
    proposal = propose(found, view, channel, models)
    decide = [*_decide_lines(found, ids)]
    decide += [f"{said}: a mask is not an image; remove the channel" for said in masks_among(found)]
    if others:
        shown = ", ".join(others)
        decide.append(
            f"on another grid than the lesions: {shown}; resampled by their headers at export: are "
            "they registered?"
        )
    targets, anatomy = lesions_and_anatomy(found.labels, found.lesions)
    unclear = [name for name in anatomy if not is_anatomy_name(name)]
    if unclear:
        decide.append(f"treated as anatomy although the name does not say so: {', '.join(unclear)}")
    if len(targets) > 1 and not found.lesions and not any(map(is_lesion, targets)):
        decide.append("no label is called a lesion: all of them are targets")
    for name, model in models.items():
        if model.lesions:
            decide.append(
                f"{name} labels lesions itself ({few(model.lesions)}): outside the drawn ones they "
                "are `ignore` (compose.segmenter_lesions)"
            )
        if model.left_out:
            decide.append(f"classes of {name} whose names cannot be used: {few(model.left_out)}")
    if not view.sure and not models:
        size = f" ({view.why})" if view.why else ""
        decide.append(
            f"which part of the body the images show is not clear from names{size}: structures "
            f"of the {view.parts[0]} are proposed; correct them if it is another"
        )
    if (anatomy or found.given) and not found.licence:
        decide.append(
            "licence of the drawn anatomy: set `licence` and `commercial` of the segmenter; an "
            "unstated licence counts as restricted"
        )
    summary = Summary(_found_lines(found, ids), left, decide)
    return config_text(found, proposal, view, summary, where), summary


def _found_lines(found: Found, ids: Sequence[str]) -> list[str]:
    """What was found."""
    several = len({case.patient or case.id for case in found.cases})
    patients = (
        f" of {counted(several, 'patient')}" if any(case.patient for case in found.cases) else ""
    )
    channels = ", ".join(found.channels)
    lines = [f"{counted(len(ids), 'case')}{patients}, layout {found.layout}; channels {channels}"]
    targets, anatomy = lesions_and_anatomy(found.labels, found.lesions)
    targets = {**dict.fromkeys(found.own_files, 1), **targets}
    names = [*anatomy, *(name for given in found.given.values() for name in given.names)]
    lines += [f"lesions: {', '.join(targets)}"] if targets else []
    lines += [f"anatomy that was drawn: {', '.join(names)}"] if names else []
    if found.ignore is not None:
        lines.append(f"value {found.ignore} of the lesion files marks unannotated voxels: ignore")
    renamed = [(c.id, i) for c, i in zip(found.cases, ids, strict=True) if c.id != i]
    if renamed:
        old, new = renamed[0]
        number = counted(len(renamed), "case")
        lines.append(f"other names in the table for {number}, as {new} for {old!r}")
    return [*lines, *found.notes]


def _decide_lines(found: Found, ids: Sequence[str]) -> list[str]:
    """What a person has to decide about the table."""
    bare = [i for c, i in zip(found.cases, ids, strict=True) if not c.has_lesion]
    lines = []
    if bare:
        lines.append(
            f"{len(bare)} of {len(ids)} cases have no lesion file ({few(bare)}): write `none` in "
            "the table if the patient has no lesion, or remove the row"
        )
    blind = [i for c, i in zip(found.cases, ids, strict=True) if not c.images]
    if blind and found.layout != "patterns":
        lines.append(f"no image for {counted(len(blind), 'case')} ({few(blind)})")
    return [*lines, *found.decide]


def _tell(summary: Summary, into: Path, layout: str, count: int, say: Say) -> None:
    """Say what was found, what was left out, what to decide, and what comes next."""
    say(f"[backsplit] init: {counted(count, 'case')} ({layout}) in {into / TABLE}")
    for heading, lines in (
        ("found", summary.found),
        ("left out", summary.left_out or ["nothing"]),
        ("to decide", summary.decide or ["nothing"]),
    ):
        say(f"[backsplit] init: {heading}:")
        for line in lines:
            say(f"[backsplit] init:   - {line}")
    config = into / CONFIG
    segmenters = load_config(config).segmenters
    tasks = " ".join(s.task for s in segmenters.values() if isinstance(s, TotalSegmentator))
    steps = [f"`backsplit weights get {tasks}`"] if tasks else []
    steps += [
        f"`backsplit weights accept {name} -c {shlex.quote(str(config))}` if you trust its source"
        for name, section in segmenters.items()
        if isinstance(section, NnUNet)
    ]
    steps += [f"`backsplit check -c {shlex.quote(str(config))}`"]
    say(f"[backsplit] init: next: read {config}, then {' and '.join(steps)}")

"""What `backsplit view` serves: for each case the files that a viewer reads, and what to say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from backsplit.cases.table import Case
from backsplit.config.model import Config
from backsplit.report.case_facts import PageFacts
from backsplit.report.pictures.key import Key
from backsplit.report.render import ml, templates
from backsplit.scheme.colours import as_hex, is_outlined
from backsplit.scheme.scheme import Classes, Scheme
from backsplit.store.sidecars import ComposeSidecar, SegmentSidecar, require_sidecar

NIIVUE = "niivue-0.69.0.js.gz"

IMAGE, LABELS = "image", "labels"
"""Names of the files of a case, beside `segment-NAME`."""


@dataclass(frozen=True)
class Served:
    """A case as the viewer shows it.

    Attributes
    ----------
    files : name in an address to the file
    layers : what the label maps among them are called, and what their values mean
    facts : what the page's script reads
    """

    files: Mapping[str, Path]
    facts: Mapping[str, Any]


def served(
    config: Config, scheme: Scheme, classes: Mapping[str, Classes], case: Case, facts: PageFacts
) -> Served:
    """Gather what the viewer shows of a case.

    Raises
    ------
    CaseError
        FILE_MISSING: a sidecar is gone, or of another version.
    """
    results = config.results
    key = Key.of(scheme.all_names, len(scheme.targets))
    files = {IMAGE: case.images[config.dataset.grid_channel]}
    files[LABELS] = results.labels.output(case.id)
    composed = require_sidecar(results.labels.sidecar(case.id), ComposeSidecar, "compose")
    layers = [{"file": LABELS, "name": "label map", "values": _composed(key)}]
    for segmenter in config.layers:
        if segmenter in composed.failed_segmenters:
            continue
        folder = results.segment(segmenter)
        written = require_sidecar(folder.sidecar(case.id), SegmentSidecar, f"segment {segmenter}")
        name = f"segment-{segmenter}"
        files[name] = folder.output(case.id)
        values = _segmented(key, scheme, segmenter, classes[segmenter], written)
        layers.append({"file": name, "name": segmenter, "values": values})
    places = {entry.instance: entry.centroid_mm for entry in composed.lesions}
    return Served(
        files,
        {
            "case": case.id,
            "layers": layers,
            "lesions": [
                {
                    "name": f"Lesion {lesion.instance}: {lesion.target}",
                    "words": f"{ml(lesion.volume_ml)} ml, {lesion.max_diameter_mm:.1f} mm",
                    "ras_mm": _ras(places[lesion.instance]),
                }
                for lesion in facts.lesions
                if lesion.instance in places
            ],
            "flags": [f"{flag.rule}: {flag.message}" for flag in facts.flags],
        },
    )


def page(cases: list[str], served_case: Served, choices: Mapping[str, tuple[str, str]]) -> str:
    """The viewer's page of a case.

    Parameters
    ----------
    cases : all that can be looked at, in order
    served_case : the one that is shown
    choices : case to decision and note, as `decisions.tsv` has them
    """
    case = served_case.facts["case"]
    at = cases.index(case)
    choice, note = choices.get(case, ("", ""))
    beside = {"before": cases[at - 1] if at else "", "after": "".join(cases[at + 1 : at + 2])}
    facts = {**served_case.facts, **beside, "choice": choice, "note": note}
    return templates().get_template("view.html.j2").render(facts=facts, case=case, cases=cases)


def style() -> str:
    """Style of the page."""
    return templates().get_template("view.css.j2").render()


def script() -> str:
    """Script of the page."""
    return templates().get_template("view.js.j2").render()


def niivue() -> bytes:
    """NiiVue, as its package has it, compressed with gzip."""
    return (resources.files("backsplit.report.niivue") / NIIVUE).read_bytes()


def _composed(key: Key) -> list[list[Any]]:
    return [[i, name, as_hex(key.colours[i]), key.kind(i)] for i, name in enumerate(key.names) if i]


def _segmented(
    key: Key, scheme: Scheme, segmenter: str, classes: Classes, written: SegmentSidecar
) -> list[list[Any]]:
    """Values of a segmenter's map in the colours of their structures, the first of overlaps."""
    names = {value: [name] for name, value in classes.items()}
    by_value = {value: name for name, value in classes.items()}
    names |= {v: [by_value[m] for m in members] for v, members in written.overlaps.items()}
    structures = scheme.sources.get(segmenter, {})
    grey = as_hex(key.colours[-1])
    found = []
    for value, mine in names.items():
        label = scheme.ids.get(structures.get(mine[0], ""))
        colour = grey if label is None else as_hex(key.colours[label])
        kind = "outline" if is_outlined(mine[0]) else "structure"
        found.append([value, " + ".join(mine), colour, kind])
    return found


def _ras(lps_mm: tuple[float, float, float]) -> list[float]:
    x, y, z = lps_mm
    return [-x, -y, z]

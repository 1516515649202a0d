"""Why a structure has no voxel in any case, by what was recorded of a few of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from backsplit.errors import shown
from backsplit.flow.project import Project
from backsplit.store.sidecars import ComposeSidecar, Known, SegmentSidecar, read_sidecar

LOOKED_AT = 5
"""Cases whose sidecars are read: what is wrong with a mapping is wrong in each."""


def why_absent(project: Project, structure: str, cases: Sequence[str]) -> str | None:
    """Say why a structure has no voxel, where the sidecars tell.

    Parameters
    ----------
    project : the project
    structure : that no case has a voxel of
    cases : that were composed; the first of them are looked at
    """
    few = cases[:LOOKED_AT]
    unknown = [_unknown(project, structure, case) for case in few]
    if few and all(unknown):
        return f"it is unknown ({few[0]}: {shown(unknown[0])})"
    for segmenter, classes in project.scheme.sources.items():
        if structure in classes.values():
            values = {value for case in few for value in _others(project, segmenter, case)}
            if values:
                listed = shown(", ".join(sorted(values, key=int)))
                return f"the labels of {segmenter} contain {listed}, which `labels` does not list"
    return None


def _unknown(project: Project, structure: str, case: str) -> str:
    """Why a structure is unknown in a case; empty where it is known."""
    with suppress(OSError, ValueError):
        composed = read_sidecar(project.results.labels.sidecar(case), ComposeSidecar)
        for entry in composed.structures:
            if entry.structure == structure and entry.status is Known.UNKNOWN:
                return entry.reason or "no reason was recorded"
    return ""


def _others(project: Project, segmenter: str, case: str) -> Sequence[str]:
    """Values in a segmenter's files of a case that are none of its classes."""
    with suppress(OSError, ValueError):
        sidecar = read_sidecar(project.results.segment(segmenter).sidecar(case), SegmentSidecar)
        return [*sidecar.notes.get("voxels_of_other_values", {})]
    return []

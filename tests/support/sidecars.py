"""Sidecars as stages write them, with nothing in them but what a test is about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from backsplit.store.sidecars import ComposeSidecar, LesionEntry, SegmentSidecar, Sidecar

COMMON = {"fingerprint": "", "made_from": {}, "made_by": {}, "outputs": {}}


def write(folder: Path, sidecar: Sidecar) -> Path:
    path = folder / f"{sidecar.case}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(sidecar.model_dump_json(), "utf-8")
    return path


def segmented(case: str, segmenter: str = "organs", **known: Any) -> SegmentSidecar:
    nothing = {"classes": {}, "overlaps": {}, "unknown": {}, "voxels": {}, "notes": {}}
    return SegmentSidecar(case=case, segmenter=segmenter, **{**COMMON, **nothing, **known})


def composed(case: str, **known: Any) -> ComposeSidecar:
    nothing = {
        **dict.fromkeys(
            (
                "summary",
                "drawn",
                "lesions",
                "structures",
                "layers",
                "opinions",
                "overruled",
            ),
            (),
        ),
        "voxels": {},
        "classes_without_structure": {},
        "failed_segmenters": {},
        "voxel_ml": 1.0,
        "ignored_voxels": 0,
    }
    return ComposeSidecar(case=case, **{**COMMON, **nothing, **known})


def lesion(**known: Any) -> LesionEntry:
    nothing = {
        "instance": 1,
        "target": "tumor",
        "voxels": 1,
        "volume_ml": 0.001,
        "centroid_mm": (0.0, 0.0, 0.0),
        "box_zyx": ((0, 1), (0, 1), (0, 1)),
        "host": None,
        "host_basis": "none",
        "inside_fraction": 0.0,
        "shell_fraction": 0.0,
        "closed_fraction": 0.0,
        "distance_mm": None,
    }
    return LesionEntry(**{**nothing, **known})

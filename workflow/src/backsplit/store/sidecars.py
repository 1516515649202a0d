"""Sidecars: what a result was made from, and what happened to its case. One model a stage.

A sidecar lies beside the result and is written last: where it stands the result is whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from backsplit import __version__
from backsplit.errors import CaseError, Code
from backsplit.store.provenance import digest, file_sha256, read_json, versions, write_json
from backsplit.store.results import sidecar_path

Kind = TypeVar("Kind", bound="Sidecar")

VERSION: Literal[1] = 1
"""Of the format; a result whose sidecar has another one is made again."""


class Known(StrEnum):
    """What is known of a structure in a case."""

    LABELLED = "labelled"
    ABSENT = "absent"
    TRUNCATED = "truncated"
    UNKNOWN = "unknown"


class Entry(BaseModel):
    """A part of a sidecar: what stages write for each other, and for a person to read."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Written(Entry):
    """A file of the result, and the SHA-256 of what was written."""

    file: str
    sha256: str


class MadeFrom(BaseModel):
    """All that a result depends on; what only its own stage asks for is kept as it is."""

    model_config = ConfigDict(frozen=True, extra="allow", defer_build=True)

    inputs: dict[str, str] = {}
    """Role to SHA-256."""
    versions: dict[str, str] = {}
    weights: dict[str, str] = {}
    """File to SHA-256."""


class Sidecar(Entry):
    """What every sidecar says.

    Attributes
    ----------
    version : of the format, `VERSION`
    fingerprint : digest of `made_from`
    made_by : package to version
    outputs : role to file
    """

    version: Literal[1] = VERSION
    case: str
    fingerprint: str
    made_from: MadeFrom
    made_by: dict[str, str]
    outputs: dict[str, Written]


class CoverageEntry(Entry):
    """A part of the image, and classes that were looked for there only.

    Attributes
    ----------
    size, spacing, origin, direction : the grid of that part, as `volume.Grid` has them
    """

    classes: tuple[str, ...]
    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]


class SegmentDetails(Entry):
    """What a segmenter found in a case.

    Attributes
    ----------
    classes : value to class name
    overlaps : value to the values that share its voxels, where masks overlap
    unknown : classes that nobody could look for in this case, and why
    voxels : of each class that has any; where masks overlap, each of them counts
    notes : what a person should know
    coverage : parts of the image outside of which classes are unknown
    """

    segmenter: str
    classes: dict[int, str]
    overlaps: dict[int, tuple[int, ...]]
    unknown: dict[str, str]
    voxels: dict[str, int]
    notes: dict[str, Any]
    coverage: tuple[CoverageEntry, ...] = ()

    def require_classes(self, classes: Mapping[str, int]) -> None:
        """Refuse a label map that was written with other classes than are asked for.

        Raises
        ------
        CaseError
            RESULT_CHANGED: its values would be read as other names.
        """
        if {value: name for name, value in classes.items()} != self.classes:
            raise CaseError(
                Code.RESULT_CHANGED,
                f"the label map of {self.segmenter} was written with classes or values that differ "
                "from the configuration",
                f"run `backsplit segment {self.segmenter}` again",
            )


class RepairEntry(Entry):
    """What the host of a lesion got round about it; `were` is label name to voxels before."""

    rim_voxels: int
    hole_voxels: int
    were: dict[str, int]


class LesionEntry(Entry):
    """One lesion of the label map.

    Attributes
    ----------
    instance : its number in the case, or the lesion file's own value
    centroid_mm : (x, y, z), LPS
    box_zyx : first and one past the last voxel of each axis
    host, host_basis : the structure that it lies in, and how that was found
    inside_fraction, shell_fraction, closed_fraction : what the host rests on
    distance_mm : to the host
    """

    instance: int
    target: str
    voxels: int
    volume_ml: float
    centroid_mm: tuple[float, float, float]
    box_zyx: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    host: str | None
    host_basis: str
    inside_fraction: float
    shell_fraction: float
    closed_fraction: float
    distance_mm: float | None
    repair: RepairEntry | None = None


class DrawnEntry(Entry):
    """What a lesion file says of a target before any conversion, and what became of it.

    Attributes
    ----------
    column : of the case table
    kind : what the file consists of: voxels, contours, frames
    parts : contours, or frames that hold a voxel of it
    gaps : image slices between the first and the last without a contour or frame
    voxels : on the file's own lattice; None for contours, and where they are resampled
    value : of its voxels, in a file of it alone
    tolerance_ml : by how much the volume may differ
    written_voxels : in the label map
    taken_voxels : that another target has, or a structure that is placed above it
    """

    target: str
    column: str
    kind: str
    parts: int
    gaps: int
    voxels: int | None
    value: int | None
    ml: float
    tolerance_ml: float
    written_voxels: int
    taken_voxels: int


class StructureEntry(Entry):
    """What is known of one structure: a row of `status.parquet`.

    Attributes
    ----------
    voxels : in the label map
    sides : sides of the field of view that it touches
    reason : why it is unknown; empty otherwise
    """

    structure: str
    status: Known
    voxels: int
    sides: str
    reason: str


class LayerEntry(Entry):
    """Voxels that a layer claimed, and what became of them."""

    layer: str
    claimed: int
    kept: int
    agreed: int
    overruled: int
    set_aside: int


class OpinionEntry(Entry):
    """What one of several segmenters says of a structure: `said = stands + set_aside + ignored`.

    Attributes
    ----------
    by : how it was decided
    said : voxels that it labelled
    stands : of these, those that the structure may have; precedence decides as with all layers
    set_aside : those that the other sources were followed in
    ignored : those that became `ignore`, because the sources disagree
    """

    structure: str
    layer: str
    by: str
    said: int
    stands: int
    set_aside: int
    ignored: int


class OverruledEntry(Entry):
    """Voxels that one label of a layer claimed and another one got."""

    loser: str
    loser_layer: str
    winner: str
    winner_layer: str
    voxels: int
    volume_ml: float
    why: str


class ComposeDetails(Entry):
    """What a label map holds, who was overruled and why; names for ids.

    Attributes
    ----------
    summary : what a person wants to know first, in words
    voxels : of every label
    drawn : what the lesion files say of each target, held against the label map
    classes_without_structure : segmenter to class to voxels that no structure takes
    failed_segmenters : segmenter to the reason
    """

    summary: tuple[str, ...]
    voxel_ml: float
    voxels: dict[str, int]
    drawn: tuple[DrawnEntry, ...]
    lesions: tuple[LesionEntry, ...]
    structures: tuple[StructureEntry, ...]
    layers: tuple[LayerEntry, ...]
    opinions: tuple[OpinionEntry, ...]
    overruled: tuple[OverruledEntry, ...]
    ignored_voxels: int
    classes_without_structure: dict[str, dict[str, int]]
    failed_segmenters: dict[str, str]

    @property
    def overruled_voxels(self) -> int:
        """Voxels that were claimed and went to another label."""
        return sum(entry.voxels for entry in self.overruled)


class MeasureDetails(Entry):
    """How many structures have a voxel."""

    structures: int


class PageDetails(Entry):
    """Size of a page."""

    bytes: int


class SegmentSidecar(Sidecar, SegmentDetails):
    """Beside a segmenter's label map."""


class ComposeSidecar(Sidecar, ComposeDetails):
    """Beside a composed label map."""


class MeasureSidecar(Sidecar, MeasureDetails):
    """Beside a case's rows."""


def write_sidecar(
    outputs: Mapping[str, Path], case: str, made_from: Mapping[str, Any], details: Entry
) -> None:
    """Write the sidecar of a result, last.

    Parameters
    ----------
    outputs : role to file; the sidecar lies beside the first
    case : case id
    made_from : inputs, configuration, versions, weights; its digest is the fingerprint
    details : what happened
    """
    written = {
        role: {"file": path.name, "sha256": file_sha256(path)} for role, path in outputs.items()
    }
    sidecar = {
        "version": VERSION,
        "case": case,
        "fingerprint": digest(made_from),
        **details.model_dump(mode="json"),
        "made_from": made_from,
        "made_by": {"backsplit": __version__, **versions("SimpleITK", "numpy")},
        "outputs": written,
    }
    write_json(sidecar_path(next(iter(outputs.values()))), sidecar)


def read_sidecar(path: Path, kind: type[Kind]) -> Kind:
    """Read a sidecar.

    Raises
    ------
    OSError, ValueError
        It is not there, or is none of this kind.
    """
    return kind.model_validate_json(path.read_bytes())


def require_sidecar(path: Path, kind: type[Kind], verb: str) -> Kind:
    """Read what a stage before has written.

    Parameters
    ----------
    path : the sidecar
    kind : of sidecar
    verb : of the command that writes it

    Raises
    ------
    CaseError
        FILE_MISSING: it is gone, damaged, or of another version.
    """
    try:
        return read_sidecar(path, kind)
    except (OSError, ValueError) as error:
        reason = "it does not exist" if isinstance(error, FileNotFoundError) else "another version"
        raise CaseError(
            Code.FILE_MISSING, f"{path} cannot be read ({reason})", f"run `backsplit {verb}` again"
        ) from None


def discard(outputs: Mapping[str, Path]) -> None:
    """Remove a result and its sidecar."""
    for path in (sidecar_path(next(iter(outputs.values()))), *outputs.values()):
        path.unlink(missing_ok=True)


def still_holds(outputs: Mapping[str, Path], made_from: Mapping[str, Any]) -> bool:
    """Whether a result is there, whole, and made from exactly these things."""
    main = next(iter(outputs.values()))
    try:
        sidecar = read_json(sidecar_path(main))
        if sidecar["version"] != VERSION or sidecar["fingerprint"] != digest(made_from):
            return False
        return all(
            file_sha256(path) == sidecar["outputs"][role]["sha256"]
            for role, path in outputs.items()
        )
    except (OSError, ValueError, KeyError):
        return False

"""DICOM images: a folder with the slices of one series, or one multi-frame object, as a volume."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread

from backsplit.errors import CaseError, Code, shown
from backsplit.volume.frames import frame_pixels
from backsplit.volume.geometry import Geometry, orthonormal
from backsplit.volume.grid import Array, Grid, Volume
from backsplit.volume.nifti import MOST_VOXELS
from backsplit.volume.slices import Slice, find_slices, names

EVEN = 0.01
"""Slices are equally spaced when no gap differs from the median by more than this share of it:
positions are written with a few decimals."""

SAME_MM = 1e-3
"""Slices nearer to each other than this lie at one position."""

COMPLETE = "complete the series, or remove what does not belong to it"


def series_geometry(path: Path) -> Geometry:
    """Read the grid of a series from its headers; raises as `read_series`."""
    slices, notes = _sorted_slices(path)
    grid, repaired = _grid(path, slices)
    return Geometry(grid, (*notes, *repaired))


def read_series(path: Path) -> Volume:
    """Read a folder of slices, or a multi-frame object; every slice's own rescaling is applied.

    Returns
    -------
    volume
        int16 or int32 where slopes and intercepts of all slices are whole numbers, float32
        otherwise: one type for the series, which any one slice of a PET would get wrong.

    Raises
    ------
    CaseError
        FILE_UNREADABLE, ORIENTATION_UNKNOWN (no positions), SERIES_AMBIGUOUS (several series, or
        several volumes at the same positions), SLICES_UNEVEN (slices missing, of other size or
        orientation), NOT_3D (one slice) or DIRECTION_SHEARED (gantry tilt).
    """
    slices, _ = _sorted_slices(path)
    grid, _ = _grid(path, slices)
    whole = all(s.slope.is_integer() and s.intercept.is_integer() for s in slices)
    array = np.empty(grid.shape, np.int32 if whole else np.float32)
    limits = np.iinfo(np.int32)
    for z, stored in enumerate(_pixels(slices)):
        if stored.dtype.kind == "f" and whole:
            whole, array = False, array.astype(np.float32)
        values = stored.astype(np.float64) * slices[z].slope + slices[z].intercept
        if whole and (values.min() < limits.min or values.max() > limits.max):
            raise _unreadable(slices[z].path, "its values need more than 32 bits")
        array[z] = values
    return Volume(_narrow(array), grid)


def series_headers(path: Path) -> tuple[list[Any], list[int]]:
    """Headers of what a series consists of, without pixels.

    Raises
    ------
    CaseError
        As `read_series`; DICOM_MISSING for a series of several multi-frame objects.

    Returns
    -------
    headers, frames
        Of slices in files of their own: a header each, in the order of the volume (z). Of a
        multi-frame object: its one header. And for each z the place of its pixels: of the header,
        or of the frame.
    """
    slices, _ = _sorted_slices(path)
    frames = [s.frame for s in slices if s.frame is not None]
    if frames and len({s.path for s in slices}) > 1:  # a frame's number is of its own object
        raise CaseError(
            Code.DICOM_MISSING,
            f"{path} is a series of several multi-frame objects",
            "use the .seg.nrrd or the label map",
        )
    files = [slices[0].path] if frames else [s.path for s in slices]
    headers = [dcmread(file, stop_before_pixels=True) for file in files]
    return headers, frames or list(range(len(slices)))


def _pixels(slices: Sequence[Slice]) -> Iterator[Array]:
    """Stored values of each slice, (rows, columns)."""
    opened: tuple[Path, Any] | None = None
    for s in slices:
        try:
            if opened is None or opened[0] != s.path:
                opened = (s.path, dcmread(s.path))
            stored = frame_pixels(opened[1], s.frame)
        except Exception as error:  # pydicom and its decoders raise all sorts of things
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise _unreadable(s.path, lines[-1]) from None
        if stored.shape != s.plane.size:
            raise _unreadable(s.path, f"its pixels have the shape {stored.shape}")
        yield stored


def _narrow(array: Array) -> Array:
    """int16 where all values fit."""
    if array.dtype.kind == "i":
        limits = np.iinfo(np.int16)
        if limits.min <= int(array.min()) and int(array.max()) <= limits.max:
            return array.astype(np.int16)
    return array


def _sorted_slices(path: Path) -> tuple[list[Slice], list[str]]:
    """Slices of the one series in the direction of their normal, and what was left aside."""
    slices, notes = find_slices(path)
    _require_one_series(path, slices)
    _require_alike(path, slices)
    positions = _by_position(_along(slices))
    if len(positions) < len(slices):
        positions, copies = _without_copies(positions)
        if copies:
            notes.append(f"identical copies of slices are used once: {names(copies)}")
        _require_one_volume(path, positions)
    return [together[0] for together in positions], notes


def _require_one_series(path: Path, slices: Sequence[Slice]) -> None:
    """Refuse a folder with several series, which their UIDs tell apart."""
    files: dict[str, list[Path]] = {}
    for s in slices:
        files.setdefault(s.series, []).append(s.path)
    if len(files) > 1:
        described = {s.series: shown(s.description or f"…{s.series[-12:]}", 80) for s in slices}
        most = sorted(files, key=lambda uid: -len(files[uid]))
        found = "; ".join(
            f"{described[uid]}, {len(files[uid])} slices: {names(files[uid])}" for uid in most[:5]
        )
        raise CaseError(
            Code.SERIES_AMBIGUOUS,
            f"{path} holds {len(files)} series ({found})",
            "give each its own folder",
        )


def _require_alike(path: Path, slices: Sequence[Slice]) -> None:
    """Refuse slices of another size, spacing, orientation or frame of reference than most."""

    def kind(s: Slice) -> tuple[object, ...]:
        cosines = tuple((np.round(s.plane.cosines, 3) + 0.0).tolist())
        spacing = tuple(round(v, 4) for v in s.plane.spacing)
        return s.plane.size, cosines, spacing, s.frame_of_reference

    kinds = Counter(kind(s) for s in slices)
    first = next(s for s in slices if kind(s) == kinds.most_common(1)[0][0])
    usual = first.plane
    odd = [
        s
        for s in slices
        if s.plane.size != usual.size
        or not np.allclose(s.plane.cosines, usual.cosines, atol=1e-4)
        or not np.allclose(s.plane.spacing, usual.spacing, rtol=1e-5)
        or s.frame_of_reference != first.frame_of_reference
    ]
    if odd:
        raise _uneven(
            path,
            f"{len(odd)} of {len(slices)} slices have another size, spacing, orientation or frame "
            f"of reference than the others: {names([s.path for s in odd])}",
            "remove what does not belong to it, such as localizers",
        )


def _along(slices: Sequence[Slice]) -> list[Slice]:
    """Slices in the direction of their normal."""
    normal = slices[0].plane.normal
    return sorted(slices, key=lambda s: float(s.plane.position @ normal))


def _by_position(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Sorted slices in groups of one position each."""
    groups: list[list[Slice]] = []
    for s in slices:
        last = groups[-1][0].plane if groups else None
        if last is not None and np.linalg.norm(s.plane.position - last.position) < SAME_MM:
            groups[-1].append(s)
        else:
            groups.append([s])
    return groups


def _without_copies(positions: list[list[Slice]]) -> tuple[list[list[Slice]], list[Path]]:
    """Take out files that are the same to the byte, or one object with the same pixels."""
    kept, copies = [], []
    for together in positions:
        differing: list[Slice] = []
        for s in together:
            if any(_is_copy(s, other) for other in differing):
                copies.append(s.path)
            else:
                differing.append(s)
        kept.append(differing)
    return kept, copies


def _is_copy(first: Slice, second: Slice) -> bool:
    if first.path == second.path:
        return False
    if first.path.read_bytes() == second.path.read_bytes():
        return True
    same = first.uid == second.uid and bool(first.uid)
    scaled = (first.slope, first.intercept) == (second.slope, second.intercept)
    if not same or not scaled:
        return False
    one, other = _pixels([first, second])
    return bool(np.array_equal(one, other))


def _require_one_volume(path: Path, positions: list[list[Slice]]) -> None:
    """Refuse several different slices at one position."""
    most = max(len(together) for together in positions)
    if most == 1:
        return
    slices = [s for together in positions for s in together]
    if any(len(together) < most for together in positions):
        double = next(together for together in positions if len(together) > 1)
        raise _uneven(
            path, f"{names([s.path for s in double])} are different slices at the same position"
        )
    tags = [
        f"{tag} ({', '.join(dict.fromkeys(str(s.tags.get(tag)) for s in slices))})"
        for tag in slices[0].tags
        if _tells_apart(tag, positions)
    ]
    tags += _instances(slices, len(positions))
    what = "frames" if slices[0].frame is not None else "files"
    apart = f"distinguished by {'; '.join(tags)[:300]}" if tags else "which no tag distinguishes"
    raise CaseError(
        Code.SERIES_AMBIGUOUS,
        f"{path} holds {len(slices)} {what} on {len(positions)} positions: {most} volumes, {apart}",
        "use a folder with the slices of one of them",
    )


def _instances(slices: Sequence[Slice], count: int) -> list[str]:
    """Ranges of InstanceNumber that are a volume each, where they follow each other."""
    ordered = sorted(slices, key=lambda s: s.instance)
    volumes = [ordered[at : at + count] for at in range(0, len(ordered), count)]
    last = [0] + [volume[-1].instance for volume in volumes]
    apart = all(volume[0].instance > before for volume, before in zip(volumes, last, strict=False))
    if not apart or any(len(_by_position(_along(volume))) < count for volume in volumes):
        return []
    ranges = ", ".join(f"{volume[0].instance} to {volume[-1].instance}" for volume in volumes)
    return [f"InstanceNumber ({ranges})"]


def _tells_apart(tag: str, positions: list[list[Slice]]) -> bool:
    """Whether each position has the same set of different values of a tag."""
    values = [[s.tags.get(tag) for s in together] for together in positions]
    found = {frozenset(at) for at in values}
    return len(found) == 1 and len(next(iter(found))) == len(positions[0])


def _grid(path: Path, slices: Sequence[Slice]) -> tuple[Grid, list[str]]:
    """The grid of sorted slices, and what was repaired to have it."""
    first = slices[0].plane
    if len(slices) < 2 or min(first.size) < 2:
        raise CaseError(
            Code.NOT_3D,
            f"{path} has {len(slices)} slice(s) of {first.size[0]}x{first.size[1]} pixels; one "
            "3D volume with at least 2 voxels a side is needed",
            "use the folder with all slices of the series",
        )
    if max(len(slices), *first.size) > MOST_VOXELS:
        raise CaseError(
            Code.NOT_3D,
            f"{path} has {len(slices)} slices of {first.size[0]}x{first.size[1]} pixels; label "
            f"maps are NIfTI-1, with at most {MOST_VOXELS} voxels a side",
            "crop or resample it",
        )
    normal = first.normal
    positions = np.array([s.plane.position for s in slices])
    steps = np.diff(positions, axis=0)
    gaps = steps @ normal
    gap = float(np.median(gaps))
    wrong = np.flatnonzero(np.abs(gaps - gap) > max(EVEN * gap, 0.01))
    tilt = float(np.linalg.norm(steps - np.outer(gaps, normal), axis=1).max())
    if gap <= 0 or len(wrong):
        at = int(wrong[0]) if len(wrong) else 0
        raise _uneven(
            path,
            f"{names([slices[at].path, slices[at + 1].path])} are {gaps[at]:.4g} mm apart where "
            f"{gap:.4g} mm is usual",
        )
    if tilt > max(EVEN * gap, 0.01):
        raise CaseError(
            Code.DIRECTION_SHEARED,
            f"{path}: each slice is displaced by {tilt:.3g} mm in its plane (gantry tilt)",
            "convert it with dcm2niix, and use the corrected file (…_Tilt_1.nii), with what was "
            "drawn on the series resampled to it",
        )
    size = (first.size[1], first.size[0], len(slices))
    spacing = (first.spacing[1], first.spacing[0], gap)
    axes = np.stack([first.cosines[:3], first.cosines[3:], normal], axis=1)
    direction, repaired = orthonormal(path, axes, size, spacing)
    x, y, z = (float(v) for v in positions[0])
    cosines, frame = tuple(float(c) for c in direction.ravel()), slices[0].frame_of_reference
    return Grid(size, spacing, (x, y, z), cosines, frame), repaired


def _uneven(path: Path, what: str, remedy: str = COMPLETE) -> CaseError:
    return CaseError(Code.SLICES_UNEVEN, f"{path}: {what}", remedy)


def _unreadable(path: Path, reason: str) -> CaseError:
    return CaseError(
        Code.FILE_UNREADABLE,
        f"{path} cannot be read as a DICOM slice ({reason[:200]})",
        "fetch it again, or convert the series with dcm2niix",
    )

"""What the first files of a data set say: values of labels, images that are masks, whose grid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from backsplit.errors import CaseError
from backsplit.start.found import Found
from backsplit.start.names import counted, is_mask_name
from backsplit.start.written import listed, names_in, targets_among
from backsplit.volume import Array, read_grid, read_labels, read_volume
from backsplit.volume.pieces import values_in
from backsplit.volume.planes import is_dicom_file

LOOKED_AT = 20
"""So many lesion files are read for their values, where nothing names them."""

IMAGES_LOOKED_AT = 2
"""So many images of a channel are read, where its name or a missing one leaves it open."""

MASK_VALUES = 8
"""An image of no more values, all whole numbers, is a mask: noise alone gives more."""


def with_values(found: Found) -> Found:
    """Labels for the values of the first label files, where nothing names them."""
    return _with_lesions(_with_anatomy(found))


def _with_anatomy(found: Found) -> Found:
    """Names for the values of files of anatomy, for the user to correct."""
    given, said = dict(found.given), []
    for segmenter, one in found.given.items():
        if one.names:
            continue
        column = one.path.strip("{}")
        paths = [case.columns[column] for case in found.cases if column in case.columns]
        values = {f"{segmenter}_{value}": value for value in _values_of(paths[:LOOKED_AT])}
        if not values:
            del given[segmenter]
            said.append(f"no value could be read from the files of {segmenter}: it is left out")
            continue
        given[segmenter] = replace(one, names=list(values), values=values)
        said.append(
            f"values {', '.join(map(str, values.values()))} were found in files of {segmenter}; "
            "nothing says what they mean: name them (--label liver=1)"
        )
    return replace(found, given=given, decide=[*found.decide, *said])


def _values_of(paths: Sequence[Path]) -> list[int]:
    """Values above 0 that label files hold."""
    values: set[int] = set()
    for path in paths:
        with suppress(CaseError):  # DICOM has names; what is wrong with a file `check` says
            values.update(values_in(read_labels(path).array))
    return sorted(values)


def _with_lesions(found: Found) -> Found:
    """Names for the values of lesion files."""
    paths = [case.lesion for case in found.cases if case.lesion is not None][:LOOKED_AT]
    if found.labels or (found.own_files and not paths):
        return found
    if not paths:
        said = "no lesion file was found: `lesion: 1` is a placeholder"
        return replace(found, decide=[*found.decide, said])
    if names := Counter(name for path in paths for name in names_in(path)):
        note = listed(names, len(paths), "lesion")
        return replace(found, labels=targets_among(names), notes=[*found.notes, note])
    above = _values_of(paths)
    labels = {"lesion" if len(above) == 1 else f"lesion_{value}": value for value in above}
    read = f"the first {counted(len(paths), 'lesion file')}"
    if not above:
        said = f"no value could be read from {read}: `lesion: 1` is a guess"
        return replace(found, decide=[*found.decide, said])
    said = f"values {', '.join(map(str, above))} were found in {read}; nothing says what they mean"
    if len(above) > 1:
        said += (
            ": name them (--label liver=1 --label tumor=2); if they number the lesions of a "
            'patient, write `lesion: "*"` instead'
        )
    return replace(found, labels=labels, decide=[*found.decide, said])


def masks_among(found: Found) -> list[str]:
    """Channels whose images are masks, with what says so."""
    said = []
    for channel in found.channels:
        paths = [case.images[channel] for case in found.cases if channel in case.images]
        values = [v for path in paths[:IMAGES_LOOKED_AT] if (v := _values(path)) is not None]
        if values and all(_is_mask(v) for v in values):
            shown = ", ".join(f"{v:g}" for v in values[0])
            said.append(f"the channel {channel} looks like a mask: {paths[0].name} holds {shown}")
        elif is_mask_name(channel):
            said.append(f"the channel {channel} is named like a mask: is it an image?")
    return said


def holds_mask(path: Path) -> bool:
    """Whether a file holds few values, all whole numbers; not where it cannot be read."""
    values = _values(path)
    return values is not None and _is_mask(values)


def drawn_on(found: Found) -> tuple[str, list[str]]:
    """The channel on whose grid the lesions were drawn, and channels that lie on another one.

    Empty where the first case that has all files does not say.
    """
    for case in found.cases:
        lesion = case.lesion or next(iter(case.lesions.values()), None)
        if lesion is None or len(case.images) < max(2, len(found.channels)):
            continue
        try:
            if is_dicom_file(lesion):
                return "", []
            grid = read_grid(lesion)
            grids = {channel: read_grid(path) for channel, path in case.images.items()}
        except CaseError:
            continue
        same = [channel for channel in found.channels if grids[channel].is_same(grid)]
        others = [channel for channel in found.channels if channel not in same]
        return (same[0] if same else ""), others
    return "", []


def _values(path: Path) -> Array | None:
    """The values of an image, where there are few and all are whole numbers."""
    try:
        array = read_volume(path).array
    except CaseError:
        return None
    middle = np.unique(array[array.shape[0] // 2])
    if len(middle) > MASK_VALUES:
        return middle
    return np.unique(array)


def _is_mask(values: Array) -> bool:
    return 1 < len(values) <= MASK_VALUES and bool(np.all(values == np.rint(values)))

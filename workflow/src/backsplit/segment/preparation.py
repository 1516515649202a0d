"""From an image to what an nnU-Net network wants: nnU-Net's own steps, each done once.

The steps and their order are those of `DefaultPreprocessor.run_case_npy`: axes, crop to what is not
zero, normalise, resample. What differs: the networks of a task share the first two; the label map
that nnU-Net makes beside the image and resamples is left out where nobody reads it; holes of the
mask of what is not zero are filled only for who asks for the mask, because they change no box; and
images are resampled by compiled loops (`volume/spline.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import cc3d
import numpy as np

from backsplit.volume import Array
from backsplit.volume.spline import resize_cubic, resize_planes


@dataclass(frozen=True)
class Cropped:
    """An image in a network's order of axes, cropped to the box of what is not zero.

    Attributes
    ----------
    data : (channel, z, y, x); shared by the networks of a task, so nobody writes to it
    box : where it lies in the whole image, a range per axis
    whole : shape of the whole image
    """

    data: Array
    box: list[list[int]]
    whole: tuple[int, ...]

    @cached_property
    def mask(self) -> Array:
        """Bool (z, y, x): not zero in any channel, holes filled (`create_nonzero_mask`)."""
        empty = (self.data == 0).all(axis=0)
        parts = cc3d.connected_components(empty, connectivity=6)
        # what is empty at a face of the box is so outside of it: it is no hole
        faces = [np.take(parts, end, axis).ravel() for axis in range(3) for end in (0, -1)]
        inside = np.ones(int(parts.max()) + 1, bool)
        inside[np.concatenate(faces)] = False
        inside[0] = True  # which is what is not empty
        return np.asarray(inside[parts])


class Source:
    """An image that one or more networks want prepared.

    Parameters
    ----------
    image : numbers (channel, z, y, x) in the axis order of the model's reader
    properties : the reader's; `spacing` is (z, y, x) in mm
    """

    def __init__(self, image: Array, properties: Mapping[str, Any]) -> None:
        self.image = image if image.dtype.kind in "iu" else image.astype(np.float32, copy=False)
        self.properties = properties
        self._cropped: dict[tuple[int, ...], Cropped] = {}
        self._lock = threading.Lock()

    def cropped(self, axes: Sequence[int]) -> Cropped:
        """The image with its axes in that order, cropped; made once for an order."""
        key = tuple(axes)
        with self._lock:
            if key not in self._cropped:
                data = self.image.transpose(0, *(axis + 1 for axis in key))
                box = nonzero_box(data)
                slices = tuple(slice(*ends) for ends in box)
                self._cropped[key] = Cropped(data[(slice(None), *slices)], box, data.shape[1:])
            return self._cropped[key]


def nonzero_box(data: Array) -> list[list[int]]:
    """Box of what is not zero in any channel; the whole image where all is (as nnU-Net's).

    Parameters
    ----------
    data : (channel, z, y, x)
    """
    box = []
    for axis in range(1, 4):
        planes = np.moveaxis(data, axis, 0)
        filled = (i for i in range(len(planes)) if planes[i].any())
        first = next(filled, None)
        if first is None:
            return [[0, size] for size in data.shape[1:]]
        last = next(i for i in range(len(planes) - 1, -1, -1) if planes[i].any())
        box.append([first, last + 1])
    return box


def is_usual(configuration: Any) -> bool:  # noqa: ANN401
    """Whether a configuration (nnU-Net's ConfigurationManager) is prepared by the steps here."""
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor

    return configuration.preprocessor_class is DefaultPreprocessor


def own_shape(
    shape: Sequence[int], spacing: Sequence[float], wanted: Sequence[float]
) -> tuple[int, ...]:
    """Shape of an image at another spacing (nnU-Net's `compute_new_shape`)."""
    return tuple(
        round(old / new * size) for old, new, size in zip(spacing, wanted, shape, strict=True)
    )


def normalised(cropped: Cropped, configuration: Any, intensities: Mapping[str, Any]) -> Array:  # noqa: ANN401
    """Normalise each channel by nnU-Net's own class for it, on a copy.

    Parameters
    ----------
    configuration : nnU-Net's ConfigurationManager
    intensities : `foreground_intensity_properties_per_channel` of the plans

    Returns
    -------
    data
        float32 (channel, z, y, x), contiguous.
    """
    data = np.array(cropped.data, np.float32, order="C")
    for channel in range(len(data)):
        masked = configuration.use_mask_for_norm[channel]
        scheme, asks = _scheme(configuration.normalization_schemes[channel])
        run = scheme(masked, intensities[str(channel)]).run
        # nnU-Net's mask is a label map that is 0 inside and -1 outside
        seg = cropped.mask.astype(np.int8) - np.int8(1) if masked or asks else None
        data[channel] = run(data[channel], seg)
    return data


def _scheme(name: str) -> tuple[Any, bool]:
    """nnU-Net's class of a normalisation, and whether it may look at the mask unasked."""
    from nnunetv2.preprocessing.normalization import default_normalization_schemes as usual
    from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

    if hasattr(usual, name):
        return getattr(usual, name), False
    import nnunetv2

    folder = f"{nnunetv2.__path__[0]}/preprocessing/normalization"
    found = recursive_find_python_class(folder, name, "nnunetv2.preprocessing.normalization")
    if found is None:
        raise ValueError(f"nnU-Net has no normalisation {name!r}")
    return found, True


def usual_resampling(
    function: partial[Any], current: Sequence[float], wanted: Sequence[float]
) -> tuple[int, int | None] | None:
    """How nnU-Net's usual function resamples from a spacing to another.

    Parameters
    ----------
    function : `resampling_fn_data` or `resampling_fn_probabilities` of a configuration
    current, wanted : spacing (z, y, x) in mm

    Returns
    -------
    order, nearest
        Order of interpolation, and the axis along which the nearest plane is taken or None.
        None instead of both where the plans name another function, or ask it for something else.
    """
    from nnunetv2.preprocessing.resampling.default_resampling import (
        ANISO_THRESHOLD,
        determine_do_sep_z_and_axis,
        resample_data_or_seg_to_shape,
    )

    options = dict(function.keywords)
    order, order_z = options.pop("order", 3), options.pop("order_z", 0)
    force = options.pop("force_separate_z", False)
    threshold = options.pop("separate_z_anisotropy_threshold", ANISO_THRESHOLD)
    labels = options.pop("is_seg", False)
    if function.func is not resample_data_or_seg_to_shape or options or labels or order_z != 0:
        return None
    separate, axis = determine_do_sep_z_and_axis(force, current, wanted, threshold)
    return order, int(axis) if separate else None


def resampled(
    data: Array,
    shape: Sequence[int],
    function: partial[Any],
    current: Sequence[float],
    wanted: Sequence[float],
) -> Array:
    """Resample a normalised image.

    Parameters
    ----------
    data : float32 (channel, z, y, x), contiguous
    shape : wanted, (z, y, x)
    function : `resampling_fn_data` of the configuration
    current, wanted : spacing (z, y, x) in mm
    """
    if tuple(shape) == data.shape[1:]:
        return data
    usual = usual_resampling(function, current, wanted)
    if usual is None or usual[0] != 3:
        return np.asarray(function(data, shape, current, wanted))
    nearest = usual[1]
    out = np.empty((len(data), *shape), np.float32)
    for channel, image in enumerate(data):
        z, y, x = (int(size) for size in shape)
        if nearest is None:
            out[channel] = resize_cubic(image, (z, y, x))
            continue
        planes = np.ascontiguousarray(np.moveaxis(image, nearest, 0))
        depth, height, width = np.moveaxis(out[channel], nearest, 0).shape
        out[channel] = np.moveaxis(resize_planes(planes, (depth, height, width)), 0, nearest)
    return out

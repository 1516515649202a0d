"""Label maps in which each lesion is part of the organ that it lies in.

Parts and holes of an organ are counted in these: a lesion neither cuts its host in two nor is a
hole of it, whether it has a label of its own or was left out by a segmenter.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from backsplit.cases.instances import Instance, grown
from backsplit.volume import Array, Grid


@dataclass(frozen=True)
class Filled:
    """A label map with lesions given to their hosts.

    Attributes
    ----------
    array : ids, (z, y, x); one above all names where a lesion without host is no label
    box : part of the volume that holds every change
    lost : ids of which voxels were given away
    gained : change of the number of voxels by id, of as many ids as `array` may hold
    """

    array: Array
    box: tuple[slice, ...]
    lost: tuple[int, ...]
    gained: Array


def in_label_map(labels: Array, lesions: Sequence[tuple[Instance, int | None]]) -> Filled | None:
    """A composed label map with the lesions given to their hosts; None where nothing changes.

    Parameters
    ----------
    labels : ids, (z, y, x)
    lesions : each with the id of its host
    """
    return _filled(labels, [(lesion.places, host) for lesion, host in lesions if host is not None])


def in_segmentation(
    labels: Array, lesions: Sequence[tuple[Instance, Collection[int]]], count: int, grid: Grid
) -> Filled | None:
    """A segmenter's label map with the lesions that it left out given to their hosts.

    Of several classes that are the host (left and right) the one that has most voxels round the
    lesion takes it. A lesion that lies in no class of its host is `count`: no structure, and no
    hole of one.

    Parameters
    ----------
    labels : the segmenter's values, (z, y, x)
    lesions : each with the values of its host
    count : values are below it
    grid : where the label map lies
    """
    given = []
    for lesion, values in lesions:
        places = lesion.places[labels.reshape(-1)[lesion.places] == 0]
        around = np.bincount(labels[grown(lesion.box, 0.0, grid)].ravel(), minlength=count)
        host = max(values, key=lambda value: (around[value], -value), default=None)
        given.append((places, host if host is not None and around[host] else count))
    return _filled(labels, given)


def _filled(labels: Array, given: Sequence[tuple[Array, int]]) -> Filled | None:
    given = [(places, label) for places, label in given if len(places)]
    if not given:
        return None
    highest = max(label for _, label in given)
    array = labels.astype(np.promote_types(labels.dtype, np.min_scalar_type(highest)))
    flat = array.reshape(-1)
    places = np.concatenate([places for places, _ in given])
    before = flat[places].astype(np.int64)
    for mine, label in given:
        flat[mine] = label
    length = max(int(before.max()), highest) + 1
    after = np.bincount(flat[places], minlength=length)
    gained = after - np.bincount(before, minlength=length)
    index = np.unravel_index(places, labels.shape)
    box = tuple(slice(int(i.min()), int(i.max()) + 1) for i in index)
    return Filled(array, box, tuple(np.unique(before[before > 0]).tolist()), gained)

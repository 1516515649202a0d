"""Where forced patches lie: a case's class locations are narrowed to its targets, now and then.

nnU-Net centres a forced patch on a class drawn among all that a case has: with thirty structures
on a lesion in a thirtieth of them. It asks the data set for a case and its class locations each
time; a data set that leaves the others out decides what the patch is centred on.

Where a data set has an ignore label, nnU-Net centres the patches that are not forced on annotated
voxels: in a patient without anatomy these are the lesions. `anywhere` keeps them random.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import cc3d
import numpy as np

from backsplit.volume import Array

Locations = Mapping[Any, Array | Sequence[Any]]
"""Class, or a tuple of classes, to voxels (n, 4): channel, z, y, x; an empty sequence: none."""

PER_LESION = 200
"""Voxels that are kept of a lesion to centre patches on."""

# nnU-Net's word for a case without places, which `anywhere` asks for
warnings.filterwarnings("ignore", message="Warning! No annotated pixels in image!")


class TargetSampling:
    """A data set of nnU-Net, whose forced patches are centred on targets with a probability.

    Parameters
    ----------
    data : nnU-Net's data set
    targets : number of targets; they have the ids 1 … targets
    share : of the forced patches that are centred on a target, where the case has one
    by_lesion : each lesion of the case as often as another, not each voxel
    anywhere : a patch that is to be centred on a target lies anywhere in a case without one, and so
        does each patch that is not forced: data sets with the same targets get the same patches
    """

    def __init__(
        self,
        data: Any,  # noqa: ANN401
        targets: int,
        share: float,
        *,
        by_lesion: bool,
        anywhere: bool = False,
    ) -> None:
        self.data, self.targets = data, range(1, targets + 1)
        self.share, self.by_lesion, self.anywhere = share, by_lesion, anywhere
        self.identifiers = data.identifiers
        self._lesions: dict[str, Sequence[tuple[int, Array]]] = {}

    def load_case(self, case: str) -> tuple[Any, Any, Any, dict[str, Any]]:
        """Load a case as nnU-Net does: image, labels, labels of the stage before, properties."""
        image, labels, before, properties = self.data.load_case(case)
        found: Locations = properties["class_locations"]
        if self.anywhere:  # no place: nnU-Net then draws one in the whole image
            found = {key: () if isinstance(key, tuple) else where for key, where in found.items()}
        if np.random.uniform() < self.share:
            found = self._narrowed(case, labels, found)
        return image, labels, before, {**properties, "class_locations": found}

    def _narrowed(self, case: str, labels: Any, locations: Locations) -> Locations:  # noqa: ANN401
        """The targets that the case has, and what is no single class (all annotated voxels)."""
        present = [t for t in self.targets if len(locations.get(t, ()))]
        if not present:
            return dict.fromkeys(locations, ()) if self.anywhere else locations
        kept = {key: where for key, where in locations.items() if isinstance(key, tuple)}
        if not self.by_lesion:
            return {**kept, **{target: locations[target] for target in present}}
        if case not in self._lesions:
            self._lesions[case] = lesions_of(np.asarray(labels[0]), self.targets)
        lesions = self._lesions[case]
        target, where = lesions[np.random.randint(len(lesions))]
        return {**kept, target: where}


def lesions_of(labels: Array, targets: Sequence[int]) -> list[tuple[int, Array]]:
    """Target and voxels of each lesion (26-connected component), evenly thinned.

    Parameters
    ----------
    labels : (z, y, x), ids
    targets : ids of the targets

    Returns
    -------
    lesions
        Target and at most `PER_LESION` voxels (n, 4): channel 0, z, y, x.
    """
    lesions = []
    for target in targets:
        mask = labels == target
        if not mask.any():
            continue
        box = _around(mask)
        small = np.ascontiguousarray(mask[box]).view(np.uint8)  # cc3d fails on tiny boolean ones
        components, count = cc3d.connected_components(small, connectivity=26, return_N=True)
        places = np.flatnonzero(components)
        numbers = components.reshape(-1)[places]
        order = np.argsort(numbers, kind="stable")
        starts = np.searchsorted(numbers[order], np.arange(1, count + 1))
        for mine in np.split(places[order], starts[1:]):
            some = mine[:: -(-len(mine) // PER_LESION)]
            index = np.unravel_index(some, components.shape)
            moved = [i + side.start for i, side in zip(index, box, strict=True)]
            lesions.append((target, np.stack([np.zeros_like(some), *moved], 1)))
    return lesions


def _around(mask: Array) -> tuple[slice, ...]:
    """Smallest box that holds all voxels of a mask."""
    axes = range(mask.ndim)
    held = [np.flatnonzero(mask.any(tuple(a for a in axes if a != axis))) for axis in axes]
    return tuple(slice(int(found[0]), int(found[-1]) + 1) for found in held)

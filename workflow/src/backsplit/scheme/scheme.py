"""Names and ids: the label table that comes out, and what each source's values become in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from backsplit.config.base import IGNORE, TargetValue
from backsplit.config.structures import By

Classes = Mapping[str, int]
"""What a segmenter can label: class name to the id in its label maps."""

Claims = Mapping[int, tuple[int, ...]]
"""Value in a layer's map to the label ids that it claims there, the strongest first; more than
one where masks of the layer overlap. Values that claim nothing are left out."""


@dataclass(frozen=True)
class Opinion:
    """Who decides on a structure that several segmenters label.

    Attributes
    ----------
    sources : the segmenters, the first counts most
    by : first, union, intersection, majority or staple
    disagree : `first`: what `by` says stands; `ignore`: voxels on which they disagree are unknown
    """

    sources: tuple[str, ...]
    by: By
    disagree: Literal["first", "ignore"]


@dataclass(frozen=True)
class Scheme:
    """The resolved naming of one data set.

    Attributes
    ----------
    targets : target name to what it is in the lesion file
    names : background, targets and structures by id
    sources : segmenter to {class name: label name}; the label may be `ignore`
    exceptions : (winner, loser) label names that overrule the order of layers
    hosts : target to the structures that its lesions can lie in
    regions : region name to label names, for nnU-Net's region-based training; empty for flat ids
    nested : structures of which also the first 0, 1, 2, … are emitted
    opinions : structure that several segmenters label to who decides
    lent : segmenter to classes that `compose.segmenter_lesions` alone gives to a structure: who
        looked for a lesion of the liver did not look for the liver
    """

    targets: Mapping[str, TargetValue]
    names: tuple[str, ...]
    sources: Mapping[str, Mapping[str, str]]
    exceptions: tuple[tuple[str, str], ...] = ()
    hosts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    regions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    nested: tuple[str, ...] = ()
    opinions: Mapping[str, Opinion] = field(default_factory=dict)
    lent: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def of_composing(self) -> Scheme:
        """The scheme without what only says which label sets are exported."""
        return replace(self, regions={}, nested=())

    @property
    def ignore_id(self) -> int:
        """Id of voxels whose label is unknown: the highest, as nnU-Net wants it."""
        return len(self.names)

    @property
    def ids(self) -> dict[str, int]:
        """Name to id: background 0, targets 1..T, structures after them, ignore last."""
        return {**{name: i for i, name in enumerate(self.names)}, IGNORE: self.ignore_id}

    @property
    def all_names(self) -> tuple[str, ...]:
        """Name of every id, ignore included."""
        return (*self.names, IGNORE)

    @property
    def structures(self) -> tuple[str, ...]:
        """Auxiliary classes in order of their ids."""
        return self.names[1 + len(self.targets) :]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Smallest integer type that holds every id."""
        return np.min_scalar_type(self.ignore_id)

    def claims(
        self, segmenter: str, classes: Classes, overlaps: Mapping[int, tuple[int, ...]]
    ) -> Claims:
        """What the values of a segmenter's label map claim.

        Parameters
        ----------
        segmenter : its name
        classes : its class names and values
        overlaps : value of a combination to the values that overlap there
        """
        wanted = self.sources.get(segmenter, {})
        ids = self.ids
        single = {classes[name]: ids[label] for name, label in wanted.items()}
        claims: dict[int, tuple[int, ...]] = {v: (label,) for v, label in single.items()}
        for value, members in overlaps.items():
            labels = tuple(dict.fromkeys(single[m] for m in members if m in single))
            if labels:
                claims[value] = labels
        return claims

    def nested_table(self, count: int, *, keep_ignore: bool) -> NDArray[Any]:
        """Lookup table from ids to those of the label set with the first structures of `nested`.

        Parameters
        ----------
        count : how many structures the set has; its ids are T+1 … T+count in `nested`'s order
        keep_ignore : whether voxels of unknown anatomy stay out of the loss (id T+count+1); they
            become background where the set has no anatomy
        """
        kept = [*self.targets, *self.nested[:count]]
        table = np.zeros(self.ignore_id + 1, np.min_scalar_type(len(kept) + 1))
        for new, name in enumerate(kept, start=1):
            table[self.ids[name]] = new
        table[self.ignore_id] = len(kept) + 1 if keep_ignore and count else 0
        return table

    def to_json(self) -> str:
        """The text of `labels.json`."""
        return json.dumps(self.ids, indent=1) + "\n"

"""Structures that several segmenters label: whose voxels are claimed, and whose are set aside.

A segmenter's opinion on a structure is the union of its classes of that structure. It votes where
it looked for all of them in the case. One that looked for some only is filled in by the others:
what it found counts with the first that knows all of it, and nowhere else. One that failed, or
looked for none, is not asked. Who looked at a part of the image only (a channel with a smaller
field of view, a label file on a smaller grid) votes there: elsewhere each voxel is decided as if it
had not been asked.

What the rule gives to the structure stays claimed by the layers that found it; by `first`, by those
that are followed alone. What else was found is set aside before the layers are laid down, as if it
had never been, and what is left out because the sources disagree becomes a claim of `ignore`, which
stands above every structure. All is counted: `said = stands + set_aside + ignored` of each source.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from backsplit.compose.layers import Layer
from backsplit.config.structures import FEWEST_VOTERS
from backsplit.scheme.scheme import Opinion, Scheme
from backsplit.volume import Array, Grid
from backsplit.volume.coverage import Box, Parts, covered_by_all
from backsplit.volume.pieces import count_values

STAPLE_ROUNDS = 100
"""Expectation and maximisation are repeated at most so often; they settle within some tens."""


@dataclass(frozen=True)
class Ballot:
    """Who knows of a structure in a case.

    Attributes
    ----------
    voters : segmenters that looked for all of their classes of it, the first counts most
    partial : those that looked for some of them
    within : those that did so in parts of the image, and the parts of each of their classes
    """

    voters: tuple[str, ...]
    partial: tuple[str, ...] = ()
    within: Mapping[str, tuple[Parts, ...]] = field(default_factory=dict)

    def first(self, sources: Sequence[str]) -> tuple[str, ...]:
        """The first that voted, and before it those that it fills in; all where none voted."""
        asked = [name for name in sources if name in {*self.voters, *self.partial}]
        ends = next((i for i, name in enumerate(asked) if name in self.voters), len(asked))
        return tuple(asked[: ends + 1])


@dataclass(frozen=True)
class Heard:
    """What became of a source's opinion: `said = stands + set_aside + ignored`, in voxels."""

    structure: str
    layer: str
    said: int
    stands: int
    set_aside: int
    ignored: int


class Hearing:
    """Hears the sources of each structure; takes the layers once, and keeps the account.

    Parameters
    ----------
    scheme : names and who decides
    ballots : structure to who knows of it in the case; those of one source are not in it
    grid : of the layers
    """

    def __init__(self, scheme: Scheme, ballots: Mapping[str, Ballot], grid: Grid) -> None:
        self.scheme = scheme
        self.ballots = ballots
        self.grid = grid
        self.heard: list[Heard] = []

    def layers(self, layers: Iterable[Layer]) -> Iterator[Layer]:
        """Layers without the claims that are set aside, in their order.

        Where votes are counted all layers are in memory at the same time, else one is.
        """
        counted = {
            name: ballot for name, ballot in self.ballots.items() if not self._is_whole(name)
        }
        if counted:
            boxed = [_Boxed(layer) for layer in layers]
            for name, ballot in counted.items():
                self._count(name, ballot, boxed)
            layers = (each.layer for each in boxed)
        for layer in layers:
            yield self._only_first(layer)

    def set_aside(self, layer: str) -> int:
        """Claims of a layer that were set aside."""
        return sum(heard.set_aside for heard in self.heard if heard.layer == layer)

    def _only_first(self, layer: Layer) -> Layer:
        """The layer without structures that another source decides on alone."""
        asked = {
            name: ballot.first(self.scheme.opinions[name].sources)
            for name, ballot in self.ballots.items()
            if self._is_whole(name) and layer.name in self.scheme.opinions[name].sources
        }
        if not asked:
            return layer
        length = max(layer.claims, default=0) + 1
        counts = count_values(layer.values, max(length, int(layer.values.max()) + 1))
        ids = self.scheme.ids
        gone = set()
        for name, chosen in asked.items():
            label = ids[name]
            said = sum(int(counts[v]) for v, labels in layer.claims.items() if label in labels)
            stands = said if layer.name in chosen else 0
            self.heard.append(Heard(name, layer.name, said, stands, said - stands, 0))
            if layer.name not in chosen:
                gone.add(label)
        left = {v: tuple(x for x in labels if x not in gone) for v, labels in layer.claims.items()}
        return Layer(layer.name, layer.values, {v: labels for v, labels in left.items() if labels})

    def _count(self, name: str, ballot: Ballot, boxed: Sequence[_Boxed]) -> None:
        """Count the votes on one structure, and set aside what they do not give to it."""
        opinion, label = self.scheme.opinions[name], self.scheme.ids[name]
        mine = [each for each in boxed if each.layer.name in opinion.sources]
        box = _union([box for each in mine for box in each.boxes_of(label)])
        if box is None:
            self.heard += [Heard(name, each.layer.name, 0, 0, 0, 0) for each in mine]
            return
        masks = {each.layer.name: each.mask(label, box) for each in mine}
        aside = {name: np.zeros_like(mask) for name, mask in masks.items()}
        ignored = {name: np.zeros_like(mask) for name, mask in masks.items()}
        for where, known in regions(masks, ballot, box, self.grid):
            said = {name: mask & where for name, mask in masks.items()}
            kept, unsure = decide(said, known, opinion)
            first = opinion.by == "first"
            followed = known.first(opinion.sources) if first else opinion.sources
            for source, mask in said.items():
                ignored[source] |= mask & unsure
                aside[source] |= mask & ~unsure & ~(kept if source in followed else unsure)
        for each in mine:
            source = each.layer.name
            each.replace(label, box, aside[source], None)
            each.replace(label, box, ignored[source], self.scheme.ignore_id)
            voxels = [int(np.count_nonzero(m[source])) for m in (masks, aside, ignored)]
            stands = voxels[0] - voxels[1] - voxels[2]
            self.heard.append(Heard(name, source, voxels[0], stands, *voxels[1:]))

    def _is_whole(self, name: str) -> bool:
        """Whether whole opinions are taken or left, so that no voxel has to be looked at."""
        opinion = self.scheme.opinions[name]
        by_first = opinion.by == "first" and opinion.disagree == "first"
        return by_first and not self.ballots[name].within


def ballots(
    scheme: Scheme,
    failed: Mapping[str, str],
    missing: Mapping[str, Mapping[str, str]],
    excluded: Collection[str] = (),
    within: Mapping[str, Mapping[str, Parts]] = MappingProxyType({}),
) -> dict[str, Ballot]:
    """Who knows of each structure that several segmenters label.

    Parameters
    ----------
    scheme : names, sources and opinions
    failed : segmenter that failed in this case to the reason
    missing : segmenter to its classes that nobody could look for in this case, and why
    excluded : structures that were excluded from this case; nobody is asked for them
    within : segmenter to its classes that were looked for in parts of the image only
    """
    found = {}
    for name, opinion in scheme.opinions.items():
        if name in excluded:
            continue
        voters: list[str] = []
        partial: list[str] = []
        parts: dict[str, tuple[Parts, ...]] = {}
        for segmenter in opinion.sources:
            classes = [c for c, label in scheme.sources[segmenter].items() if label == name]
            lacking = [c for c in classes if c in missing.get(segmenter, {})]
            if segmenter in failed or len(lacking) == len(classes):
                continue
            (partial if lacking else voters).append(segmenter)
            limits = within.get(segmenter, {})
            looked_for = [c for c in classes if c not in lacking]
            if any(c in limits for c in looked_for):
                parts[segmenter] = tuple(limits.get(c, ()) for c in looked_for)
        found[name] = Ballot(tuple(voters), tuple(partial), parts)
    return found


def regions(
    masks: Mapping[str, Array], ballot: Ballot, box: Box, grid: Grid
) -> Iterator[tuple[Array, Ballot]]:
    """Parts of a box in which the same sources know of a structure.

    Parameters
    ----------
    masks : source to its opinion, bool arrays of the box
    ballot : who knows of the structure in the case, and where
    box : in the image
    grid : of the image

    Yields
    ------
    where, known
        A part, bool array of the box, and who knows of the structure in it.
    """
    shape = next(iter(masks.values())).shape
    if not ballot.within:
        yield np.ones(shape, bool), ballot
        return
    none, some, every = range(3)
    levels: dict[str, Array] = {}
    pattern = np.zeros(shape, np.uint32)
    for name, parts in ballot.within.items():
        looked = [covered_by_all(grids, grid, box) for grids in parts]
        most = every if name in ballot.voters else some
        level = np.where(np.logical_or.reduce(looked), some, none)
        level[np.logical_and.reduce(looked)] = most
        level[masks[name] & (level == none)] = most  # edges are rounded: it has looked there
        levels[name] = level
        pattern = 3 * pattern + level.astype(np.uint32)
    for code in np.unique(pattern).tolist():
        where = pattern == code
        at = np.unravel_index(np.argmax(where), where.shape)
        here = {name: int(level[at]) for name, level in levels.items()}
        voters = [name for name in ballot.voters if here.get(name, every) == every]
        partial = [name for name in ballot.voters if here.get(name, every) == some]
        partial += [name for name in ballot.partial if here.get(name, some) == some]
        yield where, Ballot(tuple(voters), tuple(partial))


def decide(masks: Mapping[str, Array], ballot: Ballot, opinion: Opinion) -> tuple[Array, Array]:
    """Decide on a structure from the opinions of its sources.

    Parameters
    ----------
    masks : source to its opinion, bool arrays of one shape
    ballot : who votes
    opinion : who decides

    Returns
    -------
    kept, unsure
        Voxels that the structure has, and those that are left out of the loss because the voters
        disagree; no voxel is both, and each is claimed by a source.
    """
    nothing = np.zeros_like(next(iter(masks.values())))
    votes = [masks[name] for name in opinion.sources if name in ballot.voters]
    told = ballot.first(opinion.sources)
    first = np.logical_or.reduce([masks[name] for name in told]) if told else nothing
    if not votes:
        return first, nothing
    count = np.asarray(np.sum(votes, axis=0, dtype=np.uint8))
    if opinion.by == "union":
        kept = np.logical_or.reduce([*votes, *(masks[name] for name in ballot.partial)])
    elif opinion.by == "intersection":
        kept = count == len(votes)
    elif opinion.by == "staple" and len(votes) >= FEWEST_VOTERS:
        kept = _staple(votes, count)
    elif opinion.by == "first":
        kept = first
    else:  # of two who differ neither is in the majority: the first of the list decides
        kept = (2 * count > len(votes)) | ((2 * count == len(votes)) & votes[0])
    if opinion.disagree == "first":
        return kept, nothing
    unsure = np.asarray((count > 0) & (count < len(votes)))
    return kept & ~unsure, unsure


def _staple(votes: Sequence[Array], count: Array) -> Array:
    """Voxels of which STAPLE holds it as likely as not that they are the structure's.

    Warfield et al., IEEE Trans. Med. Imaging 23 (2004), as SimpleITK has it, over the box that
    holds all votes: over a whole image the background, on which all agree, drowns them. What
    no source claims is nobody's.
    """
    import SimpleITK as sitk
    from scipy import ndimage

    if not ((count > 0) & (count < len(votes))).any():
        return np.asarray(count > 0)
    (box,) = ndimage.find_objects((count > 0).astype(np.uint8))
    images = [sitk.GetImageFromArray(vote[box].astype(np.uint8)) for vote in votes]
    staple = sitk.STAPLEImageFilter()
    staple.SetForegroundValue(1)
    staple.SetMaximumIterations(STAPLE_ROUNDS)
    kept = count > 0
    kept[box] &= sitk.GetArrayFromImage(staple.Execute(images)) >= 0.5
    return np.asarray(kept)


class _Boxed:
    """A layer whose values are changed in place, and where each of them lies."""

    def __init__(self, layer: Layer) -> None:
        from scipy import ndimage  # where votes are counted only: it takes a while to import

        self.values = np.array(layer.values)
        self.claims = dict(layer.claims)
        self.name = layer.name
        self.boxes: list[Box | None] = ndimage.find_objects(self.values)
        self.free = max([len(self.boxes), *self.claims]) + 1

    @property
    def layer(self) -> Layer:
        """The layer as it is now."""
        return Layer(self.name, self.values, self.claims)

    def boxes_of(self, label: int) -> list[Box]:
        """Boxes of the values that claim a label."""
        found = [self.boxes[v - 1] for v in self._claiming(label) if v <= len(self.boxes)]
        return [box for box in found if box is not None]

    def mask(self, label: int, box: Box) -> Array:
        """Where a label is claimed, in a box."""
        return np.isin(self.values[box], self._claiming(label))

    def replace(self, label: int, box: Box, where: Array, by: int | None) -> None:
        """Claim another label, or none, in the place of one where a mask says so."""
        part = self.values[box]
        for value in np.unique(part[where]).tolist():
            labels = [by if x == label else x for x in self.claims[value]]
            new = self._value_of(tuple(dict.fromkeys(x for x in labels if x is not None)), box)
            part = self.values[box]
            part[where & (part == value)] = new

    def _claiming(self, label: int) -> list[int]:
        return [value for value, labels in self.claims.items() if label in labels]

    def _value_of(self, claimed: tuple[int, ...], box: Box) -> int:
        """The value that claims these labels, from now on in a box too; 0 claims none."""
        if not claimed:
            return 0
        value = next((v for v, labels in self.claims.items() if labels == claimed), None)
        if value is None:
            value, self.free = self.free, self.free + 1
            self.claims[value] = claimed
            wider = np.promote_types(self.values.dtype, np.min_scalar_type(value))
            self.values = self.values.astype(wider, copy=False)
        self.boxes += [None] * (value - len(self.boxes))
        self.boxes[value - 1] = _union([b for b in (self.boxes[value - 1], box) if b is not None])
        return value


def _union(boxes: Sequence[Box]) -> Box | None:
    """The box that holds all boxes; None for none."""
    if not boxes:
        return None
    z, y, x = (
        slice(min(box[axis].start for box in boxes), max(box[axis].stop for box in boxes))
        for axis in range(3)
    )
    return z, y, x

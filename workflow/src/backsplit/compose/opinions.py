"""Structures that several segmenters label: whose voxels are claimed, and whose are set aside.

A segmenter's opinion on a structure is the union of its classes of that structure. It votes where
it looked for all of them in the case. One that looked for some only is filled in by the others:
what it found counts with the first that knows all of it, and nowhere else. One that failed, or
looked for none, is not asked.

What the rule gives to the structure stays claimed by the layers that found it; by `first`, by those
that are followed alone. What else was found is set aside before the layers are laid down, as if it
had never been, and what is left out because the sources disagree becomes a claim of `ignore`, which
stands above every structure. All is counted: `said = stands + set_aside + ignored` of each source.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from backsplit.compose.layers import Layer
from backsplit.config.structures import FEWEST_VOTERS
from backsplit.scheme.scheme import Opinion, Scheme
from backsplit.volume import Array
from backsplit.volume.pieces import count_values

Box = tuple[slice, slice, slice]

STAPLE_ROUNDS = 100
"""Expectation and maximisation are repeated at most so often; they settle within some tens."""


@dataclass(frozen=True)
class Ballot:
    """Who knows of a structure in a case.

    Attributes
    ----------
    voters : segmenters that looked for all of their classes of it, the first counts most
    partial : those that looked for some of them
    """

    voters: tuple[str, ...]
    partial: tuple[str, ...] = ()

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
    """

    def __init__(self, scheme: Scheme, ballots: Mapping[str, Ballot]) -> None:
        self.scheme = scheme
        self.ballots = ballots
        self.heard: list[Heard] = []

    def layers(self, layers: Iterable[Layer]) -> Iterator[Layer]:
        """Layers without the claims that are set aside, in their order.

        Where votes are counted all layers are in memory at the same time, else one is.
        """
        counted = {
            name: ballot
            for name, ballot in self.ballots.items()
            if not _is_first(self.scheme.opinions[name])
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
            if _is_first(self.scheme.opinions[name])
            and layer.name in self.scheme.opinions[name].sources
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
        kept, unsure = decide(masks, ballot, opinion)
        followed = ballot.first(opinion.sources) if opinion.by == "first" else opinion.sources
        for each in mine:
            said = masks[each.layer.name]
            ignored = said & unsure
            aside = said & ~unsure
            if each.layer.name in followed:
                aside &= ~kept
            each.replace(label, box, aside, None)
            each.replace(label, box, ignored, self.scheme.ignore_id)
            voxels = [int(np.count_nonzero(mask)) for mask in (said, aside, ignored)]
            stands = voxels[0] - voxels[1] - voxels[2]
            self.heard.append(Heard(name, each.layer.name, voxels[0], stands, *voxels[1:]))


def ballots(
    scheme: Scheme,
    failed: Mapping[str, str],
    missing: Mapping[str, Mapping[str, str]],
    unknown: Collection[str] = (),
) -> dict[str, Ballot]:
    """Who knows of each structure that several segmenters label.

    Parameters
    ----------
    scheme : names, sources and opinions
    failed : segmenter that failed in this case to the reason
    missing : segmenter to its classes that nobody could look for in this case, and why
    unknown : structures that were excluded from this case; nobody is asked for them
    """
    found = {}
    for name, opinion in scheme.opinions.items():
        if name in unknown:
            continue
        voters: list[str] = []
        partial: list[str] = []
        for segmenter in opinion.sources:
            classes = [c for c, label in scheme.sources[segmenter].items() if label == name]
            lacking = [c for c in classes if c in missing.get(segmenter, {})]
            if segmenter in failed or len(lacking) == len(classes):
                continue
            (partial if lacking else voters).append(segmenter)
        found[name] = Ballot(tuple(voters), tuple(partial))
    return found


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


def _is_first(opinion: Opinion) -> bool:
    """Whether whole opinions are taken or left, so that no voxel has to be looked at."""
    return opinion.by == "first" and opinion.disagree == "first"


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

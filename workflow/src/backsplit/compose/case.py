"""One case: layers in, label map and account out. Nothing here reads or writes files."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from types import MappingProxyType

import numpy as np

from backsplit.cases.instances import Instance, find_instances, grown
from backsplit.cases.lesion import Lesion
from backsplit.compose.host import NO_HOST, Host, find_host, look_mm
from backsplit.compose.layers import (
    Composer,
    Layer,
    LayerAccount,
    Overruled,
    Precedence,
    State,
)
from backsplit.compose.opinions import Ballot, Heard, Hearing
from backsplit.compose.repair import Repaired, repair
from backsplit.compose.status import SEEN_IN_PART, statuses
from backsplit.config.base import IGNORE
from backsplit.config.compose import HOLES_WITHIN_MM
from backsplit.config.slices import Merging
from backsplit.scheme.scheme import Scheme
from backsplit.store.sidecars import StructureEntry
from backsplit.volume import Array, Grid
from backsplit.volume.coverage import Parts, covered_by_all
from backsplit.volume.pieces import count_values, places_of

TARGETS = "targets"


@dataclass(frozen=True)
class Rules:
    """How layers become one label map.

    Attributes
    ----------
    scheme : names and ids
    merging : order of layers, and what else composing goes by
    """

    scheme: Scheme
    merging: Merging

    @property
    def precedence(self) -> Precedence:
        """Exceptions from the order, as ids; what is ignored is, whoever labels it."""
        ids = self.scheme.ids
        exceptions = [(ids[winner], ids[loser]) for winner, loser in self.scheme.exceptions]
        asked = any(IGNORE in classes.values() for classes in self.scheme.sources.values())
        if asked or any(o.disagree == "ignore" for o in self.scheme.opinions.values()):
            exceptions += [(self.scheme.ignore_id, ids[name]) for name in self.scheme.structures]
        return Precedence(exceptions)


@dataclass(frozen=True)
class LesionFound:
    """One lesion, its host, and what was repaired round it."""

    instance: Instance
    host: Host
    repaired: Repaired | None


@dataclass(frozen=True)
class ComposedCase:
    """A label map and the account of how it came to be.

    Attributes
    ----------
    labels : ids, (z, y, x)
    counts : voxels of each id
    ignored : voxels that became `ignore` because a structure is unknown
    heard : what became of the opinions on structures that several segmenters label
    """

    labels: Array
    counts: Array
    accounts: tuple[LayerAccount, ...]
    overruled: tuple[Overruled, ...]
    ignored: int
    lesions: tuple[LesionFound, ...]
    structures: tuple[StructureEntry, ...]
    heard: tuple[Heard, ...] = ()


def compose_case(
    grid: Grid,
    lesion: Lesion | None,
    layers: Iterable[Layer],
    unknown: Mapping[str, str],
    body: Callable[[], Array],
    rules: Rules,
    asked: Mapping[str, Ballot] = MappingProxyType({}),
    excluded: Collection[str] = (),
    seen: Mapping[str, tuple[Parts, ...]] = MappingProxyType({}),
) -> ComposedCase:
    """Compose one case.

    Parameters
    ----------
    grid : the image's grid
    lesion : the lesion file on that grid, None if there is none
    layers : by precedence, without the targets; each is taken once and let go
    unknown : structures that could not be labelled, and why
    body : makes the mask of the body, (z, y, x); called at most once, where a structure is unknown
        or could be where nobody looked for it
    rules : names, order, exceptions
    asked : structure that several segmenters label to who knows of it in the case
    excluded : unknown structures whose labels are wrong, and hidden; of the others what was found
        stays
    seen : structures that were looked for in a part of the image only, and where, as
        `partly_seen` has it: those that could be elsewhere in the body are unknown as well
    """
    hearing = Hearing(rules.scheme, asked, grid)
    composer = Composer(grid.shape, rules.precedence)
    places = np.zeros(0, np.int64)
    if lesion is not None:
        composer.add(Layer(TARGETS, lesion.map.array, lesion.claims))
        places = places_of(composer.states)
    beneath = Composer(places.shape, rules.precedence)
    for layer in hearing.layers(layers):
        composer.add(layer)
        beneath.add(Layer(layer.name, layer.values.reshape(-1)[places], layer.claims))
    hidden = {rules.scheme.ids[structure] for structure in excluded}
    where, elsewhere = _where_unknown(composer, unknown, seen, hidden, cache(body), grid, rules)
    unknown = {**unknown, **elsewhere}
    labels = composer.settle(lambda s: 0 if s.label in hidden else s.label, rules.scheme.dtype)
    ignored = 0
    if where is not None and rules.merging.unknown == "ignore":
        labels[where] = rules.scheme.ignore_id
        ignored = int(np.count_nonzero(where))
    under = beneath.labels(labels.dtype)
    found = _lesions(labels, places, under, grid, lesion, rules)
    counts = _count(composer, labels, found, unknown, rules)
    return ComposedCase(
        labels,
        counts,
        tuple(_with_aside(account, hearing) for account in composer.accounts()),
        tuple(composer.overruled()),
        ignored,
        tuple(found),
        tuple(statuses(labels, grid, rules.scheme, counts, unknown)),
        tuple(hearing.heard),
    )


def _with_aside(account: LayerAccount, hearing: Hearing) -> LayerAccount:
    """The account of a layer, with what was set aside before it was laid down."""
    aside = hearing.set_aside(account.layer)
    return replace(account, claimed=account.claimed + aside, set_aside=aside)


def _count(
    composer: Composer,
    labels: Array,
    found: Sequence[LesionFound],
    unknown: Mapping[str, str],
    rules: Rules,
) -> Array:
    """Voxels of each id: the composer knows them, unless something was hidden or ignored."""
    if unknown:
        return count_values(labels, rules.scheme.ignore_id + 1)
    counts = np.zeros(rules.scheme.ignore_id + 1, np.int64)
    for state, voxels in zip(composer.known, composer.voxels.tolist(), strict=True):
        counts[state.label] += voxels
    for lesion in found:
        if lesion.repaired is not None:
            for label, voxels in lesion.repaired.before.items():
                counts[label] -= voxels
                counts[lesion.host.label] += voxels
    counts[0] = labels.size - counts[1:].sum()
    return counts


def _where_unknown(
    composer: Composer,
    unknown: Mapping[str, str],
    seen: Mapping[str, tuple[Parts, ...]],
    hidden: set[int],
    body: Callable[[], Array],
    grid: Grid,
    rules: Rules,
) -> tuple[Array | None, dict[str, str]]:
    """Where unknown structures could be.

    Returns
    -------
    where, elsewhere
        Voxels of the body that an unknown structure may have, bool (z, y, x), None for none; and
        the structures that are unknown because some of these lie where nobody looked for them, with
        the reason.
    """
    could_be = cache(partial(_could_be, composer, frozenset(hidden), rules))
    where = None
    if unknown and rules.merging.unknown == "ignore":
        where = could_be(_strongest(unknown, rules)) & body()
    elsewhere: dict[str, str] = {}
    alike: dict[tuple[Parts, ...], list[str]] = {}
    for structure, parts in seen.items():
        if structure not in unknown:
            alike.setdefault(parts, []).append(structure)
    for parts, structures in alike.items():
        looked = np.logical_or.reduce([covered_by_all(grids, grid) for grids in parts])
        if looked.all():
            continue
        outside = could_be(_strongest(structures, rules)) & ~looked & body()
        if outside.any():
            elsewhere |= dict.fromkeys(structures, SEEN_IN_PART)
            where = outside if where is None else where | outside
    return where, elsewhere


def _strongest(unknown: Iterable[str], rules: Rules) -> int:
    """Rank of the strongest layer that unknown structures can be in."""
    wanted, layers = set(unknown), rules.merging.layers
    sources = rules.scheme.sources
    return min(i for i, name in enumerate(layers) if wanted & set(sources.get(name, {}).values()))


def _could_be(composer: Composer, hidden: Collection[int], rules: Rules, strongest: int) -> Array:
    """Voxels that structures of this rank may have by what is labelled there, bool (z, y, x).

    Those that nobody labelled, and those of labels that are hidden. What another layer labelled
    stays, whether it is stronger or weaker: it was looked at. Bands of intensity are no anatomy,
    so that where they are weaker than the unknown structure their voxels may be its own.
    """
    weaker = {*rules.merging.layers[strongest + 1 :]} & {*rules.merging.bands}

    def could_be(state: State) -> int:
        in_band = state.layer in weaker and state.label != rules.scheme.ignore_id
        return int(not state.label or state.label in hidden or in_band)

    return np.asarray(composer.look_up(could_be, np.uint8) != 0)


def _lesions(
    labels: Array,
    places: Array,
    under: Array,
    grid: Grid,
    lesion: Lesion | None,
    rules: Rules,
) -> list[LesionFound]:
    """Tell the lesions apart, find the host of each, and repair round it."""
    if lesion is None:
        return []
    instances = find_instances(labels, places, len(rules.scheme.targets), grid, lesion.given)
    hosts = [_host(labels, places, under, grid, instance, rules) for instance in instances]
    return [
        LesionFound(instance, host, _repair(labels, grid, instance, host, rules))
        for instance, host in zip(instances, hosts, strict=True)
    ]


def _host(
    labels: Array,
    places: Array,
    under: Array,
    grid: Grid,
    instance: Instance,
    rules: Rules,
) -> Host:
    scheme = rules.scheme
    target = scheme.names[instance.target]
    candidates = [scheme.ids[name] for name in scheme.hosts.get(target, ())]
    if not candidates:
        return NO_HOST
    box = grown(instance.box, look_mm(instance.voxels, grid.voxel_ml), grid)
    anatomy = labels[box].copy()
    lesions = np.argwhere((anatomy > 0) & (anatomy <= len(scheme.targets)))
    start = [side.start for side in box]
    flat = np.ravel_multi_index(tuple((lesions + start).T), labels.shape)
    anatomy[tuple(lesions.T)] = under[np.searchsorted(places, flat)]
    mask = instance.mask(box, labels.shape)
    return find_host(mask, anatomy, grid.spacing_zyx, candidates)


def _repair(
    labels: Array,
    grid: Grid,
    instance: Instance,
    host: Host,
    rules: Rules,
) -> Repaired | None:
    settings = rules.merging.repair
    if host.label is None or not settings.is_on:
        return None
    box = grown(instance.box, max(settings.rim_mm, HOLES_WITHIN_MM), grid)
    free = [0, *(rules.scheme.ids[name] for name in settings.over)]
    return repair(
        labels[box],
        instance.mask(box, labels.shape),
        host.label,
        grid.spacing_zyx,
        free,
        rim_mm=settings.rim_mm,
        holes=settings.holes,
    )

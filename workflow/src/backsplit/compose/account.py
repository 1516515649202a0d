"""The sidecar of a label map: what it holds, which voxels were overridden and why, in words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict

from backsplit.compose.case import TARGETS, ComposedCase, LesionFound, Rules
from backsplit.compose.layers import Overruled
from backsplit.compose.opinions import Heard
from backsplit.store.sidecars import (
    ComposeDetails,
    DrawnEntry,
    Known,
    LayerEntry,
    LesionEntry,
    OpinionEntry,
    OverruledEntry,
    RepairEntry,
    SegmentDetails,
)
from backsplit.volume import Grid

SHOWN = 8
"""Lines about overridden voxels in the summary, of which `overruled` has all; names in a line."""


def details(
    composed: ComposedCase,
    grid: Grid,
    rules: Rules,
    notes: tuple[str, ...],
    found: Mapping[str, SegmentDetails],
    failed: Mapping[str, str],
    drawn: tuple[DrawnEntry, ...] = (),
) -> ComposeDetails:
    """Content of the sidecar, names for ids.

    Parameters
    ----------
    composed : the label map and its account
    grid : its grid
    rules : names and settings
    notes : what was done to the lesion files to have them on the grid
    found : segmenter to what it found in the case
    failed : segmenter to why it found nothing
    drawn : what the lesion files say, held against the label map
    """
    names = rules.scheme.all_names
    ml = grid.voxel_ml
    sources = rules.scheme.sources
    return ComposeDetails(
        summary=(*_summary(composed, rules, ml, notes), *_coverage(found)),
        voxel_ml=round(ml, 9),
        voxels={name: int(composed.counts[i]) for name, i in rules.scheme.ids.items()},
        drawn=drawn,
        lesions=tuple(_lesion(lesion, names, ml) for lesion in composed.lesions),
        structures=composed.structures,
        layers=tuple(LayerEntry(**asdict(account)) for account in composed.accounts),
        opinions=tuple(_opinion(heard, rules) for heard in composed.heard),
        overruled=tuple(
            OverruledEntry(
                loser=names[o.loser.label],
                loser_layer=o.loser.layer,
                winner=names[o.winner.label],
                winner_layer=o.winner.layer,
                voxels=o.voxels,
                volume_ml=round(o.voxels * ml, 4),
                why=_why(o, rules),
            )
            for o in composed.overruled
        ),
        ignored_voxels=composed.ignored,
        classes_without_structure={
            segmenter: {n: v for n, v in s.voxels.items() if n not in sources[segmenter]}
            for segmenter, s in found.items()
        },
        failed_segmenters=dict(failed),
    )


def _lesion(found: LesionFound, names: tuple[str, ...], ml: float) -> LesionEntry:
    instance, host, repaired = found.instance, found.host, found.repaired
    x, y, z = (round(c, 2) for c in instance.centroid_mm)
    box = instance.box
    return LesionEntry(
        instance=instance.number,
        target=names[instance.target],
        voxels=instance.voxels,
        volume_ml=round(instance.voxels * ml, 6),
        centroid_mm=(x, y, z),
        box_zyx=(
            (box[0].start, box[0].stop),
            (box[1].start, box[1].stop),
            (box[2].start, box[2].stop),
        ),
        host=None if host.label is None else names[host.label],
        host_basis=host.basis,
        inside_fraction=round(host.inside, 4),
        shell_fraction=round(host.shell, 4),
        closed_fraction=round(host.closed, 4),
        distance_mm=None if math.isnan(host.distance_mm) else round(host.distance_mm, 3),
        repair=None
        if repaired is None
        else RepairEntry(
            rim_voxels=repaired.rim,
            hole_voxels=repaired.holes,
            were={names[label]: voxels for label, voxels in repaired.before.items()},
        ),
    )


def _opinion(heard: Heard, rules: Rules) -> OpinionEntry:
    return OpinionEntry(**asdict(heard), by=rules.scheme.opinions[heard.structure].by)


def _opinions(composed: ComposedCase, rules: Rules, ml: float) -> Iterator[str]:
    """What several segmenters say of a structure, and whom the label map follows."""
    for structure, opinion in rules.scheme.opinions.items():
        mine = [heard for heard in composed.heard if heard.structure == structure]
        aside = [heard for heard in mine if heard.set_aside]
        unsure = max((heard.ignored for heard in mine), default=0)
        if not aside and not unsure:
            continue
        what = ", ".join(f"{_ml(heard.set_aside * ml)} of {heard.layer}" for heard in aside)
        yield (
            f"{structure} by {opinion.by} of {', '.join(opinion.sources)}: "
            + "; ".join(
                [f"{what} set aside"] * bool(aside)
                + ["voxels on which they disagree are `ignore`"] * bool(unsure)
            )
        )


def _coverage(found: Mapping[str, SegmentDetails]) -> Iterator[str]:
    """Segmenters that looked at a part of the image only."""
    for segmenter, told in found.items():
        classes = list(dict.fromkeys(name for part in told.coverage for name in part.classes))
        if classes:
            more = f" and {len(classes) - SHOWN} more" if len(classes) > SHOWN else ""
            yield (
                f"{segmenter} looked at a part of the image only, for "
                f"{', '.join(classes[:SHOWN])}{more}"
            )


def _why(o: Overruled, rules: Rules) -> str:
    names = rules.scheme.all_names
    if o.winner.label == rules.scheme.ignore_id:
        return "what is to be ignored is ignored, whoever labels it"
    if (names[o.winner.label], names[o.loser.label]) in rules.scheme.exceptions:
        return f"exception: {names[o.winner.label]} over {names[o.loser.label]}"
    if o.winner.layer == o.loser.layer:
        return f"masks of {o.winner.layer} overlap; the one listed first wins"
    if o.winner.layer == TARGETS:
        return "lesions win over all segmenters"
    return f"{o.winner.layer} comes before {o.loser.layer} in compose.order"


def _summary(
    composed: ComposedCase, rules: Rules, ml: float, notes: tuple[str, ...]
) -> Iterator[str]:
    """The most important facts first."""
    names = rules.scheme.all_names
    yield from notes
    for label, target in enumerate(rules.scheme.targets, start=1):
        mine = [found for found in composed.lesions if found.instance.target == label]
        if mine:
            volume = sum(found.instance.voxels for found in mine) * ml
            yield f"{target}: {len(mine)} lesion(s), {_ml(volume)}, {_hosts(mine, names)}"
        else:
            yield f"{target}: none"
    for s in composed.structures:
        if s.status == Known.UNKNOWN:
            yield f"{s.structure} is unknown: {s.reason}"
    if composed.ignored:
        yield f"{_ml(composed.ignored * ml)} where unknown structures could be are `ignore`"
    told = int(composed.counts[rules.scheme.ignore_id]) - composed.ignored
    if told > 0:
        yield f"{_ml(told * ml)} are `ignore` because the configuration says so"
    yield from _opinions(composed, rules, ml)
    repaired = [f for f in composed.lesions if f.repaired and (f.repaired.rim or f.repaired.holes)]
    for found in repaired:
        assert found.repaired is not None and found.host.label is not None
        voxels = found.repaired.rim + found.repaired.holes
        target = names[found.instance.target]
        yield (
            f"{names[found.host.label]} got {_ml(voxels * ml)} around lesion "
            f"{found.instance.number} ({target})"
        )
    for o in composed.overruled[:SHOWN]:
        yield (
            f"{o.loser.layer} labelled {_ml(o.voxels * ml)} of {names[o.winner.label]} as "
            f"{names[o.loser.label]}: {_why(o, rules)}"
        )
    if len(composed.overruled) > SHOWN:
        yield f"… and {len(composed.overruled) - SHOWN} smaller overlaps"


def _hosts(found: list[LesionFound], names: tuple[str, ...]) -> str:
    hosts: Counter[str] = Counter(
        "no organ" if f.host.label is None else names[f.host.label] for f in found
    )
    return ", ".join(f"{count} in {host}" for host, count in hosts.most_common())


def _ml(volume_ml: float) -> str:
    """A volume for reading."""
    return f"{volume_ml:.0f} ml" if volume_ml >= 100 else f"{volume_ml:.3g} ml"

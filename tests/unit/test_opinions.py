"""Structures that several segmenters label, against a reference that goes voxel by voxel."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from backsplit.compose.case import Rules, compose_case
from backsplit.compose.layers import Layer
from backsplit.compose.opinions import Ballot, ballots, decide
from backsplit.config.slices import Merging
from backsplit.scheme.scheme import Opinion, Scheme
from backsplit.volume import Grid
from support.composing import grid_of, lesion_of
from support.examples import examples

SHAPE = (3, 4, 5)
SEGMENTERS = ("a", "b", "c", "d")
STRUCTURES = ("liver", "spleen", "fat")
NAMES = ("background", "tumor", *STRUCTURES)
IDS = {name: number for number, name in enumerate(NAMES)}
IGNORE = len(NAMES)
WAYS = ("first", "union", "intersection", "majority", "staple")


@st.composite
def composed_cases(draw):
    """A scheme with opinions, and layers whose values may claim several structures."""
    used = draw(st.permutations(SEGMENTERS))[: draw(st.sampled_from([2, 3, 4, 4]))]
    opinions = {}
    for name in STRUCTURES:
        sources = tuple(draw(st.permutations(used))[: draw(st.sampled_from([1, 2, 4, 4]))])
        if len(sources) > 1:
            by = draw(st.sampled_from(WAYS if len(sources) > 2 else WAYS[:3]))
            opinions[name] = Opinion(sources, by, draw(st.sampled_from(["first", "ignore"])))
    lone = {name: draw(st.sampled_from(used)) for name in STRUCTURES if name not in opinions}
    layers, sources, asked = [], {}, {}
    for segmenter in used:
        mine = [n for n, opinion in opinions.items() if segmenter in opinion.sources]
        mine += [name for name, owner in lone.items() if owner == segmenter]
        claims = {}
        for value in range(1, draw(st.integers(1, 4)) + 1):
            labels = draw(st.permutations(mine))[: draw(st.integers(0, 2))]
            if labels:
                claims[value] = tuple(IDS[name] for name in labels)
        seed = draw(st.integers(0, 2**32 - 1))
        values = np.random.default_rng(seed).integers(0, 5, SHAPE).astype(np.uint8)
        layers.append(Layer(segmenter, values, claims))
        sources[segmenter] = {f"{name}-class": name for name in mine}
    # some have looked at parts of the image only, and for each class in a part of its own
    parts = {s: draw(boxes()) for s in used if draw(st.sampled_from([True, False, False]))}
    for name, opinion in opinions.items():
        drawn = st.sampled_from(["all", "all", "some", "all", "none"])
        known = [draw(drawn) for _ in opinion.sources]
        pairs = list(zip(opinion.sources, known, strict=True))
        asked[name] = Ballot(
            tuple(s for s, k in pairs if k == "all"),
            tuple(s for s, k in pairs if k == "some"),
            {s: grids_of(parts[s]) for s, k in pairs if s in parts and k != "none"},
        )
    # who knows nothing of a structure claims nothing of it
    for number, layer in enumerate(layers):
        barred = {
            IDS[n] for n, ballot in asked.items()
            if layer.name in opinions[n].sources
            and layer.name not in {*ballot.voters, *ballot.partial}
        }  # fmt: skip
        kept = {v: tuple(x for x in c if x not in barred) for v, c in layer.claims.items()}
        values = layer.values.copy()
        if layer.name in parts:
            values[~np.any([inside(classes) for classes in parts[layer.name]], axis=0)] = 0
        layers[number] = Layer(layer.name, values, {v: c for v, c in kept.items() if c})
    scheme = Scheme({"tumor": (1,)}, NAMES, sources, opinions=opinions)
    lesion = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 4, SHAPE) == 1
    return scheme, layers, asked, lesion.astype(np.uint8), parts


@st.composite
def boxes(draw):
    """Of each of one or two classes the boxes, (start, stop) by axis, that it was looked for in."""

    def box():
        ends = [sorted(draw(st.lists(st.integers(0, n), min_size=2, max_size=2))) for n in SHAPE]
        return tuple((low, max(high, low + 1)) for low, high in ends)

    return [[box() for _ in range(draw(st.integers(1, 2)))] for _ in range(draw(st.integers(1, 2)))]


def inside(classes) -> np.ndarray:
    """Voxels of all boxes of a class."""
    index = np.indices(SHAPE)
    return np.all(
        [
            (index[axis] >= low) & (index[axis] < high)
            for box in classes
            for axis, (low, high) in enumerate(box)
        ],
        axis=0,
    )


def grids_of(classes) -> tuple[tuple[Grid, ...], ...]:
    """The boxes of each class as grids of voxels of the image."""
    return tuple(
        tuple(
            dataclasses.replace(
                grid_of(tuple(high - low for low, high in box)),
                origin=tuple(float(low) for low, _ in reversed(box)),
            )
            for box in boxed
        )
        for boxed in classes
    )


def known_at(ballot, parts, at) -> Ballot:
    """Who knows of a structure at a voxel: of all of its classes, or of some."""
    looked = {s: [inside(classes)[at] for classes in parts[s]] for s in ballot.within}
    voters = [s for s in ballot.voters if all(looked.get(s, [True]))]
    partial = [s for s in (*ballot.voters, *ballot.partial) if any(looked.get(s, [True]))]
    return Ballot(tuple(voters), tuple(s for s in partial if s not in voters))


def staple_of(votes: list[np.ndarray]) -> np.ndarray:
    """SimpleITK's STAPLE of whole opinions, over the box that holds all of them."""
    where = np.argwhere(np.any(votes, axis=0))
    box = tuple(slice(a, b + 1) for a, b in zip(where.min(0), where.max(0), strict=True))
    images = [sitk.GetImageFromArray(vote[box].astype(np.uint8)) for vote in votes]
    likely = np.zeros(votes[0].shape)
    likely[box] = sitk.GetArrayFromImage(sitk.STAPLE(images, 1.0, 1.0, 100))
    return likely


def said_by(layer: Layer, label: int) -> np.ndarray:
    return np.isin(layer.values, [v for v, labels in layer.claims.items() if label in labels])


def reference(scheme, layers, asked, lesion, parts):
    """The label map, and what became of every claim, by rules for one voxel at a time."""
    claims = {layer.name: layer for layer in layers}
    known = {n: {at: known_at(b, parts, at) for at in np.ndindex(SHAPE)} for n, b in asked.items()}
    staples = {}
    for name, opinion in scheme.opinions.items():
        for who in {(b.voters, b.partial) for b in known[name].values()}:
            if opinion.by != "staple" or len(who[0]) < 3:
                continue
            where = np.zeros(SHAPE, bool)
            for at, ballot in known[name].items():
                where[at] = (ballot.voters, ballot.partial) == who
            votes = [said_by(claims[s], IDS[name]) & where for s in who[0]]
            if np.any(votes):
                alike = np.all(np.any(votes, 0) == np.all(votes, 0))
                staples[name, who] = staple_of(votes), alike
    labels = np.zeros(SHAPE, int)
    heard, accounts = Counter(), Counter()
    ignoring = any(o.disagree == "ignore" for o in scheme.opinions.values())
    for at in np.ndindex(SHAPE):
        said = {x.name: list(x.claims.get(int(x.values[at]), ())) for x in layers}
        left = {name: list(found) for name, found in said.items()}
        for name, opinion in scheme.opinions.items():
            ballot, label = known[name][at], IDS[name]
            yes = [s for s in opinion.sources if label in said.get(s, ())]
            votes = [s in yes for s in opinion.sources if s in ballot.voters]
            for source in yes:
                fate = fate_of(source, name, opinion, ballot, yes, votes, staples, at)
                heard[name, source, "said"] += 1
                heard[name, source, fate] += 1
                place = left[source].index(label)
                if fate == "set_aside":
                    left[source].pop(place)
                    accounts[source, "set_aside"] += 1
                elif fate == "ignored":
                    left[source][place] = IGNORE
        holder, owner = (IDS["tumor"], "targets") if lesion[at] else (0, "")
        if lesion[at]:
            accounts["targets", "claimed"] += 1
        for layer in layers:
            mine = list(dict.fromkeys(left[layer.name]))
            accounts[layer.name, "claimed"] += len(mine)
            if not mine:
                continue
            best = mine[0]
            for other in mine[1:]:
                best = other if ignoring and other == IGNORE else best
            accounts[layer.name, "overruled"] += len(mine) - 1
            if holder == 0:
                holder, owner = best, layer.name
            elif holder == best:
                accounts[layer.name, "agreed"] += 1
            elif ignoring and best == IGNORE and holder > IDS["tumor"]:
                accounts[owner, "overruled"] += 1
                holder, owner = best, layer.name
            else:
                accounts[layer.name, "overruled"] += 1
        labels[at] = holder
        accounts[owner, "kept"] += 1
    return labels, heard, accounts


def fate_of(source, name, opinion, ballot, yes, votes, staples, at):
    """What becomes of a source's claim of a structure on one voxel."""
    if opinion.disagree == "ignore" and any(votes) and not all(votes):
        return "ignored"
    asked = [s for s in opinion.sources if s in (*ballot.voters, *ballot.partial)]
    followed = []
    for other in asked:
        followed.append(other)
        if other in ballot.voters:
            break
    if not votes or opinion.by == "first":
        kept = source in followed
    elif opinion.by == "union":
        kept = True
    elif opinion.by == "intersection":
        kept = all(votes)
    elif opinion.by == "staple" and len(votes) >= 3:
        likely, alike = staples.get(
            (name, (ballot.voters, ballot.partial)), (np.zeros(SHAPE), True)
        )
        kept = any(votes) and (alike or bool(likely[at] >= 0.5))
    elif 2 * sum(votes) == len(votes):
        kept = votes[0]
    else:
        kept = 2 * sum(votes) > len(votes)
    return "stands" if kept else "set_aside"


@given(composed_cases())
@examples(300)
def test_each_way_is_as_the_rules_say_voxel_by_voxel_and_the_account_balances(drawn):
    scheme, layers, asked, lesion, parts = drawn
    copies = [layer.values.copy() for layer in layers]
    grid = grid_of(SHAPE)
    rules = Rules(scheme, Merging(tuple(layer.name for layer in layers)))
    found = compose_case(
        grid, lesion_of(lesion, grid, {1: (1,)}), layers, {}, lambda: np.ones(SHAPE), rules, asked
    )
    labels, heard, accounts = reference(scheme, layers, asked, lesion, parts)
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_array_equal(found.counts, np.bincount(labels.ravel(), minlength=IGNORE + 1))
    for one in found.heard:
        assert one.said == one.stands + one.set_aside + one.ignored
        key = (one.structure, one.layer)
        told = [heard[(*key, what)] for what in ("said", "stands", "set_aside", "ignored")]
        assert [one.said, one.stands, one.set_aside, one.ignored] == told
    assert {(h.structure, h.layer) for h in found.heard} == {
        (name, s) for name, o in scheme.opinions.items() for s in o.sources
    }
    for account in found.accounts:
        assert account.claimed == (
            account.kept + account.agreed + account.overruled + account.set_aside
        )
        mine = {what: accounts[account.layer, what] for what in ("kept", "agreed", "overruled")}
        assert dataclasses.asdict(account) == {
            "layer": account.layer,
            "claimed": accounts[account.layer, "claimed"] + accounts[account.layer, "set_aside"],
            "set_aside": accounts[account.layer, "set_aside"],
            **mine,
        }
    for layer, copy in zip(layers, copies, strict=True):
        np.testing.assert_array_equal(layer.values, copy)  # what was read stays as it was


def test_the_reference_meets_every_way_with_and_without_ignoring():
    """What is drawn above has all of it: votes that differ, and sources that know some."""
    seen, seen_in_parts = set(), set()

    @given(composed_cases())
    @examples(300)
    def look(drawn):
        scheme, _, asked, _, _ = drawn
        for name, opinion in scheme.opinions.items():
            seen.add((opinion.by, opinion.disagree, min(len(asked[name].voters), 3)))
            part = bool(asked[name].within)
            seen_in_parts.add((opinion.by, opinion.disagree, part))

    look()
    assert {(by, d, n) for by in WAYS for d in ("first", "ignore") for n in range(1, 4)} <= seen
    assert 0 in {n for _, _, n in seen}
    ways = {(by, d, part) for by in WAYS for d in ("first", "ignore") for part in (False, True)}
    assert ways == seen_in_parts


def masks_of(*texts: str) -> dict[str, np.ndarray]:
    """One row of voxels each: `x` is claimed."""
    return {
        name: np.array([[[c == "x" for c in text]]])
        for name, text in zip(SEGMENTERS, texts, strict=False)
    }


@pytest.mark.parametrize(("by", "kept"), [
    ("first", "xxxx....x"), ("union", "xxxxxxxxx"), ("intersection", "x.......x"),
    ("majority", "xxx.x...x"),
])  # fmt: skip
def test_three_opinions_by_each_way(by, kept):
    masks = masks_of("xxxx....x", "xx..xx..x", "x.x.x.xxx")
    opinion = Opinion(("a", "b", "c"), by, "first")
    ballot = Ballot(("a", "b", "c"))
    found, unsure = decide(masks, ballot, opinion)
    assert "".join(".x"[int(v)] for v in found.ravel()) == kept and not unsure.any()
    found, unsure = decide(masks, ballot, dataclasses.replace(opinion, disagree="ignore"))
    assert "".join(".x"[int(v)] for v in found.ravel()) == "x.......x"
    assert "".join(".x"[int(v)] for v in unsure.ravel()) == ".xxxxxxx."


def test_staple_trusts_a_source_as_far_as_it_agrees_with_the_others():
    rng = np.random.default_rng(0)
    truth = np.zeros((8, 20, 20), bool)
    truth[2:6, 5:15, 5:15] = True
    good = [truth ^ (rng.random(truth.shape) < 0.03) for _ in range(2)]
    bad = rng.random(truth.shape) < 0.5
    names = ("a", "b", "c")
    masks = dict(zip(names, [bad, *good], strict=True))
    found, _ = decide(masks, Ballot(names), Opinion(names, "staple", "first"))
    likely = sitk.GetArrayFromImage(
        sitk.STAPLE([sitk.GetImageFromArray(m.astype(np.uint8)) for m in masks.values()])
    )
    np.testing.assert_array_equal(found, (likely >= 0.5) & np.any([*masks.values()], axis=0))
    assert (found ^ truth).mean() < (bad ^ truth).mean() / 5


SCHEME = Scheme(
    {"tumor": (1,)}, ("background", "tumor", "kidneys"),
    {"drawn": {"left": "kidneys", "right": "kidneys"}, "organs": {"kidney": "kidneys"}},
    opinions={"kidneys": Opinion(("drawn", "organs"), "first", "first")},
)  # fmt: skip


@pytest.mark.parametrize(("failed", "missing", "voters", "partial", "first"), [
    ({}, {}, ("drawn", "organs"), (), ("drawn",)),
    ({"drawn": "no file"}, {}, ("organs",), (), ("organs",)),
    ({}, {"drawn": {"left": "?", "right": "?"}}, ("organs",), (), ("organs",)),
    ({}, {"drawn": {"left": "?"}}, ("organs",), ("drawn",), ("drawn", "organs")),
    ({"organs": "out of memory"}, {"drawn": {"left": "?"}}, (), ("drawn",), ("drawn",)),
])  # fmt: skip
def test_who_knows_of_a_structure_in_a_case(failed, missing, voters, partial, first):
    ballot = ballots(SCHEME, failed, missing)["kidneys"]
    assert ballot == Ballot(voters, partial)
    assert ballot.first(SCHEME.opinions["kidneys"].sources) == first
    assert ballots(SCHEME, failed, missing, {"kidneys": "excluded"}) == {}


def test_what_is_missing_of_one_structure_says_nothing_of_the_next():
    """A class may have the name of a structure: `bowel` lacks the class `colon` of `organs`."""
    scheme = Scheme(
        {"tumor": (1,)}, ("background", "tumor", "bowel", "colon", "fat"),
        {
            "drawn": {"bowel": "bowel", "big": "colon", "fat": "fat"},
            "organs": {"small": "bowel", "colon": "bowel"},
            "other": {"colon": "colon", "fat": "fat"},
        },
        opinions={
            "bowel": Opinion(("drawn", "organs"), "first", "first"),
            "colon": Opinion(("drawn", "other"), "first", "first"),
            "fat": Opinion(("drawn", "other"), "first", "ignore"),
        },
    )  # fmt: skip
    missing = {"organs": {"colon": "no file"}}
    assert ballots(scheme, {}, missing, {"fat": "excluded"}) == {
        "bowel": Ballot(("drawn",), ("organs",)),
        "colon": Ballot(("drawn", "other")),
    }

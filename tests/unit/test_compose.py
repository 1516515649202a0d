"""Composing a case: hosts, repair, single lesions, unknown anatomy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from backsplit.cases import instances
from backsplit.cases.instances import find_instances
from backsplit.cases.lesion import Lesion
from backsplit.compose.case import Rules, compose_case
from backsplit.compose.host import find_host
from backsplit.compose.layers import Layer
from backsplit.compose.repair import repair
from backsplit.config.slices import Merging
from backsplit.scheme.scheme import Scheme
from backsplit.volume import LabelMap
from support.composing import SHAPE, grid_of, lesion_of, rules_of
from support.examples import examples


@pytest.mark.parametrize("over", ["fat", "f*", "soft"])
def test_repair_goes_over_structures_by_name_wildcard_and_group(over):
    """A lesion in the liver, both within a rim of fat: the rim is the liver's."""
    shape = (9, 9, 9)
    grid = grid_of(shape)
    lesion, liver, fat = np.zeros((3, *shape), np.uint8)
    lesion[3:6, 3:6, 3:6] = 7
    fat[2:7, 2:7, 2:7] = 1
    liver[1:8, 1:8, 1:8] = fat[1:8, 1:8, 1:8] == 0
    layers = [Layer("organs", liver, {1: (3,)}), Layer("tissue", fat, {1: (4,)})]

    def fat_left(**repair_):
        rules = rules_of(repair=repair_, groups={"soft": ["liver", "fat"]})
        made = compose_case(grid, lesion_of(lesion, grid), layers, {}, lambda: fat >= 0, rules)
        return int((made.labels == 4).sum())

    assert fat_left(rim_mm=3) == fat_left(rim_mm=3, over=["liver"]) == 5**3 - 3**3
    assert fat_left(rim_mm=3, over=[over]) == 0


@examples(50)
@given(
    hnp.arrays(np.uint8, (6, 7, 8), elements=st.sampled_from([0, 0, 0, 1, 2])), st.integers(1, 4)
)
def test_instances_are_26_connected_components_of_each_target(labels, block):
    grid = grid_of(labels.shape, (0.7, 0.8, 2.0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(instances, "BLOCK", block)
        found = find_instances(labels, np.flatnonzero(labels), 2, grid)
    expected = {}
    for target in (1, 2):
        components, count = ndimage.label(labels == target, np.ones((3, 3, 3)))
        for number in range(1, count + 1):
            where = np.argwhere(components == number)
            centroid = where.mean(axis=0)[::-1] * grid.spacing
            expected[target, len(where), tuple(np.round(centroid, 3))] = True
    mine = {(i.target, i.voxels, tuple(np.round(i.centroid_mm, 3))): True for i in found}
    assert mine == expected
    whole = tuple(slice(0, n) for n in labels.shape)
    assert [i.number for i in found] == list(range(1, len(found) + 1))
    assert [i.places[0] for i in found] == sorted(i.places[0] for i in found)
    for instance in found:
        mask = instance.mask(whole, labels.shape)
        assert mask.sum() == instance.voxels and (labels[mask] == instance.target).all()


def ball(shape, centre, radius, spacing=(1.0, 1.0, 1.0)):
    index = np.indices(shape).reshape(3, -1).T
    away = np.linalg.norm((index - np.asarray(centre)) * np.asarray(spacing), axis=1)
    return (away <= radius).reshape(shape)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 0.8, 0.8)])
@pytest.mark.parametrize("radius", [4.0, 9.0])
def test_the_host_is_found_when_its_contour_excludes_the_tumour(spacing, radius):
    shape = tuple(round(100 / s) for s in spacing)
    organ = ball(shape, [n // 2 for n in shape], 32, spacing)
    edge = [shape[0] // 2, shape[1] // 2, shape[2] // 2 + round(32 / spacing[2])]
    lesion = ball(shape, edge, radius, spacing)  # half buried in the organ's surface
    anatomy = np.zeros(shape, np.uint8)
    anatomy[organ & ~lesion] = 3
    assert not (anatomy[lesion] == 3).any()
    host = find_host(lesion, anatomy, spacing, [3])
    assert (host.label, host.basis) == (3, "surroundings")
    deep = ball(shape, [n // 2 for n in shape], radius, spacing)
    anatomy[organ] = 3
    assert find_host(deep, anatomy, spacing, [3]).basis == "inside"


def test_a_neighbour_that_is_only_touched_is_no_host():
    shape = (60, 60, 90)
    left, right = ball(shape, (30, 30, 25), 18), ball(shape, (30, 30, 68), 18)
    anatomy = np.zeros(shape, np.uint8)
    anatomy[left], anatomy[right] = 3, 4
    between = ball(shape, (30, 30, 47), 3)  # lies free, nearer to neither
    assert find_host(between, anatomy, (1, 1, 1), [3, 4]).label is None
    touching = ball(shape, (30, 30 + 18 + 5, 25), 4)
    assert not (touching & left).any()
    assert find_host(touching, anatomy, (1, 1, 1), [3, 4]).label is None
    crater = ball(shape, (30, 30, 40), 6)  # in the left one, close to the right one
    anatomy[crater] = 0
    assert find_host(crater, anatomy, (1, 1, 1), [3, 4]).label == 3
    assert find_host(crater, anatomy, (1, 1, 1), [4]).label is None


def test_repair_works_in_mm_on_an_anisotropic_grid():
    spacing = (4.0, 1.0, 1.0)
    shape = (15, 60, 60)
    centre = (7, 30, 30)
    organ = ball(shape, centre, 22, spacing) & ~ball(shape, centre, 12, spacing)
    lesion = ball(shape, centre, 9, spacing)
    far = np.zeros(shape, bool)
    far[0, :3, :3] = True
    labels = np.zeros(shape, np.uint8)
    labels[organ], labels[lesion], labels[far] = 3, 1, 4
    before = labels.copy()
    done = repair(labels, lesion, 3, spacing, [0], rim_mm=3.0, holes=False)
    to_lesion = ndimage.distance_transform_edt(~lesion, sampling=spacing)
    to_organ = ndimage.distance_transform_edt(~organ, sampling=spacing)
    expected = (before == 0) & (to_lesion <= 3) & (to_organ <= 3)
    np.testing.assert_array_equal(labels, np.where(expected, 3, before))
    assert done.rim == expected.sum() > 0 and done.before == {0: done.rim} and not done.holes
    np.testing.assert_array_equal(labels == 1, before == 1)
    # a cavity that lesion and host enclose together
    labels = before.copy()
    labels[(before == 0) & ball(shape, centre, 13, spacing)] = 3
    labels[7, 30, 40] = 0
    done = repair(labels, lesion, 3, spacing, [0], rim_mm=0.0, holes=True)
    assert (done.rim, done.holes) == (0, 1) and labels[7, 30, 40] == 3
    again = labels.copy()
    assert repair(again, lesion, 3, spacing, [0], rim_mm=0.0, holes=True).holes == 0
    np.testing.assert_array_equal(again, labels)


def test_a_lesion_that_bulges_out_gets_no_cap():
    shape = (40, 40, 60)
    organ = np.zeros(shape, bool)
    organ[:, :, :30] = True
    lesion = ball(shape, (20, 20, 32), 8)
    labels = np.where(lesion, 1, np.where(organ, 3, 0)).astype(np.uint8)
    repair(labels, lesion, 3, (1, 1, 1), [0], rim_mm=3.0, holes=True)
    assert not (labels[:, :, 34:] == 3).any()


def test_ignore_is_limited_to_the_body_and_weaker_layers():
    grid = grid_of(SHAPE)
    organs, tissue = np.zeros(SHAPE, np.uint8), np.ones(SHAPE, np.uint8)
    scheme = Scheme(
        {"tumor": 7},
        ("background", "tumor", "bone", "liver", "fat"),
        {"bones": {"bone": "bone"}, "organs": {"liver": "liver"}, "tissue": {"fat": "fat"}},
    )
    rules = Rules(scheme, Merging(("bones", "organs", "tissue"), bands=("tissue",)))
    bones = np.zeros(SHAPE, np.uint8)
    bones[0] = 1
    body = np.ones(SHAPE, bool)
    body[2] = False
    layers = [
        Layer("bones", bones, {1: (2,)}),
        Layer("organs", organs, {1: (3,)}),
        Layer("tissue", tissue, {1: (4,)}),
    ]
    composed = compose_case(grid, None, layers, {"liver": "failed"}, lambda: body, rules)
    assert (composed.labels[0] == 2).all()  # bone stands above: the liver is not there
    assert (composed.labels[1] == 5).all()  # fat stands below: the liver could be there
    assert (composed.labels[2] == 4).all()  # outside the body
    status = {s.structure: s.status for s in composed.structures}
    assert status == {"bone": "truncated", "liver": "unknown", "fat": "truncated"}


def test_a_composed_case_has_the_host_and_the_repair_of_its_lesion():
    """On an anisotropic grid; the segmenters label the lesion's own voxels, or leave them out."""
    spacing = (0.8, 1.5, 3.0)
    shape = (14, 28, 52)
    grid = grid_of(shape, spacing)
    lesion = ball(shape, (7, 14, 30), 4, spacing[::-1])
    organ = ball(shape, (7, 14, 22), 11, spacing[::-1])
    organ[7, 14, 32:36] = False  # a notch beside the lesion
    values = np.where(lesion, 7, 0).astype(np.uint8)
    for left_out in (False, True):
        organs = (organ & ~lesion if left_out else organ).astype(np.uint8)
        layers = [Layer("organs", organs, {1: (3,)})]
        rules = rules_of(repair={"rim_mm": 3, "holes": True})
        made = compose_case(grid, lesion_of(values, grid), layers, {}, lambda: organ, rules)
        (found,) = made.lesions
        anatomy = np.where(organs, 3, 0).astype(np.uint8)
        assert found.host == find_host(lesion, anatomy, spacing[::-1], [3])
        assert found.host.basis == ("surroundings" if left_out else "inside")
        labels = np.where(lesion, 1, anatomy).astype(np.uint8)
        done = repair(labels, lesion, 3, spacing[::-1], [0], rim_mm=3, holes=True)
        assert found.repaired == done and done.rim > 0
        np.testing.assert_array_equal(made.labels, labels)
        np.testing.assert_array_equal(made.counts, np.bincount(labels.ravel(), minlength=6))


def test_repaired_voxels_are_counted_as_the_host_s():
    shape = (9, 9, 9)
    lesion, liver, fat = np.zeros((3, *shape), np.uint8)
    lesion[3:6, 3:6, 3:6] = 7
    fat[2:7, 2:7, 2:6] = 1
    liver[1:8, 1:8, 1:8] = 1
    liver[2:7, 2:7, 2:7] = 0
    layers = [Layer("organs", liver, {1: (3,)}), Layer("tissue", fat, {1: (4,)})]
    rules = rules_of(repair={"rim_mm": 3, "over": ["fat"]})
    grid = grid_of(shape)
    made = compose_case(grid, lesion_of(lesion, grid), layers, {}, lambda: fat >= 0, rules)
    assert set(made.lesions[0].repaired.before) == {0, 4}
    np.testing.assert_array_equal(made.counts, np.bincount(made.labels.ravel(), minlength=6))


def test_an_unknown_structure_leaves_stronger_layers_alone():
    scheme = Scheme(
        {"tumor": 7},
        ("background", "tumor", "bone", "liver", "fat"),
        {"bones": {"bone": "bone"}, "organs": {"liver": "liver"}, "tissue": {"fat": "fat"}},
    )
    rules = Rules(scheme, Merging(("bones", "organs", "tissue"), bands=("tissue",)))
    bones, organs, tissue = np.zeros((3, *SHAPE), np.uint8)
    bones[0, 0] = organs[0] = tissue[1] = 1
    layers = [
        Layer("bones", bones, {1: (2,)}),
        Layer("organs", organs, {1: (3,)}),
        Layer("tissue", tissue, {1: (4,)}),
    ]
    body = np.ones(SHAPE, bool)
    case = (grid_of(SHAPE), None, layers, {"fat": "excluded"}, lambda: body, rules)
    made = compose_case(*case, excluded=["fat"])
    assert [set(np.unique(part)) for part in made.labels] == [{2, 3}, {5}, {5}]
    assert made.ignored == 40 and made.counts.tolist() == [0, 0, 5, 15, 0, 40]


def test_lesion_values_separate_instances_where_asked():
    values = np.zeros(SHAPE, np.uint8)
    values[1, 1, 1:3], values[1, 2, 1:3] = 7, 8  # they touch
    grid = grid_of(SHAPE)
    for instances_, expected in ((False, [4]), (True, [2, 2])):
        numbers = np.repeat(np.arange(9)[:, None], 3, axis=1) if instances_ else None
        lesion = Lesion(LabelMap(values, grid), {7: (1,), 8: (1,)}, numbers)
        made = compose_case(grid, lesion, [], {}, lambda: values, rules_of())
        assert [found.instance.voxels for found in made.lesions] == expected

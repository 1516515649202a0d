"""Composing a case: promises on the written file, hosts, repair, unknown anatomy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from backsplit.cases import instances
from backsplit.cases.instances import find_instances
from backsplit.cases.lesion import Lesion
from backsplit.compose.case import Rules, compose_case
from backsplit.compose.host import find_host
from backsplit.compose.layers import Layer, Precedence
from backsplit.compose.promises import assert_promises
from backsplit.compose.repair import repair
from backsplit.config.compose import Compose
from backsplit.errors import CaseError, Code
from backsplit.scheme.scheme import Scheme
from backsplit.volume import Grid, LabelMap, pieces, read_grid, write_labels
from support.examples import examples
from support.project import save

SHAPE = (3, 4, 5)
SCHEME = Scheme(
    {"tumor": 7, "cyst": 9},
    ("background", "tumor", "cyst", "liver", "fat"),
    {"organs": {"liver": "liver"}, "tissue": {"fat": "fat"}},
    hosts={"tumor": ("liver",), "cyst": ("liver",)},
)


def grid_of(shape, spacing=(1.0, 1.0, 1.0)):
    return Grid(shape[::-1], spacing, (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))


def lesion_of(values, grid, claims=None):
    return Lesion(LabelMap(values, grid), claims or {7: (1,), 9: (2,)}, False)


def rules_of(scheme=SCHEME, **settings_):
    return Rules(scheme, Compose.model_validate(settings_), ("organs", "tissue"))


LAYERS = hnp.arrays(np.uint8, SHAPE, elements=st.integers(0, 1))


@examples(60)
@given(
    hnp.arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 0, 7, 9])),
    LAYERS,
    LAYERS,
    st.sampled_from([{}, {"liver": "no file"}]),
    st.sampled_from(["ignore", "background"]),
    st.booleans(),
)
def test_every_promise_on_the_written_file(
    tmp_path_factory, lesion, organs, tissue, unknown, policy, mend
):
    folder = tmp_path_factory.mktemp("promise")
    image = save(folder / "image.nii.gz", np.zeros(SHAPE, np.int16))
    grid = read_grid(image)
    rules = rules_of(unknown=policy, repair={"rim_mm": 4, "holes": True} if mend else {})
    layers = [Layer("organs", organs, {1: (3,)}), Layer("tissue", tissue, {1: (4,)})]
    given_lesion = lesion_of(lesion, grid)
    body = np.ones(SHAPE, bool)
    composed = compose_case(grid, given_lesion, layers, unknown, lambda: body, rules)
    path = folder / "labels.nii.gz"
    write_labels(path, composed.labels, grid, image)
    assert_promises(path, grid, given_lesion, SCHEME, rules.precedence)
    written = sitk.ReadImage(str(path))
    array = sitk.GetArrayFromImage(written)
    np.testing.assert_array_equal(array == 1, lesion == 7)
    np.testing.assert_array_equal(array == 2, lesion == 9)
    assert set(np.unique(array)) <= {0, 1, 2, 3, 4, 5}
    assert written.GetOrigin() == sitk.ReadImage(str(image)).GetOrigin()
    np.testing.assert_array_equal(np.bincount(array.ravel(), minlength=6), composed.counts)
    assert composed.ignored == (array == 5).sum()
    if unknown and policy == "ignore":  # unknown is not background, nor what stands below it
        assert not np.isin(array, [0, 3, 4]).any()
    if unknown:
        assert not (array == 3).any() or mend
    again = compose_case(grid, given_lesion, layers, unknown, lambda: body, rules)
    np.testing.assert_array_equal(again.labels, composed.labels)


def _written(tmp_path: Path, labels: np.ndarray, origin=(0.0, 0.0, 0.0)):
    image = save(tmp_path / "image.nii.gz", np.zeros(SHAPE, np.int16), origin=origin)
    path = tmp_path / "labels.nii.gz"
    write_labels(path, labels, read_grid(image))
    return path, read_grid(image)


def test_promises_hold_for_a_good_file_and_break_for_each_bad_one(tmp_path):
    values = np.zeros(SHAPE, np.uint8)
    values[1, 1:3, 1:3] = 7
    good = np.where(values == 7, 1, 3).astype(np.uint8)
    path, grid = _written(tmp_path, good)
    lesion = lesion_of(values, grid)
    assert_promises(path, grid, lesion, SCHEME, Precedence())
    broken = {}
    broken["lost"] = good.copy()
    broken["lost"][1, 1, 1] = 3
    broken["added"] = good.copy()
    broken["added"][0, 0, 0] = 1
    broken["moved"] = np.roll(good, 1, axis=2)
    broken["another"] = good.copy()
    broken["another"][1, 1, 1] = 2
    broken["nameless"] = good.copy()
    broken["nameless"][0, 0, 0] = 6
    for labels in broken.values():
        path, grid = _written(tmp_path, labels)
        with pytest.raises(CaseError) as caught:
            assert_promises(path, grid, lesion, SCHEME, Precedence())
        assert caught.value.code is Code.PROMISE_BROKEN
    # what the configuration lets yield by name may yield, and only to that
    path, grid = _written(tmp_path, broken["lost"])
    assert_promises(path, grid, lesion, SCHEME, Precedence([(3, 1)]))
    with pytest.raises(CaseError):
        assert_promises(path, grid, lesion, SCHEME, Precedence([(4, 1)]))
    path, grid = _written(tmp_path, good)
    _, shifted = _written(tmp_path / "other", good, origin=(0.5, 0, 0))
    with pytest.raises(CaseError):
        assert_promises(path, shifted, lesion, SCHEME, Precedence())
    with pytest.raises(CaseError):
        assert_promises(path, grid, None, SCHEME, Precedence())  # the table says: no lesion


@pytest.mark.parametrize("piece", [1, 7, 59, 1000])
def test_a_single_wrong_voxel_is_found_wherever_it_is(tmp_path, monkeypatch, piece):
    monkeypatch.setattr(pieces, "PIECE", piece)
    values = np.zeros(SHAPE, np.uint8)
    values[1] = 7
    good = np.where(values == 7, 1, 3).astype(np.uint8)
    path, grid = _written(tmp_path, good)
    assert_promises(path, grid, lesion_of(values, grid), SCHEME, Precedence())
    for at in np.ndindex(SHAPE):
        other = values.copy()
        other[at] = 0 if values[at] else 7
        with pytest.raises(CaseError):
            assert_promises(path, grid, lesion_of(other, grid), SCHEME, Precedence())


@pytest.mark.parametrize("targets", [254, 255, 256, 300])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_promises_hold_for_very_many_targets_and_ids_of_16_bits(tmp_path, targets, dtype):
    names = [f"t{n}" for n in range(1, targets + 1)]
    scheme = Scheme({n: (i,) for i, n in enumerate(names)}, ("background", *names, "liver"), {})
    highest = min(targets, int(np.iinfo(dtype).max))
    values = np.zeros(SHAPE, dtype)
    values[1, 1, :3] = [1, highest, 9]
    lesion = lesion_of(values, grid_of(SHAPE), {1: (1,), highest: (targets,), 9: (targets - 1,)})
    good = np.zeros(SHAPE, np.uint16)
    good[1, 1, :3] = [1, targets, targets - 1]
    good[2, 2, :3] = [targets + 1, scheme.ignore_id, scheme.ignore_id]
    path, grid = _written(tmp_path, good)
    assert_promises(path, grid, lesion, scheme, Precedence())
    for at, wrong in (((1, 1, 1), targets - 1), ((1, 1, 1), targets % 256), ((0, 0, 0), targets)):
        bad = good.copy()
        bad[at] = wrong
        if (bad == good).all():
            continue
        path, grid = _written(tmp_path, bad)
        with pytest.raises(CaseError):
            assert_promises(path, grid, lesion, scheme, Precedence())
    bad = good.copy()
    bad[0, 0, 0] = scheme.ignore_id + 1
    path, grid = _written(tmp_path, bad)
    with pytest.raises(CaseError, match=f"holds the id {scheme.ignore_id + 1}, which has no name"):
        assert_promises(path, grid, lesion, scheme, Precedence())


def test_the_strongest_of_overlapping_targets_is_promised(tmp_path):
    values = np.zeros(SHAPE, np.uint8)
    values[1, 1, 1:3] = [7, 200]
    lesion = lesion_of(values, grid_of(SHAPE), {7: (1,), 200: (1, 2), 70000: (2,)})
    labels = (values > 0).astype(np.uint8)
    path, grid = _written(tmp_path, labels)
    assert_promises(path, grid, lesion, SCHEME, Precedence())
    with pytest.raises(CaseError):
        assert_promises(path, grid, lesion, SCHEME, Precedence([(2, 1)]))
    labels[1, 1, 2] = 2
    path, grid = _written(tmp_path, labels)
    assert_promises(path, grid, lesion, SCHEME, Precedence([(2, 1)]))


def test_a_lesion_yields_only_where_an_exception_names_the_pair():
    grid = grid_of(SHAPE)
    lesion = lesion_of(np.full(SHAPE, 7, np.uint8), grid)
    organs = np.zeros(SHAPE, np.uint8)
    organs[0] = 1
    layers = [Layer("organs", organs, {1: (3,)}), Layer("tissue", organs, {1: (4,)})]
    scheme = Scheme(SCHEME.targets, SCHEME.names, SCHEME.sources, exceptions=(("fat", "tumor"),))
    for_fat = compose_case(grid, lesion, layers, {}, lambda: organs > 0, rules_of(scheme))
    np.testing.assert_array_equal(for_fat.labels, np.where(organs, 4, 1))
    (pair,) = [o for o in for_fat.overruled if o.loser.label == 1]
    assert (pair.loser.layer, pair.winner.layer, pair.voxels) == ("targets", "tissue", 20)


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
    rules = Rules(scheme, Compose(), ("bones", "organs", "tissue"))
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
    rules = Rules(scheme, Compose(), ("bones", "organs", "tissue"))
    bones, organs, tissue = np.zeros((3, *SHAPE), np.uint8)
    bones[0, 0] = organs[0] = tissue[1] = 1
    layers = [
        Layer("bones", bones, {1: (2,)}),
        Layer("organs", organs, {1: (3,)}),
        Layer("tissue", tissue, {1: (4,)}),
    ]
    body = np.ones(SHAPE, bool)
    made = compose_case(grid_of(SHAPE), None, layers, {"fat": "failed"}, lambda: body, rules)
    assert [set(np.unique(part)) for part in made.labels] == [{2, 3}, {5}, {5}]
    assert made.ignored == 40 and made.counts.tolist() == [0, 0, 5, 15, 0, 40]


def test_lesion_values_separate_instances_where_asked():
    values = np.zeros(SHAPE, np.uint8)
    values[1, 1, 1:3], values[1, 2, 1:3] = 7, 8  # they touch
    grid = grid_of(SHAPE)
    for instances_, expected in ((False, [4]), (True, [2, 2])):
        lesion = Lesion(LabelMap(values, grid), {7: (1,), 8: (1,)}, instances_)
        made = compose_case(grid, lesion, [], {}, lambda: values, rules_of())
        assert [found.instance.voxels for found in made.lesions] == expected

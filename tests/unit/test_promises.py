"""The promises, held on written label maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from backsplit.compose.case import compose_case
from backsplit.compose.layers import Layer, Precedence
from backsplit.compose.promises import assert_promises
from backsplit.errors import CaseError, Code
from backsplit.scheme.scheme import Scheme
from backsplit.volume import pieces, read_grid, write_labels
from support.composing import SCHEME, SHAPE, grid_of, lesion_of, rules_of
from support.examples import examples
from support.project import save

LAYERS = hnp.arrays(np.uint8, SHAPE, elements=st.integers(0, 1))


@examples(60)
@given(
    hnp.arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 0, 7, 9])),
    LAYERS,
    LAYERS,
    st.sampled_from([{}, {"liver": "excluded"}]),
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
    case = (grid, given_lesion, layers, unknown, lambda: body, rules)
    composed = compose_case(*case, excluded=unknown)
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
    again = compose_case(*case, excluded=unknown)
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


def test_what_a_lesion_file_ignores_is_promised_to_be_ignored(tmp_path):
    values = np.zeros(SHAPE, np.uint8)
    values[0], values[1, 1] = 9, 7
    good = np.where(values == 9, 5, np.where(values == 7, 1, 3)).astype(np.uint8)
    path, grid = _written(tmp_path, good)
    lesion = lesion_of(values, grid, {7: (1,), 9: (5,)})
    counts = assert_promises(path, grid, lesion, SCHEME, Precedence())
    assert counts.tolist() == [0, 5, 0]
    for label in (0, 1, 3):
        wrong = good.copy()
        wrong[0, 2, 2] = label
        path, grid = _written(tmp_path, wrong)
        with pytest.raises(CaseError):
            assert_promises(path, grid, lesion, SCHEME, Precedence())


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

"""Hosts and repair: held against a slow, plain reading of the rules, with SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from backsplit.compose.host import NO_HOST, find_host, look_mm
from backsplit.compose.repair import Repaired, repair

SCENES = 30


def ball(shape, centre, radius, spacing=(1.0, 1.0, 1.0)):
    index = np.indices(shape).reshape(3, -1).T
    away = np.linalg.norm((index - np.asarray(centre)) * np.asarray(spacing), axis=1)
    return (away <= radius).reshape(shape)


def obvious_host(lesion, anatomy, spacing, candidates):
    """(label, basis, inside, shell, closed, distance) as the module's docstrings say it."""
    volume = lesion.sum() * np.prod(spacing)
    closing = min(2 * (3 * volume / (4 * np.pi)) ** (1 / 3), 40.0)
    to_lesion = ndimage.distance_transform_edt(~lesion, sampling=spacing)
    shell = ~lesion & (to_lesion <= max(3.0, 1.01 * max(spacing)))
    found = []
    for label in candidates:
        organ = anatomy == label
        around, inside = organ[shell].mean(), organ[lesion].mean()
        if around + inside < 0.05:
            continue
        to_organ = ndimage.distance_transform_edt(~organ, sampling=spacing)
        grown = to_organ <= closing
        shrunk = ndimage.distance_transform_edt(grown, sampling=spacing) > closing
        closed = (organ | shrunk)[lesion].mean()
        distance = 0.0 if inside > 0 else to_organ[lesion].min()
        basis = "inside" if inside >= 0.5 else "surroundings"
        found.append((label, basis, inside, around, closed, distance))
    found.sort(key=lambda host: -(host[2] + host[3]))
    best = max(found[:3], key=lambda host: (host[3] + host[4], -host[0]), default=None)
    return best if best and (best[3] + best[4]) / 2 >= 0.2 else None


def scene(seed):
    """A lesion among four organs that lie round it in various ways."""
    rng = np.random.default_rng(seed)
    spacing = [(1.0, 1.0, 1.0), (3.5, 0.9, 0.9), (0.6, 0.6, 0.6)][seed % 3]
    shape = tuple(int(44 / s) for s in spacing)
    middle = np.array(shape) / 2
    lesion = ball(shape, middle, rng.uniform(2.5, 4.5), spacing)
    anatomy = np.zeros(shape, np.uint8)
    for label in (2, 3, 4, 5):
        away = rng.normal(size=3)
        away *= rng.uniform(0, 14) / np.linalg.norm(away)
        organ = ball(shape, middle + away / spacing, rng.uniform(4, 11), spacing)
        anatomy[organ & (anatomy == 0)] = label
    if seed % 2:
        anatomy[lesion] = 0  # contours leave the tumour out
    return lesion, anatomy, spacing


@pytest.mark.parametrize("seed", range(SCENES))
def test_a_host_is_the_one_of_the_plain_reading(seed):
    lesion, anatomy, spacing = scene(seed)
    expected = obvious_host(lesion, anatomy, spacing, [2, 3, 4, 5])
    host = find_host(lesion, anatomy, spacing, [2, 3, 4, 5])
    if expected is None:
        assert host is NO_HOST
    else:
        assert (host.label, host.basis) == expected[:2]
        found = (host.inside, host.shell, host.closed, host.distance_mm)
        assert found == pytest.approx(expected[2:], abs=1e-5)


def test_the_scenes_have_hosts_of_every_kind():
    found = [obvious_host(*scene(seed), [2, 3, 4, 5]) for seed in range(SCENES)]
    assert {host and host[1] for host in found} == {None, "inside", "surroundings"}
    assert {host[0] for host in found if host} == {2, 3, 4, 5}
    assert any(host and host[5] > 0 for host in found)


def test_no_host_says_so():
    assert (NO_HOST.label, NO_HOST.basis) == (None, "none")
    assert (NO_HOST.inside, NO_HOST.shell, NO_HOST.closed) == (0, 0, 0)
    assert np.isnan(NO_HOST.distance_mm)


def test_of_two_organs_that_fit_alike_the_first_id_is_the_host():
    shape = (21, 21, 21)
    anatomy = np.zeros(shape, np.uint8)
    anatomy[:, :, :10], anatomy[:, :, 11:] = 5, 4
    lesion = np.zeros(shape, bool)
    lesion[9:12, 9:12, 9:12] = True
    for candidates in ([4, 5], [5, 4]):
        assert find_host(lesion, anatomy, (1, 1, 1), candidates).label == 4


def test_thinning_a_large_lesion_keeps_its_host():
    shape, spacing = (120, 120, 130), (1.0, 1.0, 1.0)
    organ = ball(shape, (60, 60, 60), 30)
    lesion = ball(shape, (60, 60, 84), 12)
    anatomy = np.where(organ & ~lesion, 3, 0).astype(np.uint8)
    _, basis, inside, shell, closed, distance = obvious_host(lesion, anatomy, spacing, [3])
    host = find_host(lesion, anatomy, spacing, [3])
    assert (host.label, host.basis, host.inside) == (3, basis, inside)
    assert (host.shell, host.closed) == pytest.approx((shell, closed), abs=0.08)
    assert host.distance_mm == pytest.approx(distance, abs=5)


def test_a_lesion_missed_by_thinning_is_looked_at_whole():
    """Two plates: every third voxel from their middle misses both."""
    shape = (50, 100, 100)
    lesion = np.zeros(shape, bool)
    lesion[[23, 27], 10:90, 10:90] = True
    anatomy = np.zeros(shape, np.uint8)
    anatomy[:25, 5:60, 5:70] = 3
    expected = obvious_host(lesion, anatomy, (1, 1, 1), [3])
    host = find_host(lesion, anatomy, (1, 1, 1), [3])
    assert (host.label, host.basis) == expected[:2]
    assert (host.inside, host.shell, host.closed) == pytest.approx(expected[2:5], abs=1e-5)


@pytest.mark.parametrize(("radius", "expected"), [(5, 23), (10, 43), (20, 83), (60, 83)])
def test_a_host_is_looked_for_in_two_closings_and_the_shell(radius, expected):
    """A closing has two radii of the lesion, at most 40 mm; the shell is 3 mm thick."""
    voxel_ml = 0.5
    voxels = round(4 / 3 * np.pi * radius**3 / 1000 / voxel_ml * 100)
    assert look_mm(voxels, voxel_ml / 100) == pytest.approx(expected, abs=0.02)


def corridor():
    """A lesion voxel at the end of a corridor of six voxels within its host."""
    labels = np.full((3, 3, 12), 3, np.uint8)
    labels[1, 1, 1] = 1
    labels[1, 1, 2:8] = [0, 4, 0, 0, 0, 0]
    return labels, labels == 1


def test_holes_are_filled_within_3_mm_where_no_rim_is_asked_for():
    labels, lesion = corridor()
    done = repair(labels, lesion, 3, (1, 1, 1), [0, 4], rim_mm=0, holes=True)
    assert labels[1, 1].tolist() == [3, 1, 3, 3, 3, 0, 0, 0, 3, 3, 3, 3]
    assert done == Repaired(0, 3, {0: 2, 4: 1})


def test_what_is_labelled_and_not_named_as_free_stays():
    labels, lesion = corridor()
    done = repair(labels, lesion, 3, (1, 1, 1), [0], rim_mm=0, holes=True)
    assert labels[1, 1].tolist() == [3, 1, 3, 4, 3, 0, 0, 0, 3, 3, 3, 3]
    assert done == Repaired(0, 2, {0: 2})


def test_a_rim_goes_as_far_as_asked_and_holes_no_further():
    labels, lesion = corridor()
    done = repair(labels, lesion, 3, (0.5, 0.5, 0.5), [0, 4], rim_mm=1, holes=True)
    assert labels[1, 1].tolist() == [3, 1, 3, 3, 0, 0, 0, 0, 3, 3, 3, 3]
    assert done == Repaired(2, 0, {0: 1, 4: 1})
    labels, lesion = corridor()
    repair(labels, lesion, 3, (0.5, 0.5, 0.5), [0, 4], rim_mm=0.5, holes=False)
    assert labels[1, 1].tolist() == [3, 1, 3, 4, 0, 0, 0, 0, 3, 3, 3, 3]


def test_without_a_voxel_of_the_host_nothing_is_repaired():
    labels, lesion = corridor()
    before = labels.copy()
    assert repair(labels, lesion, 9, (1, 1, 1), [0], rim_mm=3, holes=True) == Repaired(0, 0, {})
    np.testing.assert_array_equal(labels, before)

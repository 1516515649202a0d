"""What forced patches are centred on: counted through nnU-Net's own loader, lesions by SciPy."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from scipy import ndimage

from backsplit.train.sampling import PER_LESION, TargetSampling, lesions_of
from support.examples import examples

SHAPE = (24, 26, 28)
LABELS = {"background": 0, "tumor": 1, "cyst": 2, **{f"organ{i}": i for i in range(3, 9)}}
SMALL, LARGE = (
    (slice(2, 3), slice(2, 4), slice(2, 3)),
    (slice(12, 20), slice(12, 20), slice(14, 22)),
)


class Cases:
    """A data set as nnU-Net has them: `with` has a large and a small tumour, `without` none."""

    identifiers = ("with", "without")

    def load_case(self, case):
        labels = np.zeros((1, *SHAPE), np.int16)
        for organ in range(3, 9):
            labels[0, 4 * (organ - 3) : 4 * (organ - 3) + 3, 18:] = organ
        if case == "with":
            labels[0][SMALL] = labels[0][LARGE] = 1
        found = {i: np.argwhere(labels == i) for i in range(1, 9)}
        return labels.astype(np.float32), labels, None, {"class_locations": found}


def patches(data, draws=300, oversample=1.0):
    """Labels of the patches that nnU-Net's loader gives, 4 voxels a side."""
    loader = nnUNetDataLoader(
        data, 1, (4, 4, 4), (4, 4, 4), LabelManager(LABELS, None), oversample
    )  # fmt: skip
    np.random.seed(0)
    for _ in range(draws):
        batch = next(loader)
        yield batch["keys"][0], batch["target"][0, 0].numpy()


def share(data, **options):
    """Share of patches with a lesion, where the case has one."""
    held = [
        bool((labels == 1).any()) for case, labels in patches(data, **options) if case == "with"
    ]
    return np.mean(held)


@pytest.mark.parametrize(("asked", "at_least", "at_most"), [(0, 0.05, 0.3), (0.5, 0.45, 0.7)])
def test_forced_patches_hold_a_target_as_often_as_asked(asked, at_least, at_most):
    found = share(TargetSampling(Cases(), 2, asked, by_lesion=False))
    assert at_least < found < at_most
    assert share(TargetSampling(Cases(), 2, 1.0, by_lesion=False)) == 1


def test_without_a_share_patches_are_those_of_nnunet():
    ours = list(patches(TargetSampling(Cases(), 2, 0.0, by_lesion=False), draws=1))
    assert ours[0][1].shape == (4, 4, 4)
    plain = share(Cases())
    assert share(TargetSampling(Cases(), 2, 0.0, by_lesion=False)) == pytest.approx(plain, abs=0.12)


def test_patches_that_are_not_forced_stay_at_random():
    plain = share(Cases(), oversample=0.0, draws=600)
    ours = share(TargetSampling(Cases(), 2, 1.0, by_lesion=True), oversample=0.0, draws=600)
    assert ours == pytest.approx(plain, abs=0.08)


def test_a_case_without_a_lesion_is_sampled_as_by_nnunet():
    sampled = TargetSampling(Cases(), 2, 1.0, by_lesion=True)
    held = {int(v) for case, p in patches(sampled) if case == "without" for v in np.unique(p)}
    assert held - {-1} == {0, *range(3, 9)}  # -1 lies outside the image


def sizes(data):
    """Which of the two lesions patches hold, where they hold one."""
    found = Counter()
    for case, labels in patches(data, draws=500):
        if case == "with" and (count := int((labels == 1).sum())):
            found["small" if count <= 2 else "large"] += 1
    return found["small"] / sum(found.values())


def test_small_lesions_are_met_as_often_as_large_ones_if_asked():
    by_voxel = sizes(TargetSampling(Cases(), 2, 1.0, by_lesion=False))
    by_lesion = sizes(TargetSampling(Cases(), 2, 1.0, by_lesion=True))
    assert by_voxel < 0.1 and by_lesion == pytest.approx(0.5, abs=0.12)


def test_what_is_no_single_class_is_kept():
    """nnU-Net needs all annotated voxels where a label map has `ignore`."""
    everywhere = (-1, *range(1, 9))
    cases = Cases()
    image, labels, _, properties = cases.load_case("with")
    locations = {**properties["class_locations"], everywhere: np.argwhere(labels > 0)}
    cases.load_case = lambda case: (image, labels, None, {"class_locations": locations})
    for by_lesion in (False, True):
        found = TargetSampling(cases, 2, 1.0, by_lesion=by_lesion).load_case("with")[3]
        assert set(found["class_locations"]) == {1, everywhere}


class Arm:
    """Cases of an arm of a study: the same tumours, with organs, without, or among `ignore`."""

    identifiers = ("with", "without")

    def __init__(self, kind):
        self.kind = kind

    def load_case(self, case):
        image, whole, before, _ = Cases().load_case(case)
        labels = np.where(whole <= 2, whole, {"ignored": 9}.get(self.kind, 0))
        labels = whole if self.kind == "organs" else labels
        if self.kind == "ignored":
            labels[labels == 0] = 9
        found = {i: np.argwhere(labels == i) for i in range(1, 9)}
        if self.kind == "ignored":
            found[(-1, *range(9))] = np.argwhere(labels < 9)
        shape = np.arange(image.size, dtype=np.float32).reshape(image.shape)  # tells places apart
        return shape, labels, before, {"class_locations": found}


def places(kind, anywhere, draws=60):
    """Case and first voxel of the patches, two a batch of which one is forced."""
    sampled = TargetSampling(Arm(kind), 2, 1.0, by_lesion=False, anywhere=anywhere)
    labels = {**LABELS, "ignore": 9} if kind == "ignored" else LABELS
    manager = LabelManager(labels, None)
    loader = nnUNetDataLoader(sampled, 2, (4, 4, 4), (4, 4, 4), manager, 0.5)
    np.random.seed(0)
    found = []
    for _ in range(draws):
        batch = next(loader)
        found += zip(batch["keys"], batch["data"][:, 0, 0, 0, 0].tolist(), strict=True)
    return found


def test_arms_see_the_same_patches_whatever_is_labelled_beside_the_targets():
    """In cases without a target too, and where everything else is `ignore`."""
    bare = places("bare", anywhere=True)
    assert bare == places("organs", anywhere=True) == places("ignored", anywhere=True)
    assert len(set(bare)) > 90
    assert bare == places("bare", anywhere=False)  # nothing to be centred on but targets
    assert bare != places("organs", anywhere=False)
    assert bare != places("ignored", anywhere=False)


@examples(40)
@given(hnp.arrays(np.uint8, (5, 6, 7), elements=st.sampled_from([0, 0, 0, 1, 2, 3])), st.booleans())
def test_lesions_are_connected_components(labels, large):
    if large:
        labels = np.pad(labels, 3)
        labels[:2] = 2
    found = lesions_of(labels, (1, 2))
    wanted = []
    for target in (1, 2):
        components, count = ndimage.label(labels == target, np.ones((3, 3, 3)))
        wanted += [
            (target, set(map(tuple, np.argwhere(components == i)))) for i in range(1, count + 1)
        ]
    assert len(found) == len(wanted)
    for target, places in found:
        assert (places[:, 0] == 0).all() and len(places) <= PER_LESION
        mine = set(map(tuple, places[:, 1:].tolist()))
        (whole,) = [voxels for t, voxels in wanted if t == target and mine <= voxels]
        assert len(mine) == len(places) == len(whole) or len(whole) > PER_LESION >= len(mine) > 80

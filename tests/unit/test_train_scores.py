"""Scores of predicted lesions, against nnU-Net, MONAI, and slow readings of challenges' rules."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.metrics import compute_surface_dice
from nnunetv2.evaluation.evaluate_predictions import compute_metrics
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from scipy import ndimage

from backsplit.train.lesionwise import RULES, WORST_HD95_MM, Rule, lesion_wise, reference_lesions
from backsplit.train.scores import dice, score
from support.composing import grid_of
from support.project import save

SHAPE = (14, 20, 18)
SPACING = (0.8, 1.1, 2.5)
GRID = grid_of(SHAPE, SPACING)
SEEDS = range(24)


def blobs(rng, count, shape=SHAPE):
    """Some boxes and balls, some of which touch; none now and then."""
    mask = np.zeros(shape, bool)
    z, y, x = np.indices(shape)
    for _ in range(rng.integers(0, count + 1)):
        centre = [rng.integers(0, n) for n in shape]
        radius = rng.uniform(0.4, 3.5)
        near = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2
        mask |= near <= radius**2
    return mask


def pair(seed):
    """A reference and a prediction that finds some of it, moved a little, and invents some."""
    rng = np.random.default_rng(seed)
    reference = blobs(rng, 5)
    kept = ndimage.label(reference)[0]
    kept = np.isin(kept, rng.permutation(kept.max() + 1)[: kept.max()]) & reference
    predicted = np.roll(kept, rng.integers(-1, 2, 3), (0, 1, 2)) | blobs(rng, 2)
    return reference, predicted


@pytest.mark.parametrize("seed", SEEDS)
def test_dice_is_nnunets(tmp_path, seed):
    reference, predicted = pair(seed)
    paths = [
        save(tmp_path / f"{name}.nii.gz", mask.astype(np.uint8))
        for name, mask in (("reference", reference), ("predicted", predicted))
    ]
    theirs = compute_metrics(*map(str, paths), SimpleITKIO(), [1])["metrics"][1]["Dice"]
    assert dice(reference, predicted) == pytest.approx(theirs, nan_ok=True, abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("tolerance", [0.5, 2.0])
def test_surface_dice_is_that_of_monai_with_subvoxels(seed, tolerance):
    """An implementation of its own of the same definition."""
    reference, predicted = pair(seed)
    ours = score(reference, predicted, GRID, tolerance).nsd
    if not (reference.any() and predicted.any()):
        assert ours == 0 or not (reference.any() or predicted.any())
        return
    masks = [torch.from_numpy(mask)[None, None].float() for mask in (predicted, reference)]
    theirs = compute_surface_dice(
        *masks, [tolerance], include_background=True, spacing=GRID.spacing_zyx, use_subvoxels=True
    )
    assert ours == pytest.approx(float(theirs), abs=1e-6)


def test_hd95_of_boxes_that_are_shifted_is_the_shift():
    reference = np.zeros(SHAPE, bool)
    reference[4:9, 5:12, 4:10] = True
    for axis, spacing in enumerate(GRID.spacing_zyx):
        moved = np.roll(reference, 2, axis)
        assert score(reference, moved, GRID, 1.0).hd95_mm == pytest.approx(2 * spacing)
        assert score(reference, moved, GRID, 2 * spacing).nsd == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_false_volumes_are_autopets(seed):
    """Components by SciPy, one after the other, as the challenge's script takes them."""
    reference, predicted = pair(seed)
    scores = score(reference, predicted, GRID, 1.0)
    for mask, other, ours in (
        (predicted, reference, scores.false_positive_ml),
        (reference, predicted, scores.false_negative_ml),
    ):
        numbers, count = ndimage.label(mask, ndimage.generate_binary_structure(3, 2))
        parts = [numbers == number for number in range(1, count + 1)]
        voxels = sum(part.sum() for part in parts if not (part & other).any())
        assert ours == pytest.approx(voxels * np.prod(SPACING) / 1000)


def brats(reference, predicted, rule):
    """The rules of BraTS 2023, slowly: every lesion on the whole volume."""
    near, all_around = (ndimage.generate_binary_structure(3, n) for n in (2, 3))

    def grown(mask):
        return ndimage.binary_dilation(mask, near, iterations=rule.dilation)

    lesions, count = ndimage.label(grown(reference), all_around)
    parts, _ = ndimage.label(predicted, all_around)
    used, dices, missed = {0}, [], 0
    for number in range(1, count + 1):
        mine = (lesions == number) & reference
        own = set(np.unique(parts[grown(mine)]).tolist()) - {0}
        used |= own
        union = np.isin(parts, list(own))
        if mine.sum() * np.prod(SPACING) <= rule.smallest_mm3:
            continue
        missed += not own
        dices.append(2 * (mine & union).sum() / (mine.sum() + union.sum()))
    invented = len(set(np.unique(parts).tolist()) - used)
    total = len(dices) + invented
    return sum(dices) / total if total else math.nan, len(dices) - missed, missed, invented


@pytest.mark.parametrize("name", ["brats-gli", "brats-men", "brats-met"])
@pytest.mark.parametrize("seed", SEEDS)
def test_lesion_wise_scores_are_those_of_brats(seed, name):
    reference, predicted = pair(seed)
    rule = RULES[name]
    mean, found, missed, invented = brats(reference, predicted, rule)
    ours = lesion_wise(reference_lesions(reference, rule), predicted, GRID, rule)
    hits = sum(lesion.found for lesion in ours.counted)
    assert ours.dice == pytest.approx(mean, nan_ok=True)
    assert (hits, len(ours.counted) - hits) == (found, missed)
    assert len(ours.invented_ml) == invented


def test_a_lesion_is_found_by_one_voxel_and_its_component_is_scored():
    reference, predicted = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    reference[2:5, 2:6, 2:6] = reference[10:12, 15:17, 10:12] = True
    predicted[4:6, 5:8, 5:8] = predicted[2, 15, 15] = True
    rule = Rule()
    found = lesion_wise(reference_lesions(reference, rule), predicted, GRID, rule)
    first, second = found.lesions
    assert (first.found, second.found, len(found.invented_ml)) == (True, False, 1)
    assert first.covered == pytest.approx(1 / 48)
    assert first.dice == pytest.approx(2 / (48 + 18))
    assert found.dice == pytest.approx((2 / 66 + 0 + 0) / 3)
    assert found.hd95_mm == pytest.approx((first.hd95_mm + 2 * WORST_HD95_MM) / 3)


@pytest.mark.parametrize("empty", ["reference", "predicted", "both"])
def test_empty_masks_are_said_not_averaged(empty):
    mask = np.zeros(SHAPE, bool)
    mask[3:6, 3:6, 3:6] = True
    nothing = np.zeros(SHAPE, bool)
    reference = mask if empty == "predicted" else nothing
    predicted = mask if empty == "reference" else nothing
    scores = score(reference, predicted, GRID, 1.0)
    volume = mask.sum() * np.prod(SPACING) / 1000
    if empty == "both":
        assert math.isnan(scores.dice) and math.isnan(scores.nsd) and math.isnan(scores.hd95_mm)
    else:
        assert (scores.dice, scores.nsd, scores.hd95_mm) == (0, 0, math.inf)
    assert scores.false_positive_ml == pytest.approx(volume * (empty == "reference"))
    assert scores.false_negative_ml == pytest.approx(volume * (empty == "predicted"))

"""Phantoms of the embedded study are what they claim: alike in intensity, told apart by anatomy."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from scipy import ndimage
from totalsegmentator.registry import get_task_classes

from backsplit.config.file import load_config
from backsplit.demo import confused
from backsplit.demo.confused import HELD_OUT, LESIONS, TRAINED, make_confused, write_confused
from support.project import ROOT, load

IDS = {name: value for value, name in get_task_classes("total").items()}
DARK = ("gallbladder", "small_bowel")
BRIGHT = ("aorta", "inferior_vena_cava", "portal_vein_and_splenic_vein")
ORGANS = ("liver", "spleen", "stomach", "kidney_left", "kidney_right", *DARK, *BRIGHT)


@pytest.fixture(scope="module")
def phantoms():
    return [make_confused(seed) for seed in range(3000, 3024)]


def of(phantoms, names):
    return [(p, np.isin(p.anatomy, [IDS[name] for name in names])) for p in phantoms]


def test_the_same_seed_gives_the_same_phantom(phantoms):
    again = make_confused(3000)
    for one in ("image", "anatomy", "lesion"):
        np.testing.assert_array_equal(getattr(phantoms[0], one), getattr(again, one))


def test_lesions_are_as_dark_or_bright_as_what_they_lie_beside(phantoms):
    """Most of their voxels are within the middle nine tenths of what they are mistaken for."""
    for value, names in ((1, DARK), (2, BRIGHT)):
        lesion = np.concatenate([p.image[p.lesion == value] for p in phantoms])
        alike = np.concatenate([p.image[mask] for p, mask in of(phantoms, names)])
        low, high = np.percentile(alike, (5, 95))
        assert ((lesion >= low) & (lesion <= high)).mean() > 0.6
        fat = np.concatenate([p.image[p.anatomy == 0] for p in phantoms])
        assert ((fat >= low) & (fat <= high)).mean() < 0.25


def test_lesions_touch_or_lie_in_an_organ_and_are_no_part_of_one(phantoms):
    counts = {1: 0, 2: 0}
    for value, names in ((1, ("gallbladder", "small_bowel", "liver", "kidney_left")), (2, BRIGHT)):
        for p, mask in of(phantoms, names):
            lesion = p.lesion == value
            if not lesion.any():
                continue
            counts[value] += 1
            assert (p.anatomy[lesion] == 0).all()
            assert ndimage.distance_transform_edt(~mask, sampling=6)[lesion].min() <= 12
            assert 1 < lesion.sum() * p.grid.voxel_ml < 45
    assert all(12 <= count < len(phantoms) for count in counts.values())  # some have none


def test_lesions_are_round_where_bowel_and_vessels_are_long(phantoms):
    def length(mask):
        """Ratio of the longest to the shortest principal axis."""
        points = np.argwhere(mask) * 1.0
        axes = np.linalg.eigvalsh(np.cov(points.T) + np.eye(3) / 12)
        return float(np.sqrt(axes[-1] / axes[0]))

    round_ones = [length(p.lesion == v) for p in phantoms for v in (1, 2) if (p.lesion == v).any()]
    long_ones = [length(mask) for p, mask in of(phantoms, ("aorta",))]
    long_ones += [length(mask) for p, mask in of(phantoms, ("inferior_vena_cava",))]
    assert np.median(round_ones) < 1.5 and np.median(long_ones) > 2


def test_organs_are_there_and_some_patients_lack_a_gallbladder(phantoms):
    there = {name: [mask.any() for _, mask in of(phantoms, (name,))] for name in ORGANS}
    assert 0.6 < np.mean(there.pop("gallbladder")) < 1
    assert all(all(found) for found in there.values())


def test_files_and_table_once_and_again(tmp_path, monkeypatch):
    monkeypatch.setattr(confused, "TRAINED", TRAINED[:2])
    monkeypatch.setattr(confused, "HELD_OUT", HELD_OUT[:1])

    def written():
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}

    assert len(write_confused(tmp_path)) == 3
    first = written()
    assert len(first) == 10
    write_confused(tmp_path)
    assert written() == first
    rows = list(csv.DictReader((tmp_path / "cases.tsv").open(), delimiter="\t"))
    assert [row["fold"] for row in rows] == ["", "", "0"]
    phantom = make_confused(HELD_OUT[0])
    for name, array in (("image_ct", phantom.image), ("lesion", phantom.lesion)):
        np.testing.assert_array_equal(load(tmp_path / rows[2][name]), array)
    organs = tmp_path / rows[2]["case"] / "organs.nii.gz"
    np.testing.assert_array_equal(load(organs), phantom.anatomy)


def test_the_embedded_study_reads_these_files():
    config = load_config(ROOT / "config" / "study.yaml")
    assert config.targets == {"lesion": tuple(LESIONS.values())}
    drawn = config.segmenters["drawn"]
    assert drawn.labels == {name: IDS[name] for name in drawn.labels}
    assert set(drawn.labels) == set(ORGANS)
    assert config.study.folds == (0,) and "binary" in config.study.arms

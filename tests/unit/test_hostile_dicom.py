"""Hostile DICOM objects: read right, or refused with a code; never anything else."""

from __future__ import annotations

from collections import Counter
from functools import partial

import highdicom as hd
import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread
from pydicom.uid import generate_uid

from backsplit.errors import CaseError, Code
from backsplit.volume import read_geometry, read_label_map, read_volume
from support import hostile_dicom
from support.dicom import GRID, TILTED, make_seg, make_slices, write_rtstruct, write_series
from support.examples import TIMES

pytestmark = pytest.mark.filterwarnings("ignore")

SHAPE = (4, 9, 8)
DAMAGED = 60 * TIMES
"""Files of each kind with random damages."""


def stored():
    return np.random.default_rng(0).integers(0, 2000, SHAPE).astype(np.int16)


def outcome(reader):
    """What was read, and the code of what was refused."""
    try:
        return reader(), ""
    except CaseError as error:
        assert error.code in Code and error.remedy and len(str(error)) < 2000
        assert error.code is not Code.INTERNAL
        return None, str(error.code)


def attack(objects, path, reader, is_right):
    """Try all objects; what they came to."""
    found = Counter()
    for what, data in objects:
        if not hostile_dicom.saved(data, path):
            found["not written"] += 1
            continue
        read, code = outcome(reader)
        assert code or is_right(read), f"{what}: read, but wrong"
        found[code or "read"] += 1
    print(f"{sum(found.values())}: {dict(found.most_common())}")
    return found


def of_gdcm(folder):
    """Values of each slice as SimpleITK reads them, one file at a time, from below; or nothing."""
    read = []
    for path in folder.glob("*.dcm"):
        try:
            image = sitk.ReadImage(str(path))
        except RuntimeError:
            return None
        array = sitk.GetArrayFromImage(image)
        if array.ndim != 3 or len(array) != 1:
            return None
        normal = np.reshape(image.GetDirection(), (3, 3))[:, 2]
        read.append((float(np.array(image.GetOrigin()) @ normal), array[0]))
    shapes = {array.shape for _, array in read}
    return np.stack([a for _, a in sorted(read, key=lambda r: r[0])]) if len(shapes) == 1 else None


@pytest.mark.parametrize("every", [False, True], ids=["one slice", "every slice"])
def test_odd_slices(tmp_path, every):
    """One of the slices is odd, or all of them are in the same way."""
    folder = tmp_path / "series"
    write_series(folder, stored() - np.int16(1024), TILTED)
    paths = sorted(folder.iterdir())
    sound = [dcmread(path) for path in paths]
    found = Counter()
    kinds = [list(hostile_dicom.slices(data)) for data in (sound if every else sound[1:2])]
    for odd in zip(*kinds, strict=True):
        what = odd[0][0]
        chosen = zip(paths if every else paths[1:2], odd, strict=True)
        written = [hostile_dicom.saved(data, path) for path, (_, data) in chosen]
        if all(written):
            read, code = outcome(lambda: read_volume(folder))
            if not code:
                assert np.isfinite(read.array).all() and np.isfinite(read.grid.affine_lps).all()
                reference = of_gdcm(folder)
                assert reference is not None, f"{what}: read, which SimpleITK does not"
                np.testing.assert_allclose(read.array, reference, rtol=1e-6, err_msg=what)
            found[code or "read"] += 1
        for path, data in zip(paths, sound, strict=True):
            data.save_as(path)
    print(f"{sum(found.values())}: {dict(found.most_common())}")
    assert sum(found.values()) > 100 and found["FILE_UNREADABLE"] > 10


def test_odd_multi_frame_images(tmp_path):
    slopes = [0.5, 0.25, 0.125, 2.0]
    slices = list(make_slices(stored(), TILTED, slopes=slopes))
    make = hd.legacy.LegacyConvertedEnhancedPETImage
    sound = make(slices, generate_uid(), 9, generate_uid(), 1)
    path = tmp_path / "pet.dcm"
    sound.save_as(path)
    expected = read_volume(path)

    def is_right(volume):
        """A frame's slope may be another one now, and an intercept; all else is as it was."""
        same = [np.array_equal(a, b) for a, b in zip(volume.array, expected.array, strict=True)]
        raw = stored()[same.index(False)] if not all(same) else None
        if sum(same) == 3:  # one frame is scaled otherwise, but it is that frame
            return (
                abs(np.corrcoef(raw.ravel(), volume.array[same.index(False)].ravel())[0, 1]) > 0.999
            )
        return all(same) and volume.grid.is_same(expected.grid)

    found = attack(hostile_dicom.frames(sound), path, lambda: read_volume(path), is_right)
    assert sum(found.values()) > 100


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_odd_segmentations(tmp_path, kind):
    grid = read_geometry(write_series(tmp_path / "series", stored(), TILTED)).grid
    masks = [np.random.default_rng(n).random(SHAPE) < 0.4 for n in range(2)]
    masks[1] &= ~masks[0]
    sound = make_seg(list(make_slices(stored(), TILTED)), masks, kind)
    path = tmp_path / "seg.dcm"

    def is_right(labels):
        """Each segment is there as it was; one that has another number or name is the same."""
        found = [labels.array == value for value in labels.names.values()]
        whole = {mask.tobytes() for mask in masks}
        noted = sum("has no voxels" in note for note in labels.notes)
        empty = sum(not mask.any() for mask in found)
        return noted == empty and {m.tobytes() for m in found if m.any()} <= whole

    reader = lambda: read_label_map(path, grid)  # noqa: E731
    found = attack(hostile_dicom.segmentations(sound), path, reader, is_right)
    assert sum(found.values()) > 100


def test_odd_structures(tmp_path):
    square = GRID.to_mm(np.array([[2, 5, 5], [2, 5, 9], [2, 9, 9], [2, 9, 5]], float))
    path = write_rtstruct(
        tmp_path / "rt.dcm", {"GTV": [square], "organ": [square + np.array([0, 0, 3])]}
    )
    sound = dcmread(path)
    mask = np.zeros(GRID.shape, bool)
    mask[2, 5:10, 5:10] = True

    def is_right(labels):
        """The region is what it was; or nothing, and that is said."""
        if "GTV" not in labels.names:  # it has another name, which nobody wants
            return not labels.array.any()
        found = labels.array == labels.names["GTV"]
        return np.array_equal(found, mask) or (
            not found.any() and any("has no contours" in note for note in labels.notes)
        )

    reader = lambda: read_label_map(path, GRID, ["GTV"])  # noqa: E731
    found = attack(hostile_dicom.structures(sound), path, reader, is_right)
    assert sum(found.values()) > 60


def test_damaged_files_never_escape_without_a_code(tmp_path):
    folder = write_series(tmp_path / "series", stored(), TILTED)
    grid = read_geometry(folder).grid
    slices = list(make_slices(stored(), TILTED))
    square = GRID.to_mm(np.array([[2, 5, 5], [2, 5, 9], [2, 9, 9], [2, 9, 5]], float))
    files = {
        "seg": make_seg(slices, [np.ones(SHAPE, bool)]),
        "labelmap": make_seg(slices, [np.ones(SHAPE, bool)], "LABELMAP"),
        "image": hd.legacy.LegacyConvertedEnhancedCTImage(
            slices, generate_uid(), 9, generate_uid(), 1
        ),
        "structures": dcmread(write_rtstruct(tmp_path / "rt.dcm", {"GTV": [square]})),
        "slice": slices[1],
    }
    tried = 0
    for seed, (kind, data) in enumerate(files.items()):
        path = tmp_path / f"{kind}.dcm"
        data.save_as(path, enforce_file_format=True)
        if kind == "slice":
            path = sorted(folder.iterdir())[1]
        of_image = folder if kind == "slice" else path
        for content in hostile_dicom.damaged(path.read_bytes(), seed, DAMAGED):
            path.write_bytes(content)
            for reader in (read_volume, read_geometry):
                outcome(partial(reader, of_image))
            outcome(partial(read_label_map, path, GRID if kind == "structures" else grid))
            tried += 1
    assert tried >= 5 * DAMAGED

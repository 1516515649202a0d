"""Names in the header of a label map: TotalSegmentator reads them, trainers read what they did."""

from __future__ import annotations

import gzip
import xml.etree.ElementTree as ET

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from monai.transforms import LoadImage
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO, NibabelIOWithReorient
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from totalsegmentator.nifti_ext_header import load_multilabel_nifti, save_multilabel_nifti

from backsplit.volume import Grid, read_geometry, read_labels, read_slabs, save_nifti

GRID = Grid((6, 5, 7), (0.8, 1.5, 3.0), (-20.0, 30.0, -40.0), (0, -1, 0, 1, 0, 0, 0, 0, 1))
FEW = {1: ("tumor", (255, 230, 0)), 2: ("kidney_left", (0, 0, 255)), 3: ("ignore", (1, 2, 3))}
MANY = {n: (f"rib.{n}-x_y", (n % 256, 255 - n % 256, 7)) for n in range(1, 400)}


def written(folder, names, dtype=np.uint8, like=None):
    """The same label map with and without names."""
    array = np.random.default_rng(0).integers(0, max(names) + 1, GRID.shape).astype(dtype)
    array.flat[0] = max(names)
    with_names, without = folder / "with.nii.gz", folder / "without.nii.gz"
    save_nifti(with_names, array, GRID, like, names=names)
    save_nifti(without, array, GRID, like)
    return array, with_names, without


@pytest.mark.parametrize(
    ("names", "dtype"), [(FEW, np.uint8), ({1: FEW[1]}, np.uint8), (MANY, np.uint16)]
)
def test_totalsegmentator_reads_the_names(tmp_path, names, dtype):
    array, path, without = written(tmp_path, names, dtype)
    image, found = load_multilabel_nifti(path)
    assert found == {label: name for label, (name, _) in names.items()}
    np.testing.assert_array_equal(np.asanyarray(image.dataobj).transpose(2, 1, 0), array)
    (extension,) = image.header.extensions
    plain = nib.load(without)
    assert not plain.header.extensions
    # of the kind that TotalSegmentator itself writes, with the colours as shares of 1
    own = tmp_path / "own.nii.gz"
    save_multilabel_nifti(nib.load(without), own, {n: name for n, (name, _) in names.items()})
    (theirs,) = nib.load(own).header.extensions
    assert extension.get_code() == theirs.get_code()
    ours, reference = (ET.fromstring(one.get_content()) for one in (extension, theirs))
    assert [part.tag for part in ours.iter()] == [part.tag for part in reference.iter()]
    for row in ours.iter("Label"):
        colour = [round(255 * float(row.get(part))) for part in ("Red", "Green", "Blue")]
        assert tuple(colour) == names[int(row.get("Key"))][1]


@pytest.mark.parametrize("order", ["<", ">"])
def test_every_reader_gives_what_it_gives_without_names(tmp_path, order):
    like = tmp_path / "like.nii.gz"
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(np.int16)
    affine = np.array(GRID.affine_ras)
    header.set_sform(affine, 1)
    header.set_qform(affine, 1)
    header.set_xyzt_units("mm")
    ct = nib.Nifti1Image(np.zeros(GRID.size, np.int16), None, header)
    like.write_bytes(gzip.compress(ct.to_bytes()))
    array, path, without = written(tmp_path, FEW, like=like)
    for reader in (SimpleITKIO(), NibabelIO(), NibabelIOWithReorient()):
        found, properties = reader.read_seg(str(path))
        expected, plain = reader.read_seg(str(without))
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype and str(properties) == str(plain)
    loaded, expected = (LoadImage(image_only=True, dtype=None)(str(p)) for p in (path, without))
    np.testing.assert_array_equal(np.asarray(loaded), np.asarray(expected))
    np.testing.assert_array_equal(loaded.affine, expected.affine)
    np.testing.assert_allclose(loaded.affine, affine, atol=1e-4)
    assert loaded.dtype == expected.dtype
    itk, expected = (sitk.ReadImage(str(p)) for p in (path, without))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(itk), array)
    assert itk.GetPixelID() == expected.GetPixelID() == sitk.sitkUInt8
    for part in ("GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(itk, part)() == getattr(expected, part)()
    ours = read_labels(path)
    np.testing.assert_array_equal(ours.array, array)
    assert ours.array.dtype == array.dtype and ours.grid.is_same(GRID)
    assert (
        read_geometry(path).grid == read_geometry(without).grid and read_geometry(path).reads_alike
    )
    np.testing.assert_array_equal(np.concatenate([*read_slabs(path, 2)]), array)


def test_the_same_label_map_has_the_same_bytes(tmp_path):
    _, path, _ = written(tmp_path, FEW)
    first = path.read_bytes()
    assert b"1970-01-01T00:00:00" in gzip.decompress(first)  # the form asks for a date
    _, path, _ = written(tmp_path, FEW)
    assert path.read_bytes() == first

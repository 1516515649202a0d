"""Exported images, read by nnU-Net's and MONAI's own readers, are what we read."""

from __future__ import annotations

import gzip
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from monai.transforms import LoadImage
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO, NibabelIOWithReorient
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from backsplit.cases.table import Case
from backsplit.config.model import Run
from backsplit.export.files import Converted, place_image
from backsplit.segment.nnunet import Engine
from backsplit.segment.timing import Timings
from backsplit.volume import (
    read_geometry,
    read_grid,
    read_labels,
    read_volume,
    write_labels,
)

AFFINE = np.diag([-1.5, -1.5, 3, 1.0])
AFFINE[:3, 3] = (20, 30, -40)
SHAPE = (7, 6, 5)
TYPES = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")


def nifti(dtype="i2", axes=3, kind=nib.Nifti1Image, order="<", codes=(1, 1), scaling=(1, 0),
          affine=AFFINE, **fields):  # fmt: skip
    """A NIfTI file, not compressed, with fields of its header as they are given."""
    rng = np.random.default_rng(0)
    array = rng.integers(0, 100, SHAPE).astype(order + dtype) * np.array(1, order + dtype)
    if array.dtype.kind == "f":
        array = (array + 0.37).astype(array.dtype)
    image = kind(
        array.reshape(SHAPE + (1,) * (axes - 3)), None, kind.header_class(endianness=order)
    )
    image.header.set_data_dtype(array.dtype)
    image.header.set_sform(affine, codes[0])
    image.header.set_qform(affine, codes[1])
    image.header.set_xyzt_units("mm", "sec")
    content = bytearray(image.to_bytes())
    header = np.frombuffer(content, image.header.template_dtype.newbyteorder(order), 1)[0]
    header["scl_slope"], header["scl_inter"] = scaling
    for name, value in fields.items():
        header[name] = value
    return bytes(content)


LINKED = {
    **{dtype: nifti(dtype) for dtype in TYPES},
    **{f"scaled {dtype}": nifti(dtype, scaling=(2.25, -10)) for dtype in TYPES},
    "Hounsfield": nifti(scaling=(1, -1024)),
    "negative slope": nifti(scaling=(-1, 0)),
    "no slope": nifti(scaling=(np.nan, np.nan)),
    "slope of 0": nifti(scaling=(0, 0)),
    "big-endian": nifti(order=">"),
    "qform": nifti(codes=(0, 1)),
    "sform": nifti(codes=(2, 0)),
    "label intent": nifti(intent_code=1002),
    "oblique": nifti(affine=AFFINE @ nib.affines.from_matvec(
        np.reshape(sitk.Euler3DTransform((0, 0, 0), 0, 0, 0.3).GetMatrix(), (3, 3)))),
    "reordered": nifti(affine=AFFINE[:, [2, 0, 1, 3]]),
}  # fmt: skip
WRITTEN = {
    **{f"{axes} axes": nifti(axes=axes) for axes in (4, 5, 6, 7)},
    "NIfTI-2": nifti(kind=nib.Nifti2Image),
    "NIfTI-2 of 4 axes, big-endian": nifti("f4", 4, nib.Nifti2Image, ">"),
    "4 axes, scaled": nifti(axes=4, scaling=(0.5, 3)),
    "intercept without slope": nifti(scaling=(0, 5)),
    "intercept, slope no number": nifti(scaling=(np.nan, 5)),
    "infinite slope": nifti(scaling=(np.inf, 0)),
    "a slope that ITK takes for 0": nifti("f4", scaling=(1e-20, 0)),
    "a matrix": nifti(intent_code=1005),
    "mark": nifti(magic=b"n+1x"),
}
NAMES = ("a.nii.gz", "a.NII.GZ", "a.nii", "a b ä.Nii.Gz")


def require_readers_agree(target, source):
    volume = read_volume(source)
    ours = volume.array.astype(np.float32)
    for reader in (NibabelIO(), SimpleITKIO()):
        array, properties = reader.read_images([str(target)])
        np.testing.assert_array_equal(array[0], ours)
        np.testing.assert_allclose(properties["spacing"], volume.grid.spacing_zyx, rtol=1e-6)
    array, _ = NibabelIOWithReorient().read_images([str(target)])
    canonical = nib.as_closest_canonical(
        nib.Nifti1Image(ours.transpose(2, 1, 0), volume.grid.affine_ras)
    )
    np.testing.assert_array_equal(array[0].transpose(2, 1, 0), canonical.get_fdata())
    loaded = LoadImage(reader="NibabelReader", image_only=True)(str(target))
    np.testing.assert_array_equal(np.asarray(loaded).transpose(2, 1, 0), ours)
    np.testing.assert_allclose(loaded.affine, volume.grid.affine_ras, atol=1e-4)


def exported(tmp_path, source):
    target = tmp_path / "imagesTr" / "a_0000.nii.gz"
    target.parent.mkdir(exist_ok=True)
    converted, geometry = Converted(tmp_path / "converted.json"), read_geometry(source)
    place_image(target, source, geometry, geometry.grid, converted, link=True)
    assert target.is_symlink() == (target.name not in converted.now)
    require_readers_agree(target, source)
    labels = tmp_path / "labels.nii.gz"
    mask = np.ones(geometry.grid.shape, np.uint8)
    write_labels(labels, mask, geometry.grid, geometry.like(source))
    SimpleITKIO().read_seg(str(labels))
    NibabelIO().read_seg(str(labels))
    np.testing.assert_array_equal(read_labels(labels).array, mask)
    image, drawn = (sitk.ReadImage(str(path)) for path in (target, labels))
    assert drawn.GetDirection() == image.GetDirection()
    assert drawn.GetOrigin() == image.GetOrigin() and drawn.GetSpacing() == image.GetSpacing()
    again = Converted(tmp_path / "converted.json")
    again.before = converted.now
    before = target.lstat().st_mtime_ns
    place_image(target, source, geometry, geometry.grid, again, link=True)
    assert again.now == converted.now and target.lstat().st_mtime_ns == before
    return target


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", LINKED)
def test_what_trainers_read_as_we_do_is_linked(tmp_path, kind, name):
    source = tmp_path / name
    source.write_bytes(gzip.compress(LINKED[kind], 1))
    assert exported(tmp_path, source).is_symlink() and read_geometry(source).reads_alike
    if name == NAMES[0]:
        source.write_bytes(LINKED[kind])  # without gzip, whatever the name
        assert not exported(tmp_path, source).is_symlink()


@pytest.mark.parametrize("kind", WRITTEN)
def test_what_trainers_would_read_otherwise_is_written_new(tmp_path, kind):
    source = tmp_path / NAMES[0]
    source.write_bytes(gzip.compress(WRITTEN[kind], 1))
    assert not exported(tmp_path, source).is_symlink() and not read_geometry(source).reads_alike


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".mhd"])
def test_other_formats_are_written_new(tmp_path, ending):
    array = np.random.default_rng(0).normal(0, 99, SHAPE[::-1]).astype(np.float32)
    source = tmp_path / f"a{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(array), str(source))
    assert not exported(tmp_path, source).is_symlink()


@pytest.mark.parametrize("reader", [NibabelIO, NibabelIOWithReorient, SimpleITKIO])
@pytest.mark.parametrize("kind", ["4 axes", "a matrix", "NIfTI-2"])
@pytest.mark.parametrize("name", NAMES)
def test_a_model_s_own_reader_is_given_what_we_read(tmp_path, reader, kind, name):
    source = tmp_path / name
    content = WRITTEN[kind]
    source.write_bytes(content if name.endswith(".nii") else gzip.compress(content))
    network = SimpleNamespace(reader=reader(), prepare=lambda given: given)
    case = Case("a", 2, {"ct": source}, {}, {}, tmp_path)
    given = Engine([network], ["ct"], Timings(), Run()).prepare(case).prepared
    array, properties = given.image, given.properties
    ours = read_volume(source).array
    assert array.shape == (1, *ours.shape)
    np.testing.assert_allclose(properties["spacing"], read_grid(source).spacing_zyx, rtol=1e-6)
    np.testing.assert_array_equal(np.sort(array.ravel()), np.sort(ours.ravel()))
    if reader is not NibabelIOWithReorient:
        np.testing.assert_array_equal(array[0], ours)

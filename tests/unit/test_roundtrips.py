"""Random masks written by other libraries in each format and read back equal to the voxel."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from backsplit.volume import read_geometry, read_grid, read_labels, read_volume
from support.examples import examples

TYPES = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")
ORDERS = st.sampled_from("<>")


@st.composite
def masks(draw):
    """A mask (x, y, z) of few voxels and any values that its type holds."""
    dtype = np.dtype(draw(st.sampled_from(TYPES)))
    shape = draw(st.tuples(*[st.integers(2, 5)] * 3))
    most = 127 if dtype.itemsize == 1 and dtype.kind == "i" else 255
    most = draw(st.sampled_from((1, most) if dtype.itemsize == 1 else (1, most, 300, 65534)))
    most = min(most, np.iinfo(dtype).max) if dtype.kind != "f" else most
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return (rng.integers(0, most + 1, shape) * rng.integers(0, 2, shape)).astype(dtype)


@st.composite
def frames(draw):
    """Spacing, origin and cosines (columns), LPS: upright in any order and sign, or oblique."""
    spacing = np.array(draw(st.tuples(*[st.floats(0.3, 5)] * 3)))
    origin = np.array(draw(st.tuples(*[st.floats(-500, 500)] * 3)))
    angles = draw(st.sampled_from(((0, 0, 0), (0.3, -0.2, 0.7), (1.2, 0.1, -2.9))))
    matrix = np.reshape(sitk.Euler3DTransform((0, 0, 0), *angles).GetMatrix(), (3, 3))
    order = draw(st.permutations(range(3)))
    signs = draw(st.tuples(*[st.sampled_from((1.0, -1.0))] * 3))
    return spacing, origin, matrix[:, order] * signs


def itk_image(mask, frame):
    spacing, origin, direction = frame
    image = sitk.GetImageFromArray(mask.transpose(2, 1, 0))
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(origin.tolist())
    image.SetDirection(direction.ravel().tolist())
    return image


def require_mask(path, mask):
    np.testing.assert_array_equal(read_labels(path).array, mask.transpose(2, 1, 0))
    raw = read_volume(path).array
    np.testing.assert_array_equal(raw, mask.transpose(2, 1, 0))
    assert raw.dtype.isnative


def require_frame(path, frame, atol=1e-9):
    spacing, origin, direction = frame
    grid = read_grid(path)
    np.testing.assert_allclose(grid.spacing, spacing, rtol=1e-6)
    np.testing.assert_allclose(grid.origin, origin, atol=max(atol, 1e-6))
    np.testing.assert_allclose(np.reshape(grid.direction, (3, 3)), direction, atol=max(atol, 1e-6))


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@examples(400)
@given(
    mask=masks(), frame=frames(), order=ORDERS, version=st.sampled_from((1, 2)),
    ending=st.sampled_from((".nii", ".nii.gz", ".NII", ".NII.GZ")),
    forms=st.sampled_from(((1, 1), (2, 0), (0, 1))), scaled=st.booleans(), axes=st.integers(3, 5),
)  # fmt: skip
def test_nifti_of_nibabel_is_read_to_the_voxel(
    folder, mask, frame, order, version, ending, forms, scaled, axes
):
    spacing, origin, direction = frame
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = direction * spacing, origin
    affine = np.diag([-1, -1, 1, 1]) @ affine
    kind = {1: nib.Nifti1Image, 2: nib.Nifti2Image}[version]
    stored = mask.reshape(mask.shape + (1,) * (axes - 3)).astype(mask.dtype.newbyteorder(order))
    image = kind(stored, None, kind.header_class(endianness=order))
    image.header.set_data_dtype(stored.dtype)
    image.header.set_sform(affine, forms[0])
    image.header.set_qform(affine, forms[1])
    if scaled:
        image.header.set_slope_inter(1 / 255, 0)
    plain = image.to_bytes()
    path = folder / f"a{ending}"
    packed = ending.lower().endswith(".gz")
    path.write_bytes(plain if not packed else gzip.compress(plain, 1))
    oracle = np.asarray(nib.load(path).dataobj).reshape(mask.shape)
    if not scaled:
        require_mask(path, mask)
    np.testing.assert_allclose(read_volume(path).array, oracle.transpose(2, 1, 0), rtol=1e-6)
    require_frame(path, frame, atol=1e-3)  # float32 headers, float32 quaternions
    path.unlink()


@examples(300)
@given(mask=masks(), frame=frames(), ending=st.sampled_from((".nii", ".nii.gz")))
def test_nifti_of_itk_is_read_to_the_voxel(folder, mask, frame, ending):
    path = folder / f"itk{ending}"
    sitk.WriteImage(itk_image(mask, frame), str(path))
    require_mask(path, mask)
    require_frame(path, frame, atol=1e-3)


SPACES = {
    "left-posterior-superior": (1, 1, 1), "LPS": (1, 1, 1), "right-anterior-superior": (-1, -1, 1),
    "RAS": (-1, -1, 1), "left-anterior-superior": (1, -1, 1), "LAS": (1, -1, 1),
}  # fmt: skip


@examples(400)
@given(
    mask=masks(), frame=frames(), order=ORDERS, space=st.sampled_from(sorted(SPACES)),
    encoding=st.sampled_from(("raw", "gzip", "bzip2")), beside=st.booleans(),
    capitals=st.booleans(),
)  # fmt: skip
def test_nrrd_of_pynrrd_is_read_to_the_voxel(
    folder, mask, frame, order, space, encoding, beside, capitals
):
    spacing, origin, direction = frame
    signs = np.array(SPACES[space])
    header = {
        "space": space, "kinds": ["domain"] * 3, "encoding": encoding,
        "endian": {"<": "little", ">": "big"}[order],
        "space directions": (direction * spacing * signs[:, None]).T,
        "space origin": origin * signs,
    }  # fmt: skip
    path = folder / ("a.nhdr" if beside else "a.nrrd")
    stored = mask.astype(mask.dtype.newbyteorder(order))
    nrrd.write(str(path), stored, header, detached_header=beside)
    read, _ = nrrd.read(str(path))
    np.testing.assert_array_equal(read, mask)
    if capitals:
        path = path.rename(folder / path.name.upper())
    require_mask(path, mask)
    require_frame(path, frame)
    path.unlink()


@examples(300)
@given(
    mask=masks(), frame=frames(), packed=st.booleans(),
    ending=st.sampled_from((".nrrd", ".nhdr", ".mha", ".mhd")),
)  # fmt: skip
def test_nrrd_and_metaimage_of_itk_are_read_to_the_voxel(folder, mask, frame, packed, ending):
    path = folder / f"itk{ending}"
    sitk.WriteImage(itk_image(mask, frame), str(path), useCompression=packed)
    require_mask(path, mask)
    require_frame(path, frame)
    assert read_geometry(path).faithful
    shouted = folder / f"ITK{ending.upper()}"
    path.rename(shouted)
    require_mask(shouted, mask)


@examples(400)
@given(
    mask=masks(), frame=frames(), order=ORDERS, axes=st.integers(3, 4),
    at_end=st.booleans(), names=st.sampled_from((
        ("TransformMatrix", "Offset", "ElementSpacing"),
        ("Rotation", "Position", "ElementSize"),
        ("Orientation", "Origin", "ElementSpacing"),
    )),
)  # fmt: skip
def test_metaimage_of_any_make_is_read_as_itk_reads_it(
    folder, mask, frame, order, axes, at_end, names
):
    """Byte orders, synonyms, a fourth axis and a header of unknown length in the data's file."""
    spacing, origin, direction = frame
    matrix, place, lengths = np.eye(axes), np.zeros(axes), np.ones(axes)
    matrix[:3, :3], place[:3], lengths[:3] = direction.T, origin, spacing
    types = [
        "CHAR",
        "UCHAR",
        "SHORT",
        "USHORT",
        "INT",
        "UINT",
        "LONG_LONG",
        "ULONG_LONG",
        "FLOAT",
        "DOUBLE",
    ]
    lines = {
        "ObjectType": "Image", "NDims": axes, "BinaryData": "True",
        "BinaryDataByteOrderMSB": order == ">",
        names[0]: " ".join(f"{v:.17g}" for v in matrix.flat),
        names[1]: " ".join(f"{v:.17g}" for v in place),
        names[2]: " ".join(f"{v:.17g}" for v in lengths),
        "DimSize": " ".join(map(str, [*mask.shape, 1][:axes])),
        "ElementType": f"MET_{types[TYPES.index(mask.dtype.str[1:])]}",
    }  # fmt: skip
    data = mask.astype(mask.dtype.newbyteorder(order)).tobytes(order="F")
    path = folder / ("any.mhd" if at_end else "any.mha")
    if at_end:
        lines["HeaderSize"] = -1
        (folder / "any.raw").write_bytes(b"a header of some kind" + data)
    lines["ElementDataFile"] = "any.raw" if at_end else "LOCAL"
    text = "".join(f"{key} = {value}\n" for key, value in lines.items())
    path.write_bytes(text.encode() + (b"" if at_end else data))
    oracle = sitk.ReadImage(str(path), imageIO="MetaImageIO")
    stored = sitk.GetArrayFromImage(oracle).reshape(mask.shape[::-1])
    np.testing.assert_array_equal(stored, mask.transpose(2, 1, 0))
    require_mask(path, mask)
    require_frame(path, frame)
    cosines = np.reshape(oracle.GetDirection(), (axes, axes))[:3, :3]
    np.testing.assert_allclose(np.reshape(read_grid(path).direction, (3, 3)), cosines, atol=1e-12)
    np.testing.assert_allclose(read_grid(path).spacing, oracle.GetSpacing()[:3])
    np.testing.assert_allclose(read_grid(path).origin, oracle.GetOrigin()[:3], atol=1e-12)


def test_spaces_of_nrrd_are_those_of_itk(tmp_path):
    mask = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    for space in SPACES:
        path = tmp_path / f"{space}.nrrd"
        directions = [[0, 2.0, 0], [0, 0, -1.5], [3.0, 0, 0]]
        header = {"space": space, "space directions": directions, "space origin": [7.0, 8, 9]}
        nrrd.write(str(path), mask, header)
        oracle, grid = sitk.ReadImage(str(path), imageIO="NrrdImageIO"), read_grid(path)
        assert grid.direction == oracle.GetDirection() and grid.spacing == oracle.GetSpacing()
        assert grid.origin == oracle.GetOrigin()

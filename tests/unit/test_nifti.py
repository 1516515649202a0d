"""NIfTI headers against nibabel: what it writes we read, what we write it reads."""

from __future__ import annotations

import gzip
from io import BytesIO

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from backsplit.errors import CaseError, Code
from backsplit.volume import Grid, read_geometry, read_volume, save_nifti
from backsplit.volume.nifti import (
    QUATERNION_ROUNDING,
    NiftiHeader,
    parse_header,
    read_header,
)
from support.examples import examples

LENGTHS = st.floats(0.05, 12)
PLACES = st.floats(-2000, 2000)


@st.composite
def affines(draw):
    """Any rotation, mirrored or not, with lengths and an offset; 4x4, RAS."""
    angles = draw(st.tuples(*[st.floats(-np.pi, np.pi)] * 3))
    matrix = np.reshape(sitk.Euler3DTransform((0, 0, 0), *angles).GetMatrix(), (3, 3))
    affine = np.eye(4)
    affine[:3, :3] = matrix * draw(st.tuples(LENGTHS, LENGTHS, LENGTHS))
    affine[:3, 2] *= draw(st.sampled_from((1, -1)))
    affine[:3, 3] = draw(st.tuples(PLACES, PLACES, PLACES))
    return affine


def qform_of(raw, ours):
    """What nibabel reads; it refuses of its own writing what rounding made longer than 1."""
    try:
        return raw.get_qform(coded=True)
    except ValueError as error:
        assert "w2 should be positive, but is -" in str(error) and raw["qform_code"] > 0
        beyond = sum(float(raw[f"quatern_{axis}"]) ** 2 for axis in "bcd") - 1
        assert beyond < 1e-14  # NIfTI-2: a few steps of a double
        return ours.qform, int(raw["qform_code"])


def parsed(image) -> NiftiHeader:
    return parse_header(image.to_bytes())


@examples(400)
@given(
    affine=affines(),
    other=affines(),
    codes=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    kind=st.sampled_from((nib.Nifti1Image, nib.Nifti2Image)),
    order=st.sampled_from("<>"),
    dtype=st.sampled_from(("u1", "i2", "u2", "i4", "f4", "f8", "i1", "u4", "i8", "u8")),
    scaling=st.sampled_from(((None, None), (0.5, -3.25), (0.0, 7.0), (np.nan, 0.0))),
)
def test_what_nibabel_writes_is_read_as_nibabel_reads_it(
    affine, other, codes, kind, order, dtype, scaling
):
    array = np.zeros((3, 4, 5), order + dtype)
    image = kind(array, None, kind.header_class(endianness=order))
    image.header.set_data_dtype(array.dtype)
    image.header.set_sform(affine, codes[0])
    image.header.set_qform(other, codes[1])
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"made by hand"
    content = bytearray(image.to_bytes())
    raw = kind.header_class.from_fileobj(BytesIO(content), check=False)
    raw["scl_slope"], raw["scl_inter"] = (np.nan if s is None else s for s in scaling)
    content[: raw.sizeof_hdr] = raw.binaryblock
    ours = parse_header(bytes(content))
    assert ours.size == (3, 4, 5) and ours.unit == 2 and ours.description == "made by hand"
    assert ours.dtype == array.dtype and ours.offset == raw.get_data_offset()
    oracle = [s for s in raw.get_slope_inter() if s is not None] or [1.0, 0.0]
    assert [ours.slope, ours.intercept] == oracle
    np.testing.assert_array_equal(ours.spacing, raw["pixdim"][1:4])
    # near half turns readers differ in what they take for rounding: see the test against ITK
    quaternion = np.array([raw[f"quatern_{axis}"] for axis in "bcd"], float)
    half_turn = abs(1 - quaternion @ quaternion) < QUATERNION_ROUNDING
    turned = 2 * np.sqrt(QUATERNION_ROUNDING) * max(raw["pixdim"][1:4]) if half_turn else 0
    for mine, (theirs, code), apart in (
        (ours.sform, raw.get_sform(coded=True), 0),
        (ours.qform, qform_of(raw, ours), turned),
    ):
        assert (mine is None) == (code == 0)
        if mine is not None:
            np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-6 + apart)


@examples(200)
@given(
    axis=st.sampled_from(((1, 0, 0), (0, 1, 0), (0, 0, 1), (0.6, 0, 0.8), (0.6, -0.48, 0.64))),
    short=st.floats(-2e-3, 2e-3),
)
def test_quaternions_near_half_turns_are_read_as_by_itk(axis, short, tmp_path_factory):
    path = tmp_path_factory.mktemp("n") / "a.nii"
    image = nib.Nifti1Image(np.zeros((3, 4, 5), "u1"), None)
    half = (np.pi - short) / 2
    image.header["sform_code"], image.header["qform_code"] = 0, 1
    for name, part in zip("bcd", np.multiply(axis, np.sin(half)), strict=True):
        image.header[f"quatern_{name}"] = part
    path.write_bytes(image.to_bytes())
    ours = np.diag([-1, -1, 1]) @ read_header(path).qform[:3, :3]
    theirs = np.reshape(sitk.ReadImage(str(path)).GetDirection(), (3, 3))
    np.testing.assert_allclose(ours, theirs, atol=2e-7)


@examples(100)
@given(affine=affines())
def test_written_nifti_is_read_by_nibabel_and_itk(affine, tmp_path_factory):
    path = tmp_path_factory.mktemp("n") / "a.nii.gz"
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    direction = (lps[:3, :3] / spacing).ravel()
    grid = Grid((3, 4, 5), tuple(spacing.tolist()), tuple(lps[:3, 3]), tuple(direction.tolist()))
    save_nifti(path, np.ones(grid.shape, np.uint8), grid)
    image = nib.load(path)
    size = np.abs(affine).max()
    np.testing.assert_allclose(image.get_sform(), affine, atol=1e-6 * size)
    # near half turns nibabel takes the fourth part of a quaternion for rounding's
    near_half_turn = 2 * np.sqrt(QUATERNION_ROUNDING)
    np.testing.assert_allclose(image.get_qform(), affine, atol=1.01 * near_half_turn * size)
    assert image.header.get_xyzt_units()[0] == "mm"
    assert [int(image.header[code]) for code in ("sform_code", "qform_code")] == [1, 1]
    again = sitk.ReadImage(str(path))
    np.testing.assert_allclose(again.GetSpacing(), grid.spacing, rtol=1e-6)
    np.testing.assert_allclose(again.GetDirection(), grid.direction, atol=1e-5)


def test_a_label_map_takes_over_every_other_field_of_its_image(tmp_path):
    image = nib.Nifti1Image(np.zeros((3, 4, 5), ">f4"), None, nib.Nifti1Header(endianness=">"))
    image.header.set_sform(np.diag([-1.5, 2, 3, 1]), 3)
    image.header.set_qform(np.diag([-1.5, 2, 3, 1]), 2)
    image.header.set_xyzt_units("mm")
    for name, value in (("cal_max", 9), ("descrip", "CT"), ("aux_file", "x")):
        image.header[name] = value
    nib.save(image, tmp_path / "image.nii")
    grid = read_geometry(tmp_path / "image.nii").grid
    save_nifti(
        tmp_path / "labels.nii.gz", np.ones(grid.shape, np.uint8), grid, tmp_path / "image.nii"
    )
    before, after = nib.load(tmp_path / "image.nii").header, nib.load(tmp_path / "labels.nii.gz")
    changed = {
        name for name in before if before[name].tobytes() != after.header[name].tobytes()
    } - {"scl_slope", "scl_inter"}  # nibabel blanks them in a loaded header
    assert changed == {"datatype", "bitpix", "cal_max", "descrip"}
    assert after.header.endianness == ">" and after.get_fdata().all()
    assert after.dataobj.slope == 1 and after.header["cal_max"] == 0


def test_a_nifti_2_image_lends_no_header_but_its_place(tmp_path):
    nib.save(
        nib.Nifti2Image(np.zeros((3, 4, 5), "i2"), np.diag([-1, -1, 2, 1])), tmp_path / "a.nii"
    )
    grid = read_geometry(tmp_path / "a.nii").grid
    save_nifti(tmp_path / "b.nii.gz", np.zeros(grid.shape, np.uint8), grid, tmp_path / "a.nii")
    written = nib.load(tmp_path / "b.nii.gz")
    assert type(written) is nib.Nifti1Image
    np.testing.assert_array_equal(written.affine, nib.load(tmp_path / "a.nii").affine)


def sound() -> bytearray:
    return bytearray(nib.Nifti1Image(np.ones((3, 4, 5), "i2"), np.diag([1, 1, 2, 1])).to_bytes())


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        (0, b"\0\0\0\0", "begins with the bytes"),
        (40, b"\0\0", "0 axes"),
        (40, b"\x09\0", "9 axes"),
        (70, b"\x20\0", "type 32"),  # complex
        (70, b"\x80\0", "type 128"),  # colours
        (70, b"\x01\0", "type 1,"),  # bits
        (108, np.float32(0).tobytes(), "byte 0"),
        (108, np.float32(np.nan).tobytes(), "byte nan"),
        (108, np.float32(1e9).tobytes(), "the header says"),
        (112, np.float32([2, np.inf]).tobytes(), "shifted by inf"),
        (344, b"ni1\0", "ni1"),
        (344, b"\0\0\0\0", "mark"),
    ],
)
def test_unusable_headers_are_refused_with_a_reason(tmp_path, at, value, said):
    content = sound()
    content[at : at + len(value)] = value
    path = tmp_path / "a.nii"
    path.write_bytes(content)
    with pytest.raises(CaseError) as caught:
        read_volume(path)
    assert caught.value.code is Code.FILE_UNREADABLE and said in caught.value.message


def test_cut_headers_are_refused(tmp_path):
    for name, content, said in (
        ("a.nii", sound()[:347], "cut off"),
        ("a.nii", b"", "empty"),
        ("b.nii.gz", gzip.compress(sound()[:200]), "cut off"),
        ("c.nii.gz", gzip.compress(sound())[:40], ""),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CaseError) as caught:
            read_geometry(tmp_path / name)
        assert caught.value.code is Code.FILE_UNREADABLE and said in caught.value.message


def test_a_missing_sign_of_the_third_axis_is_plus(tmp_path):
    """nifti1.h: 0 counts as 1; nibabel mends it when it loads an image."""
    path = tmp_path / "a.nii"
    content = sound()
    content[76:80] = np.float32(0).tobytes()
    content[252:256] = np.int16([1, 0]).tobytes()  # qform alone
    path.write_bytes(content)
    oracle = sitk.ReadImage(str(path))
    assert oracle.GetDirection() == read_geometry(path).grid.direction
    np.testing.assert_array_equal(read_header(path).qform[:3, :3], np.diag([1, 1, 2]))
    np.testing.assert_array_equal(nib.load(path).affine, read_header(path).qform)


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (76, np.float32(-2)),  # the sign of the third axis: nibabel takes 1, ITK -1
        (76, np.float32(np.nan)),
        (252, np.int16(7)),  # a code of qform that there is not: none for nibabel, one for ITK
        (252, np.int16(-1)),
    ],
)
def test_what_readers_take_differently_is_refused(tmp_path, at, value):
    path = tmp_path / "a.nii"
    content = sound()
    content[252:256] = np.int16([1, 0]).tobytes()  # qform alone
    content[at : at + value.nbytes] = value.tobytes()
    path.write_bytes(content)
    with pytest.raises(CaseError) as caught:
        read_geometry(path)
    assert caught.value.code is Code.ORIENTATION_AMBIGUOUS


def test_gzip_of_any_make_is_read(tmp_path):
    """Members of a few bytes, an empty one, 20 kB of extra field: as nibabel and ITK read them."""
    plain = bytes(sound())
    extra = gzip.compress(plain)
    field = (20_000).to_bytes(2, "little") + bytes(20_000)
    makes = {
        "members": b"".join(gzip.compress(plain[i : i + 100]) for i in range(0, len(plain), 100)),
        "empty": gzip.compress(b"") + gzip.compress(plain),
        "extra": extra[:3] + bytes([extra[3] | 4]) + extra[4:10] + field + extra[10:],
    }
    for name, content in makes.items():
        path = tmp_path / f"{name}.nii.gz"
        path.write_bytes(content)
        assert read_volume(path).array.sum() == 60 == nib.load(path).get_fdata().sum(), name


def test_trainers_get_nifti_2_as_nifti_1(project):
    project.add("a")
    path = project.folder / "images" / "a.nii.gz"
    image = nib.load(path)
    array = np.asarray(image.dataobj)
    nib.save(nib.Nifti2Image(array, image.affine), path)
    project.write()
    for verb in (["check"], ["segment", "tissue"], ["compose"], ["measure"], ["judge"], ["export"]):
        project.run(*verb)
    (written,) = project.results.glob("datasets/nnunet/*/imagesTr/a_0000.nii.gz")
    again = sitk.GetArrayFromImage(sitk.ReadImage(str(written)))
    np.testing.assert_array_equal(again.transpose(2, 1, 0), array)


def test_sizes_beyond_nifti_1_are_refused(tmp_path):
    image = nib.Nifti2Image(np.zeros((40_000, 2, 2), np.uint8), np.eye(4))
    nib.save(image, tmp_path / "long.nii.gz")
    with pytest.raises(CaseError) as caught:
        read_geometry(tmp_path / "long.nii.gz")
    assert caught.value.code is Code.NOT_3D and "32767" in caught.value.message

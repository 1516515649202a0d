"""Content decides what a file is, whatever its name says; what is not on the list is refused."""

from __future__ import annotations

import bz2
import gzip
import io
import shlex
import subprocess
import sys
import zlib
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from backsplit.errors import CaseError, Code
from backsplit.volume import read_geometry, read_labels, read_volume
from support.project import save

MASK = (np.arange(60).reshape(3, 4, 5) % 3).astype(np.int16)
AFFINE = np.diag([-1.5, -1.5, 3, 1])


def nifti(codes=(1, 1)):
    content = bytearray(nib.Nifti1Image(MASK.transpose(2, 1, 0), AFFINE).to_bytes())
    content[252:256] = np.array(codes, "<i2").tobytes()
    return bytes(content)


def text_of(path, reader=read_volume, code=Code.FILE_UNREADABLE):
    with pytest.raises(CaseError) as caught:
        reader(path)
    assert caught.value.code is code and path.name in caught.value.what and caught.value.remedy
    return caught.value.message


@pytest.mark.parametrize(
    "name", ["a.nii", "a.NII", "a.Nii.Gz", "a.NII.GZ", "a.nii.gz", "a.dat", "a", "a.nrrd"]
)
@pytest.mark.parametrize("packed", [True, False])
def test_nifti_is_read_under_any_name(tmp_path, name, packed):
    path = tmp_path / name
    path.write_bytes(gzip.compress(nifti()) if packed else nifti())
    np.testing.assert_array_equal(read_labels(path).array, MASK)
    path.write_bytes(gzip.compress(nifti((0, 0))) if packed else nifti((0, 0)))
    text_of(path, code=Code.ORIENTATION_UNKNOWN)
    half = nifti()[: len(nifti()) - 40]
    path.write_bytes(gzip.compress(half) if packed else half)
    assert "where the header says" in text_of(path)


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
@pytest.mark.parametrize("name", ["A.NRRD", "A.MHA", "a.nii.gz", "ä b"])
def test_nrrd_and_metaimage_are_read_under_any_name(tmp_path, ending, name):
    whole = save(tmp_path / f"whole{ending}", MASK).read_bytes()
    path = tmp_path / name
    path.write_bytes(whole)
    np.testing.assert_array_equal(read_labels(path).array, MASK)
    path.write_bytes(gzip.compress(whole))
    assert "with gzip around all of it" in text_of(path)


def bytes_of(write, *arguments, **options):
    stream = io.BytesIO()
    write(stream, *arguments, **options)
    return stream.getvalue()


def hdf5():
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file["image"] = MASK
    return stream.getvalue()


def picture(kind):
    return bytes_of(Image.fromarray(MASK[0].astype(np.uint8)).save, format=kind)


def mgh():
    return nib.MGHImage(MASK.transpose(2, 1, 0), AFFINE).to_bytes()


OTHERS = {
    "PNG": lambda: picture("PNG"),
    "JPEG": lambda: picture("JPEG"),
    "TIFF": lambda: picture("TIFF"),
    "GIF": lambda: picture("GIF"),
    "HDF5": hdf5,
    "netCDF": lambda: b"CDF\x01" + bytes(100),
    "MGH": mgh,
    "gzip around a FreeSurfer": lambda: gzip.compress(mgh()),
    "NumPy": lambda: bytes_of(np.save, MASK),
    "ZIP": lambda: bytes_of(np.savez, MASK),
    "bzip2": lambda: bz2.compress(nifti()),
    "HTML": lambda: b"<!DOCTYPE html>\n<html>404</html>",
    "JSON": lambda: b'{"error": 404}',
    "git lfs pull": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
    "git annex get": lambda: b"/annex/objects/MD5E-s1--0.nii.gz\n",
    "a text": lambda: b"id;left;right\n1;2;3\n",
    "is empty": lambda: b"",
    "begins with the bytes 07 09": lambda: bytes([7, 9, 0, 1]) * 90,
}


@pytest.mark.parametrize("name", ["a.nii.gz", "a.NRRD", "b.mha", "c"])
@pytest.mark.parametrize("kind", OTHERS)
def test_other_formats_are_named_and_refused(tmp_path, kind, name):
    path = tmp_path / name
    path.write_bytes(OTHERS[kind]())
    for reader in (read_volume, read_labels, read_geometry):
        assert kind in text_of(path, reader)


@pytest.mark.parametrize("shout", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_pairs_of_header_and_voxels_are_refused(tmp_path, packed, shout):
    ending = ".img.gz" if packed else ".img"
    nib.save(nib.Nifti1Pair(MASK.transpose(2, 1, 0), AFFINE), tmp_path / f"pair{ending}")
    nib.save(nib.AnalyzeImage(MASK.transpose(2, 1, 0), AFFINE), tmp_path / f"old{ending}")
    for path in list(tmp_path.iterdir()):
        name = path.name if not shout else path.name.upper()
        path.rename(tmp_path / name)
    for path in tmp_path.iterdir():
        said = text_of(path)
        if path.name.lower().startswith("pair"):
            assert "NIfTI pair" in said and "nib-convert" in said and ".nii.gz" in said
        else:
            assert "Analyze" in said and "nib-convert" not in said
    (tmp_path / "lone.img").write_bytes(bytes(range(7, 90)))
    assert "Analyze" in text_of(tmp_path / "lone.img")


def test_links_and_files_that_can_only_be_read_are_read(tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    (store / "content").write_bytes(gzip.compress(nifti()))
    (store / "content").chmod(0o444)
    link = tmp_path / "a link (1).NII"
    link.symlink_to("store/content")
    np.testing.assert_array_equal(read_labels(link).array, MASK)
    link.unlink()
    link.symlink_to("nowhere")
    text_of(link, code=Code.FILE_MISSING)


@pytest.mark.parametrize("name", ["it's old.mgz", "pair.hdr"])
def test_the_command_that_converts_can_be_pasted(tmp_path, name):
    path = tmp_path / name
    kind = nib.Nifti1Pair if path.suffix == ".hdr" else nib.MGHImage
    nib.save(kind(MASK.transpose(2, 1, 0), AFFINE), path)
    command = shlex.split(text_of(path).partition("convert it: ")[2].partition(" (code")[0])
    subprocess.run([Path(sys.executable).with_name(command[0]), *command[1:]], check=True)
    converted = tmp_path / f"{path.stem}.nii.gz"
    np.testing.assert_array_equal(read_labels(converted).array, MASK)


def test_names_in_messages_are_quoted_for_a_shell(tmp_path):
    path = tmp_path / "a'; rm -rf x.mgh"
    path.write_bytes(mgh())
    assert """'"'"'; rm -rf x.mgh'""" in text_of(path)


def detached(tmp_path, ending, **changes):
    """A header with its voxels beside it, some of its lines others."""
    path = save(tmp_path / f"a{ending}", MASK)
    lines = path.read_text("latin-1").splitlines()
    sign = ":" if ending == ".nhdr" else " ="
    for name, value in changes.items():
        key = name.replace("_", " ") if ending == ".nhdr" else name
        lines = [line for line in lines if not line.startswith(f"{key}{sign}")]
        if value is not None:
            lines.insert(-1, f"{key}{sign} {value}")
    path.write_text("\n".join([line for line in lines if line] + [""]))
    return path


@pytest.mark.parametrize("ending", [".nhdr", ".mhd"])
def test_voxels_beside_a_header_must_be_there_and_whole(tmp_path, ending):
    path = detached(tmp_path, ending)
    np.testing.assert_array_equal(read_volume(path).array, MASK)
    raw = tmp_path / "a.raw"
    whole = raw.read_bytes()
    for content in (whole[:-1], whole + b"\0", b""):
        raw.write_bytes(content)
        for reader in (read_volume, read_geometry):  # without reading them
            assert "where the header says 120" in text_of(path, reader)
    raw.unlink()
    assert "a.raw" in text_of(path, code=Code.FILE_MISSING)


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
@pytest.mark.parametrize("packed", [True, False])
def test_cut_and_overlong_voxels_are_refused(tmp_path, ending, packed):
    import SimpleITK as sitk

    array = np.random.default_rng(0).integers(0, 9, (9, 10, 11)).astype(np.int16)
    path = tmp_path / f"a{ending}"
    image = sitk.GetImageFromArray(array)
    sitk.WriteImage(image, str(path), useCompression=packed)
    whole = path.read_bytes()
    for cut in (1, 2, 9, 100, 500):
        path.write_bytes(whole[:-cut])
        text_of(path)
    if not packed:
        path.write_bytes(whole + b"\0")
        assert "where the header says 1980" in text_of(path)
    header, encoding = (whole.split(b"\n\n")[0] + b"\n\n", 31) if ending == ".nrrd" else (
        whole.split(b"LOCAL\n")[0] + b"LOCAL\n", 15)  # fmt: skip
    if packed:
        for content in (array.tobytes()[:-2], array.tobytes() + b"\0\0"):
            stream = zlib.compressobj(wbits=encoding)
            path.write_bytes(header + stream.compress(content) + stream.flush())
            text_of(path)
        stream = zlib.compressobj(wbits=encoding)
        damaged = bytearray(stream.compress(array.tobytes()) + stream.flush())
        damaged[-6 if ending == ".nrrd" else -2] ^= 1  # of the checksum
        path.write_bytes(header + damaged)
        text_of(path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data_file": "LIST"}, "several files"),
        ({"data_file": "a%02d.raw 1 3 1"}, "several files"),
        ({"encoding": "hex"}, "encoding 'hex'"),
        ({"type": "block"}, "type 'block'"),
        ({"endian": None}, "endian"),
        ({"byte_skip": "-7"}, "skips"),
        ({"byte_skip": "1"}, "119 bytes"),
        ({"line_skip": "3"}, "bytes"),
        ({"space_directions": "(1,0,0) (0,1,0)"}, "2 space directions for 3 axes"),
        ({"space_directions": "(1,0) (0,1) (1,1)"}, "not a vector"),
        ({"space_origin": "(nan,0,0)"}, "first voxel"),
        ({"dimension": "4"}, "sizes are 3 numbers"),
    ],
)
def test_what_a_nrrd_header_says_in_vain_is_refused(tmp_path, changes, said):
    assert said in text_of(detached(tmp_path, ".nhdr", **changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ElementDataFile": "LIST"}, "several files"),
        ({"ElementDataFile": "a%02d.raw"}, "several files"),
        ({"ElementDataFile": "/etc/passwd"}, "not next to it"),
        ({"BinaryData": "False"}, "as text"),
        ({"BinaryData": "maybe"}, "maybe"),
        ({"ElementType": "MET_FLOAT_ARRAY"}, "not numbers"),
        ({"ElementToIntensityFunctionSlope": "2"}, "slope"),
        ({"HeaderSize": "1"}, "119 bytes"),
        ({"HeaderSize": "-3"}, "HeaderSize"),
        ({"NDims": "4"}, "NDims 4"),
        ({"Offset": "1 2"}, "fit NDims"),
    ],
)
def test_what_a_metaimage_header_says_in_vain_is_refused(tmp_path, changes, said):
    assert said in text_of(detached(tmp_path, ".mhd", **changes))


@pytest.mark.parametrize(
    ("ending", "changes", "code"),
    [
        (".mhd", {"ElementNumberOfChannels": "3"}, Code.NOT_3D),
        (".mhd", {"DimSize": "60 1 1"}, Code.NOT_3D),
        (".mhd", {"TransformMatrix": None}, Code.ORIENTATION_UNKNOWN),
        (".mhd", {"ElementSpacing": None}, Code.SPACING_INVALID),
        (".mhd", {"ElementSpacing": "1 0 1"}, Code.SPACING_INVALID),
        (".mhd", {"DistanceUnits": "um"}, Code.SPACING_INVALID),
        (".mhd", {"TransformMatrix": "1 0 0 0.5 1 0 0 0 1"}, Code.DIRECTION_SHEARED),
        (".nhdr", {"space": "scanner-xyz"}, Code.ORIENTATION_UNKNOWN),
        (".nhdr", {"space_directions": None}, Code.ORIENTATION_UNKNOWN),
        (".nhdr", {"space_units": '"um" "um" "um"'}, Code.SPACING_INVALID),
        (".nhdr", {"space_directions": "none (0,1,0) (0,0,1)"}, Code.NOT_3D),
        (".nhdr", {"space_directions": "(0,0,0) (0,1,0) (0,0,1)"}, Code.SPACING_INVALID),
    ],
)
def test_grids_that_headers_do_not_give_have_their_code(tmp_path, ending, changes, code):
    text_of(detached(tmp_path, ending, **changes), code=code)


def test_vectors_are_no_volume_and_an_axis_of_one_is_left_out(tmp_path):
    import nrrd

    for components, code in ((1, None), (3, Code.NOT_3D)):
        path = tmp_path / f"{components}.nrrd"
        header = {
            "space": "LPS", "kinds": ["vector", "domain", "domain", "domain"],
            "space directions": np.vstack([[np.nan] * 3, np.diag([1.0, 2, 3])]),
            "space origin": [0.0, 0, 0],
        }  # fmt: skip
        nrrd.write(str(path), np.stack([MASK.transpose(2, 1, 0)] * components), header)
        if code:
            text_of(path, code=code)
        else:
            np.testing.assert_array_equal(read_volume(path).array, MASK)

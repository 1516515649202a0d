"""The kind `command`: which files are its outputs, and what becomes of its folder."""

from __future__ import annotations

import os
import shutil
import sys

import numpy as np
import pytest

from backsplit.errors import Code
from backsplit.segment.program import working_folder
from support.cases import marked_case
from support.command import LABELLER, expected, labelled

pytestmark = pytest.mark.usefixtures("temporary")

MASKS = """
import gzip, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import labeller
whole = Path("whole.nii.gz")
labeller.label(Path(sys.argv[1]), whole, "well")
content = gzip.decompress(whole.read_bytes())
folder = Path(sys.argv[2], "run-2026", "masks")
folder.mkdir(parents=True)
for value, name in ((1, "soft tissue"), (2, "[bone]*")):
    data = bytes(int(v == value) for v in content[352:])
    (folder / f"{name}.nii.gz").write_bytes(gzip.compress(content[:352] + data))
"""


def test_a_file_per_class_in_a_folder_whose_name_is_not_known(tmp_path):
    program = tmp_path / "masks.py"
    program.write_text(MASKS)
    command = [sys.executable, str(program), "{image}", "{outputs}", str(LABELLER.parent)]
    keys = {
        "command": command,
        "output": "outputs/run-*/masks/{name}.nii.gz",
        "labels": {"body": "soft tissue", "bone": "[bone]*", "gone": "gone"},
    }
    found = labelled([marked_case(tmp_path, "a")], **keys)["a"]
    np.testing.assert_array_equal(found.array, expected("a"))
    assert list(found.unknown) == ["gone"]
    absent = labelled([marked_case(tmp_path, "a")], **keys, missing="absent")["a"]
    assert absent.unknown == {}


SUFFIXED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import labeller
for image in sorted(Path(sys.argv[1]).glob("*.nii.gz")):
    name = image.name.removesuffix(".nii.gz")
    if name not in sys.argv[4:]:
        labeller.label(image, Path(sys.argv[2], f"{name}_seg.nii.gz"), "well")
"""


@pytest.mark.parametrize("output", ["outputs/{case}*.nii.gz", "outputs/{case}_*.nii.gz"])
def test_no_case_gets_what_was_written_for_another(tmp_path, output):
    """The ids of cases begin alike, and the program leaves one of them out."""
    program = tmp_path / "suffixed.py"
    program.write_text(SUFFIXED)
    names = ["liver_1", "liver_10", "liver", "other"]
    cases = [marked_case(tmp_path, name) for name in names]
    command = [sys.executable, str(program), "{images}", "{outputs}", str(LABELLER.parent)]
    keys = {"batch": "folder", "output": output}
    found = labelled(cases, command=[*command, "liver_1"], **keys)
    assert found.pop("liver_1").code is Code.OUTPUT_MISSING
    for name, result in found.items():
        np.testing.assert_array_equal(result.array, expected(name))


def test_the_image_that_a_program_is_given_is_no_label_map(tmp_path):
    case = marked_case(tmp_path, "a")
    for output in ("images/{case}.nii.gz", "images/{case}*.nii.gz"):
        idle = [sys.executable, "-c", "", "{images}"]
        assert labelled([case], command=idle, output=output)["a"].code is Code.OUTPUT_MISSING


BESIDE = """
import shutil, sys
from pathlib import Path
image = next(Path(sys.argv[1]).glob("*.nii.gz"))
shutil.copy(image, image.with_name("a_seg.nii.gz"))
"""


@pytest.mark.parametrize(("keys", "lacking"), [
    ({}, "outputs/b.nii.gz"),
    ({"batch": "folder"}, "outputs/b.nii.gz"),
    ({"output": "{name}.nii.gz", "labels": ["bone"]}, "bone.nii.gz"),
])  # fmt: skip
def test_labels_beside_the_images_are_named_and_the_images_are_not(tmp_path, keys, lacking):
    cases = [marked_case(tmp_path, name) for name in ("a", "b")]
    found = labelled(cases, command=[sys.executable, "-c", BESIDE, "{images}"], **keys)["b"]
    assert found.code is Code.OUTPUT_MISSING
    assert f"wrote no {lacking} for b; it wrote images/a_seg.nii.gz" in found.what


@pytest.mark.parametrize("how", [
    "os.mkfifo(sys.argv[2])", "os.symlink(sys.argv[1], sys.argv[2])",
    "os.rmdir('outputs'); os.symlink(os.path.dirname(sys.argv[1]), 'outputs')",
])  # fmt: skip
def test_what_lies_elsewhere_or_never_ends_is_no_output(tmp_path, how):
    outside = tmp_path / "outside"
    outside.mkdir()
    labels = outside / "a.nii.gz"
    labels.write_bytes(marked_case(tmp_path, "a").images["ct"].read_bytes())
    command = [sys.executable, "-c", f"import os, sys; {how}", str(labels), "{output}", "{image}"]
    found = labelled([marked_case(tmp_path, "a")], command=command)["a"]
    assert found.code is Code.OUTPUT_MISSING and "not a file in its working folder" in found.what


DETACHED = """
import os, sys
from pathlib import Path
Path(sys.argv[2]).write_text(
    "NRRD0004\\ntype: uint8\\ndimension: 3\\nsizes: 24 20 12\\nencoding: raw\\n"
    "space: left-posterior-superior\\nspace directions: (2,0,0) (0,2,0) (0,0,3)\\n"
    "space origin: (-40,-50,60)\\ndata file: data.raw\\n\\n"
)
place = Path(sys.argv[2]).with_name("data.raw")
(place.symlink_to if sys.argv[4:] else place.hardlink_to)(sys.argv[1])
"""


def test_voxels_beside_a_header_are_not_read_through_a_link_that_leads_out(tmp_path, temporary):
    """A file of any format may be called .nii.gz, and a link may show a file of the machine."""
    secret = temporary / "secret"
    secret.write_bytes(b"\1" * (24 * 20 * 12))
    command = [sys.executable, "-c", DETACHED, str(secret), "{output}", "{image}"]
    cases = [marked_case(tmp_path, "a")]
    assert (labelled(cases, command=command)["a"].array == 1).all()
    found = labelled(cases, command=[*command, "link"])["a"]
    assert found.code is Code.FILE_MISSING and "not next to it" in found.what
    secret.unlink()


LOCKED = """
import os, sys
os.makedirs("deep/er/still")
os.symlink(sys.argv[1], "deep/file")
os.symlink(sys.argv[2], "deep/er/folder")
for folder in ("deep/er/still", "deep/er", "deep", "."):
    os.chmod(folder, 0o500)
"""


def test_what_is_left_read_only_goes_and_nothing_else_is_touched(tmp_path, temporary):
    """As another user than root, who may write everywhere; for root, see the modes."""
    outside = tmp_path / "outside"
    outside.mkdir()
    kept = outside / "kept"
    kept.write_text("kept")
    kept.chmod(0o440)
    outside.chmod(0o550)
    temporary.chmod(0o750)
    command = [sys.executable, "-c", LOCKED, str(kept), str(outside), "{image}"]
    assert labelled([marked_case(tmp_path, "a")], command=command)["a"].code is Code.OUTPUT_MISSING
    modes = [path.stat().st_mode & 0o777 for path in (kept, outside, temporary)]
    assert modes == [0o440, 0o550, 0o750] and kept.read_text() == "kept"
    outside.chmod(0o700)


def test_a_folder_that_cannot_be_emptied_leaves_its_neighbours_alone(temporary, monkeypatch):
    """Somebody who left the process group may still write into it."""
    temporary.chmod(0o755)
    with working_folder() as folder:
        (folder / "file").write_text("")
        rmdir = os.rmdir
        monkeypatch.setattr(os, "rmdir", lambda *_, **__: rmdir("/proc"))
    monkeypatch.undo()
    assert temporary.stat().st_mode & 0o777 == 0o755
    shutil.rmtree(folder)

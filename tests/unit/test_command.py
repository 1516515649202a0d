"""The kind `command`: a program's labels, and what each of its failures costs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from backsplit.cases.table import Case
from backsplit.config.command import Command
from backsplit.config.model import Run
from backsplit.config.slices import Labelling, Placing
from backsplit.errors import CaseError, Code, RunError
from backsplit.segment import device as devices
from backsplit.segment.command import CommandSegmenter
from backsplit.segment.program import working_folder
from support.cases import MARK, marked_case
from support.project import ct_like

LABELLER = Path(__file__).parents[1] / "support" / "labeller.py"
IN_ONE = [sys.executable, str(LABELLER), "{image}", "{output}"]
IN_FOLDERS = [sys.executable, str(LABELLER), "{images}", "{outputs}"]
LABELS = {"body": 1, "bone": 2}
RUN = Run(device="cpu")


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """Temporary files of a test have a folder, in which nothing may stay."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def segmenter_of(run: Run = RUN, **keys: object) -> CommandSegmenter:
    section = Command.model_validate({"kind": "command", "labels": LABELS} | keys)
    return CommandSegmenter(section, Labelling(("ct",), Placing("ct")), run)


def labelled(cases: list[Case], **keys: object) -> dict[str, object]:
    found = list(segmenter_of(**keys).label(cases))
    assert sorted(case.id for case, _ in found) == sorted(case.id for case in cases)
    return {case.id: result for case, result in found}


def expected(name: str) -> np.ndarray:
    image = ct_like()
    image[0, 0, 0] = MARK if name == "bad" else -1000
    return (image > -500).astype(int) + (image > 250)


@pytest.mark.parametrize("keys", [
    {"command": IN_ONE}, {"command": IN_FOLDERS, "batch": "folder"}, {"command": IN_FOLDERS},
])  # fmt: skip
def test_a_program_labels_each_case(tmp_path, keys):
    cases = [marked_case(tmp_path, name) for name in ("a", "b.1", "c")]
    for name, result in labelled(cases, **keys).items():
        np.testing.assert_array_equal(result.array, expected(name))
        assert result.grid.size == (24, 20, 12)
    assert segmenter_of(**keys).classes() == LABELS


FAILURES = {
    "fail": Code.PROGRAM_FAILED,
    "crash": Code.PROGRAM_CRASHED,
    "shift": Code.GRID_MISMATCH,
    "nothing": Code.OUTPUT_MISSING,
    "fraction": Code.LABEL_NOT_INTEGER,
}


@pytest.mark.parametrize(("how", "code"), FAILURES.items())
def test_each_failure_has_its_code_and_costs_one_case(tmp_path, how, code):
    cases = [
        marked_case(tmp_path, "a"),
        marked_case(tmp_path, "bad", bad=True),
        marked_case(tmp_path, "c"),
    ]
    found = labelled(cases, command=[*IN_ONE, "--how", how])
    assert found["bad"].code is code, found["bad"]
    assert str(tempfile.gettempdir()) not in str(found["bad"])
    if how == "fail":
        assert "exit status 3" in found["bad"].what
        assert "cannot allocate a thing" in found["bad"].what
    if how == "shift":
        assert "on the grid of the image" in found["bad"].remedy
    for name in ("a", "c"):
        np.testing.assert_array_equal(found[name].array, expected(name))


def test_of_a_folder_of_eight_in_which_one_crashes_seven_are_labelled(tmp_path):
    names = ["a", "b", "c", "bad", "e", "f", "g", "h"]
    cases = [marked_case(tmp_path, name, bad=name == "bad") for name in names]
    how = [*IN_FOLDERS, "--how", "crash"]
    found = labelled(cases, command=how, batch="folder")
    assert found.pop("bad").code is Code.PROGRAM_CRASHED
    for name, result in found.items():
        np.testing.assert_array_equal(result.array, expected(name))


def test_a_case_without_output_costs_no_other_of_its_folder(tmp_path):
    cases = [marked_case(tmp_path, "a"), marked_case(tmp_path, "bad", bad=True)]
    cases.append(Case("gone", 4, {"ct": tmp_path / "no.nii.gz"}, {}, {}, tmp_path))
    how = [*IN_FOLDERS, "--how", "nothing"]
    found = labelled(cases, command=how, batch="folder")
    assert found["bad"].code is Code.OUTPUT_MISSING and "it wrote litter.tmp" in found["bad"].what
    assert found["gone"].code is Code.FILE_MISSING
    np.testing.assert_array_equal(found["a"].array, expected("a"))


def test_what_hangs_is_ended_with_all_that_it_started(tmp_path, monkeypatch):
    child = tmp_path / "child"
    monkeypatch.setenv("CHILD", str(child))
    cases = [marked_case(tmp_path, "bad", bad=True), marked_case(tmp_path, "a")]
    begun = time.monotonic()
    found = labelled(cases, command=[*IN_ONE, "--how", "hang"], timeout_minutes=2 / 60)
    assert found["bad"].code is Code.TIME_LIMIT and time.monotonic() - begun < 20
    assert not isinstance(found["a"], CaseError)
    assert has_ended(int(child.read_text()))


def has_ended(process: int) -> bool:
    """Whether a process is gone, or dead and not yet taken note of by its parent."""
    for _ in range(50):
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state in "ZX":
            return True
        time.sleep(0.1)
    return False


STOPPED = """
import signal
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where the tests run under nohup
import sys
sys.path[:0] = {path!r}
from pathlib import Path
import test_command as t
t.labelled([t.marked_case(Path({folder!r}), "bad", bad=True)], command=[*t.IN_ONE, "--how", "hang"])
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP])
def test_when_the_job_is_told_to_end_the_program_ends_first(tmp_path, how):
    child = tmp_path / "child"
    path = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    code = STOPPED.format(path=path, folder=str(tmp_path))
    temporary = tmp_path / "of the job"
    temporary.mkdir()
    environment = {**os.environ, "CHILD": str(child), "TMPDIR": str(temporary)}
    job = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL)
    for _ in range(300):
        if child.exists() and child.read_text():
            break
        time.sleep(0.1)
    job.send_signal(how)
    job.wait(30)
    assert has_ended(int(child.read_text()))
    assert list(temporary.iterdir()) == []


def test_a_table_s_other_values_are_refused_and_a_list_s_are_noted(tmp_path):
    table = tmp_path / "labels.json"
    table.write_text('{"background": 0, "body": 1, "bone": 2}')
    bad = marked_case(tmp_path, "bad", bad=True)
    how = [*IN_ONE, "--how", "undeclared"]
    assert labelled([bad], command=how)["bad"].notes["voxels_of_other_values"]["7"] > 0
    refused = labelled([bad], command=how, labels=str(table))["bad"]
    assert refused.code is Code.LABEL_UNDECLARED and "7" in refused.what


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


def test_arguments_are_never_interpreted(tmp_path):
    told = tmp_path / "told"
    code = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text('\\n'.join(sys.argv[2:]))"
    odd = ["$(touch pwned)", "; touch pwned", "*", "{{case}}", "{case}", "{device}", "--x={device}"]
    command = [sys.executable, "-c", code, str(told), "{image}", *odd]
    labelled([marked_case(tmp_path, "a")], command=command, devices={"cpu": ["-d", "none"]})
    lines = told.read_text().splitlines()
    assert lines[1:] == [*odd[:3], "{case}", "a", "-d", "none", "--x=-d none"]
    assert not list(tmp_path.rglob("pwned"))


def test_two_versions_of_a_program_are_told_apart(tmp_path):
    program = tmp_path / "labeller.py"
    version = [sys.executable, str(program), "--version"]
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "net.pt").write_bytes(b"1")
    keys = {
        "command": [sys.executable, str(program), "{image}", "{output}"],
        "version_command": version,
        "depends_on": [str(weights)],
    }

    def identity() -> dict:
        return segmenter_of(**keys).identity()

    program.write_text(LABELLER.read_text())
    first = identity()
    assert first == identity() and list(first["versions"].values()) == ["1.0"]
    program.write_text(LABELLER.read_text() + "\n# a line more\n")
    second = identity()
    assert second != first and second["versions"] == first["versions"]
    program.write_text(LABELLER.read_text().replace('VERSION = "1.0"', 'VERSION = "1.1"'))
    assert list(identity()["versions"].values()) == ["1.1"]
    third = identity()
    (weights / "net.pt").write_bytes(b"2")
    assert identity() != third
    store = tmp_path / "store"
    store.mkdir()
    (store / "deep.pt").write_bytes(b"1")
    (weights / "linked").symlink_to(store)
    (store / "up").symlink_to(weights)
    fourth = identity()
    (store / "deep.pt").write_bytes(b"2")
    assert identity() != fourth


def refused(**keys: object) -> RunError:
    with pytest.raises(RunError) as caught:
        segmenter = segmenter_of(**keys)
        segmenter.weights()
        segmenter.identity()
    return caught.value


def test_a_program_that_is_not_there_is_told_before_the_work():
    absent = refused(command=["no-such-program", "{image}"])
    assert absent.code is Code.PROGRAM_MISSING and "no-such-program" in absent.what
    silent = [sys.executable, "-c", ""]
    assert refused(command=IN_ONE, version_command=silent).code is Code.PROGRAM_MISSING
    failing = [sys.executable, "-c", "import sys; sys.exit('no such module')"]
    told = refused(command=IN_ONE, version_command=failing)
    assert told.code is Code.PROGRAM_MISSING and "no such module" in told.what
    gone = refused(command=IN_ONE, depends_on=["gone"])
    assert gone.code is Code.PROGRAM_MISSING


@pytest.mark.parametrize(("keys", "told"), [
    ({"command": ["p"]}, "would get no image"),
    ({"command": ["p", "{image}", "{ouput}"]}, "{ouput} is not a placeholder here"),
    ({"command": ["p", "{image!r}"]}, "braces hold one name"),
    ({"command": ["p", "{image.__class__}"]}, "braces hold one name"),
    ({"command": ["p", "{image}"], "batch": "folder"}, "cannot name {image}"),
    ({"command": ["p", "{images}"], "output": "../x.nii.gz"}, "inside the program's"),
    ({"command": ["p", "{images}"], "output": "/x.nii.gz"}, "inside the program's"),
    ({"command": ["p", "{images}"], "output": "outputs/x.nii.gz", "batch": "folder"}, "{case}"),
    ({"command": ["p", "{image}", "{output}"], "output": "outputs/*.nii.gz"}, "{outputs}"),
    ({"command": ["p", "{image}"], "labels": ["liver"]}, "needs {name}"),
    ({"command": ["p", "{image}"], "output": "{name}.nii.gz"}, "file name"),
    ({"command": ["p", "{image}"], "input": "{case}.nrrd"}, "must end with .nii.gz"),
    ({"command": ["p", "{image}"], "channel": ["ct", "pet"]}, "several channels"),
    ({"command": ["p", "{image}"], "container": {"image": "--privileged"}}, "pattern"),
])  # fmt: skip
def test_sections_that_make_no_sense_are_refused(keys, told):
    with pytest.raises(ValidationError) as caught:
        segmenter_of(**keys)
    assert told in str(caught.value)


def test_a_program_sees_the_job_s_gpu_and_no_other(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-7f,5")
    assert [devices.gpu_name(d) for d in ("cuda:1", "cuda:0", "cpu", "mps")] == [
        "GPU-7f", "3", "", "",
    ]  # fmt: skip
    segmenter = segmenter_of(command=IN_ONE)
    folder = Path(tempfile.mkdtemp())
    call = segmenter.launcher.call(["ls"], folder, "cuda:2")
    assert call.environment["CUDA_VISIBLE_DEVICES"] == "5"
    (folder / "tmp").rmdir()
    folder.rmdir()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert devices.gpu_name("cuda:1") == "1"

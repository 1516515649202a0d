"""The kind `command`: a program's labels, and what each of its failures costs."""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from backsplit.cases.table import Case
from backsplit.errors import Code
from backsplit.segment import device as devices
from support.cases import marked_case
from support.command import IN_FOLDERS, IN_ONE, LABELS, expected, labelled, segmenter_of

pytestmark = pytest.mark.usefixtures("temporary")


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
    "unoriented": Code.ORIENTATION_UNKNOWN,
    "text": Code.FILE_UNREADABLE,
    "folder": Code.FILE_UNREADABLE,
    "four": Code.NOT_3D,
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
    if found["bad"].what.startswith("labeller.py wrote: "):
        assert found["bad"].remedy.startswith("have the program write")
    else:
        assert how in ("fail", "crash", "nothing")
    for name in ("a", "c"):
        np.testing.assert_array_equal(found[name].array, expected(name))


EIGHT = ["a", "b", "c", "bad", "e", "f", "g", "h"]


def runs(caplog) -> list[int]:
    """Images that each run of the program was given, by what it printed of them."""
    told = [r.getMessage() for r in caplog.records if r.name.endswith(".program")]
    told = [line for line in told if "labeller 1.0 on " in line]
    return [int(line.rpartition(" of ")[2]) for line in told]


@pytest.mark.parametrize(("how", "code"), [
    ("crash", Code.PROGRAM_CRASHED), ("fail", Code.PROGRAM_FAILED),
])  # fmt: skip
def test_of_a_folder_of_eight_in_which_one_fails_seven_are_labelled(tmp_path, caplog, how, code):
    """Each by itself: what was written before the failure may be the first of several passes."""
    caplog.set_level(logging.INFO)
    cases = [marked_case(tmp_path, name, bad=name == "bad") for name in EIGHT]
    found = labelled(cases, command=[*IN_FOLDERS, "--how", how], batch="folder")
    assert found.pop("bad").code is code
    for name, result in found.items():
        np.testing.assert_array_equal(result.array, expected(name))
    assert sorted(runs(caplog)) == [1] * 8 + [8]


def test_a_case_without_output_costs_no_other_of_its_folder(tmp_path):
    cases = [marked_case(tmp_path, "a"), marked_case(tmp_path, "bad", bad=True)]
    cases.append(Case("gone", 4, {"ct": tmp_path / "no.nii.gz"}, {}, {}, tmp_path))
    how = [*IN_FOLDERS, "--how", "nothing"]
    found = labelled(cases, command=how, batch="folder")
    assert found["bad"].code is Code.OUTPUT_MISSING and "it wrote litter.tmp" in found["bad"].what
    assert found["gone"].code is Code.FILE_MISSING
    np.testing.assert_array_equal(found["a"].array, expected("a"))


def test_a_table_s_other_values_are_refused_and_a_list_s_are_noted(tmp_path):
    table = tmp_path / "labels.json"
    table.write_text('{"background": 0, "body": 1, "bone": 2}')
    bad = marked_case(tmp_path, "bad", bad=True)
    how = [*IN_ONE, "--how", "undeclared"]
    assert labelled([bad], command=how)["bad"].notes["voxels_of_other_values"]["7"] > 0
    refused = labelled([bad], command=how, labels=str(table))["bad"]
    assert refused.code is Code.LABEL_UNDECLARED and "7" in refused.what


def test_arguments_are_never_interpreted(tmp_path):
    told = tmp_path / "told"
    code = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text('\\n'.join(sys.argv[2:]))"
    odd = ["$(touch pwned)", "; touch pwned", "*", "{{case}}", "{case}", "{device}", "--x={device}"]
    command = [sys.executable, "-c", code, str(told), "{image}", *odd]
    labelled([marked_case(tmp_path, "a")], command=command, devices={"cpu": ["-d", "none"]})
    lines = told.read_text().splitlines()
    assert lines[1:] == [*odd[:3], "{case}", "a", "-d", "none", "--x=-d none"]
    assert not list(tmp_path.rglob("pwned"))


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

"""The kind `command`: sections that are refused, and what tells two programs apart."""

from __future__ import annotations

import sys

import pytest
from pydantic import ValidationError

from backsplit.errors import CaseError, Code, RunError
from backsplit.segment.launch import Launcher, script_of
from support.cases import marked_case
from support.command import IN_ONE, LABELLER, segmenter_of

pytestmark = pytest.mark.usefixtures("temporary")


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

    def contents() -> dict:
        return segmenter_of(**keys).contents()

    program.write_text(LABELLER.read_text())
    first = contents()
    assert first == contents() and list(first["versions"].values()) == ["1.0"]
    program.write_text(LABELLER.read_text() + "\n# a line more\n")
    second = contents()
    assert second != first and second["versions"] == first["versions"]
    program.write_text(LABELLER.read_text().replace('VERSION = "1.0"', 'VERSION = "1.1"'))
    assert list(contents()["versions"].values()) == ["1.1"]
    third = contents()
    (weights / "net.pt").write_bytes(b"2")
    assert contents() != third
    store = tmp_path / "store"
    store.mkdir()
    (store / "deep.pt").write_bytes(b"1")
    (weights / "linked").symlink_to(store)
    (store / "up").symlink_to(weights)
    fourth = contents()
    (store / "deep.pt").write_bytes(b"2")
    assert contents() != fourth


@pytest.mark.parametrize("what", ["program", "weights"])
def test_a_program_that_is_replaced_while_it_runs_ends_the_job(tmp_path, what):
    program, weights = tmp_path / "labeller.py", tmp_path / "weights"
    program.write_text(LABELLER.read_text())
    weights.mkdir()
    (weights / "net.pt").write_bytes(b"1")
    path = {"program": program, "weights": weights / "net.pt"}[what]
    command = [sys.executable, str(program), "{image}", "{output}"]
    segmenter = segmenter_of(command=command, depends_on=[str(weights)])
    segmenter.contents()  # what its labels are recorded with
    cases = [marked_case(tmp_path, name) for name in ("a", "b", "c")]
    labels = segmenter.label(cases)
    first = next(labels)
    path.write_bytes(path.read_bytes())  # touched, not changed
    second = next(labels)
    assert not any(isinstance(found, CaseError) for _, found in (first, second))
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(RunError) as caught:
        next(labels)
    assert caught.value.code is Code.PROGRAM_CHANGED


def refused(**keys: object) -> RunError:
    with pytest.raises(RunError) as caught:
        segmenter = segmenter_of(**keys)
        segmenter.weights()
        segmenter.contents()
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


@pytest.mark.parametrize(("command", "what", "remedy"), [
    (["python", "label.py"], "is in the folder where you run", "write ./label.py"),
    (["python", "-u", "./lable.py"], "./lable.py does not exist", "correct its path"),
    (["label.py"], "is not in PATH", "write ./label.py"),
    (["./label.py"], "is not executable", "chmod +x ./label.py"),
    (["./lable.py"], "does not exist", "correct its path"),
])  # fmt: skip
def test_a_script_that_the_program_would_not_find_is_told_before_the_work(
    tmp_path, monkeypatch, command, what, remedy
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "label.py").write_text("")
    told = refused(command=[*command, "{image}"])
    assert told.code is Code.PROGRAM_MISSING
    assert what in told.what and remedy in told.remedy


def test_a_file_that_a_program_finds_itself_is_no_script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tool = tmp_path / "mytool"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    for command in (["./mytool", "--config", "its_own.py"], [sys.executable, "-W", "ignore"]):
        Launcher(None).require([*command, "{image}"])
        assert script_of(command) is None
    assert script_of([sys.executable, "-u", "label.py"]) == "label.py"


@pytest.mark.parametrize(("keys", "what", "remedy"), [
    ({"command": ["docker", "{image}"]}, "'docker' is not in PATH", "install it, activate"),
    ({"command": ["./docker", "{image}"]}, "is a folder", "correct its path"),
    (
        {"command": ["label", "{image}"], "container": {"image": "a/b:1", "engine": "docker"}},
        "'docker' is not in PATH", "set `container.engine`",
    ),
])  # fmt: skip
def test_a_folder_with_the_name_of_a_program_is_not_proposed_to_be_run(
    tmp_path, monkeypatch, keys, what, remedy
):
    (tmp_path / "docker").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    told = refused(**keys)
    assert told.code is Code.PROGRAM_MISSING
    assert what in told.what and remedy in told.remedy and "./docker" not in told.remedy


def test_arguments_that_only_look_like_scripts_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in (
        [sys.executable, "-m", "package", "run.py", "{image}"],
        [sys.executable, "run --now /there/run.py", "{image}"],
        [sys.executable, "{case}.py", "{image}"],
    ):
        segmenter_of(command=command).weights()


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

"""A program in a real container: an image made by Buildah, run by Podman. As root, on Debian.

`make test-container` installs both, and debootstrap, which makes the image without a registry.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from backsplit.config.command import Command
from backsplit.config.model import Run
from backsplit.config.slices import Labelling, Placing
from backsplit.errors import Code, RunError
from backsplit.segment import launch
from backsplit.segment.command import CommandSegmenter
from support.cases import marked_case
from support.project import ROOT, ct_like

pytestmark = pytest.mark.container

IMAGE = "localhost/backsplit-labeller:test"
LABELLER = ROOT / "tests" / "support" / "labeller.py"
SUITE = "bookworm"
CONFIGURATION = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
"""
"""Podman within a container, or on a machine without systemd, may set no higher limits."""


def run(*command: str) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture(scope="module", autouse=True)
def engine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engine")
    (folder / "containers.conf").write_text(CONFIGURATION)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONTAINERS_CONF", str(folder / "containers.conf"))
        patch.setenv("BUILDAH_ISOLATION", "chroot")
        patch.setenv("TMPDIR", str(folder))
        build(folder, LABELLER.read_text())
        yield
        subprocess.run(["podman", "rmi", "--force", IMAGE], check=False, capture_output=True)


def build(folder: Path, program: str) -> None:
    """Make the image of Debian's Python and a program, under the same name as before."""
    root, archive = folder / "root", folder / "root.tar"
    if not archive.exists():
        run("debootstrap", "--variant=minbase", "--include=python3-numpy", SUITE, str(root))
        run("tar", "--directory", str(root), "--create", "--file", str(archive), ".")
        shutil.rmtree(root)
    (folder / "labeller.py").write_text(program)
    container = run("buildah", "from", "scratch")
    run("buildah", "add", "--quiet", container, str(archive), "/")
    run("buildah", "add", "--quiet", container, str(folder / "labeller.py"), "/opt/labeller.py")
    run("buildah", "commit", "--quiet", container, IMAGE)
    run("buildah", "rm", container)


def segmenter_of(*command: str, **keys: object) -> CommandSegmenter:
    section = {
        "kind": "command",
        "command": command or ("python3", "/opt/labeller.py", "{image}", "{output}"),
        "labels": {"body": 1, "bone": 2},
        "container": {"image": IMAGE, "engine": "podman"},
    }
    section = Command.model_validate(section | keys)
    return CommandSegmenter(section, Labelling(("ct",), Placing("ct")), Run(device="cpu"))


def test_a_program_in_a_container_labels_as_it_does_here(tmp_path):
    cases = [marked_case(tmp_path, name) for name in ("a", "b")]
    image = ct_like()
    image[0, 0, 0] = -1000
    expected = (image > -500).astype(int) + (image > 250)
    for keys in ({}, {"batch": "folder"}):
        names = ("{images}", "{outputs}") if keys else ("{image}", "{output}")
        segmenter = segmenter_of("python3", "/opt/labeller.py", *names, **keys)
        for _, found in segmenter.label(cases):
            np.testing.assert_array_equal(found.array, expected)


@pytest.mark.parametrize(("how", "code"), [
    ("fail", Code.PROGRAM_FAILED), ("nothing", Code.OUTPUT_MISSING),
    ("shift", Code.GRID_MISMATCH),
])  # fmt: skip
def test_a_failure_in_a_container_costs_one_case(tmp_path, how, code):
    command = ["python3", "/opt/labeller.py", "{image}", "{output}", "--how", how]
    cases = [marked_case(tmp_path, name, bad=name == "bad") for name in ("bad", "a")]
    found = {case.id: result for case, result in segmenter_of(*command).label(cases)}
    assert found["bad"].code is code
    assert found["a"].array.any()


def test_there_is_no_network_and_nothing_of_the_host_but_the_folder(tmp_path):
    look = (
        "import os, sys; assert os.listdir('/sys/class/net') == ['lo'], 'a network'; "
        f"assert not os.path.exists({str(ROOT)!r}), 'the host'; "
        "sys.exit(0 if os.path.exists(sys.argv[1]) else 'no image')"
    )
    ((_, found),) = segmenter_of("python3", "-c", look, "{image}").label(
        [marked_case(tmp_path, "a")]
    )
    assert found.code is Code.OUTPUT_MISSING, found  # it found all as it should be


def test_a_container_that_hangs_is_gone_afterwards(tmp_path):
    begun = time.monotonic()
    segmenter = segmenter_of("sh", "-c", "sleep 600", "{image}", timeout_minutes=5 / 60)
    ((_, found),) = segmenter.label([marked_case(tmp_path, "a")])
    assert found.code is Code.TIME_LIMIT and time.monotonic() - begun < 60
    assert run("podman", "ps", "--all", "--quiet") == ""


def test_a_version_that_does_not_come_leaves_no_container(monkeypatch):
    monkeypatch.setattr(launch, "ASK_S", 5.0)
    begun = time.monotonic()
    with pytest.raises(RunError) as late:
        segmenter_of(version_command=["sh", "-c", "sleep 600"]).contents()
    assert late.value.code is Code.TIME_LIMIT and time.monotonic() - begun < 60
    assert run("podman", "ps", "--all", "--quiet") == ""
    told = segmenter_of(version_command=["python3", "/opt/labeller.py", "--version"]).contents()
    assert [*told["versions"].values()] == ["1.0"]


KILLED = """
import sys
sys.path[:0] = {path!r}
from pathlib import Path
import test_program
from support.cases import marked_case
case = marked_case(Path({folder!r}), "a")
list(test_program.segmenter_of("sh", "-c", "sleep 600", "{{image}}").label([case]))
"""


def test_a_job_that_is_killed_leaves_no_container(tmp_path):
    path = [str(Path(__file__).parent), str(ROOT / "tests")]
    code = KILLED.format(path=path, folder=str(tmp_path))
    temporary = tmp_path / "of the job"
    temporary.mkdir()
    job = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "TMPDIR": temporary})
    begun = time.monotonic()
    while not run("podman", "ps", "--quiet") and time.monotonic() - begun < 60:
        time.sleep(0.2)
    assert run("podman", "ps", "--quiet")
    job.kill()
    job.wait()
    begun = time.monotonic()
    while run("podman", "ps", "--all", "--quiet") and time.monotonic() - begun < 10:
        time.sleep(0.2)
    assert run("podman", "ps", "--all", "--quiet") == ""
    print(f"the container is gone {time.monotonic() - begun:.1f} s after the job")
    assert list(temporary.iterdir()) == []


def test_two_versions_of_an_image_are_told_apart():
    folder = Path(os.environ["TMPDIR"])
    first = segmenter_of().contents()
    assert first == segmenter_of().contents()
    build(folder, LABELLER.read_text() + "\n# another one\n")
    assert segmenter_of().contents() != first

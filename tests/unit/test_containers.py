"""How a program is called in a container: arguments, image, and the end of it; no daemon runs."""

from __future__ import annotations

import csv
import json
import os
import stat
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from backsplit.config.command import Command, Container
from backsplit.config.model import Run
from backsplit.config.slices import Labelling, Placing
from backsplit.errors import Code, RunError
from backsplit.segment import launch
from backsplit.segment.command import CommandSegmenter
from backsplit.segment.launch import Launcher, own_parts
from backsplit.store.disk import Link
from support.cases import marked_case
from support.project import ct_like, save

LABELS = {"body": 1, "bone": 2}
IMAGE_ID = "sha256:" + "ab" * 32
ENGINE = """#!{python}
import json, os, sys
with open({told!r}, "a") as stream:
    stream.write(json.dumps(sys.argv[1:]) + chr(10))
if "inspect" in sys.argv:
    if sys.argv[-1] != "labeller:1":
        sys.exit("No such image")
    print("sha256:" + "ab" * 32)
if "run" in sys.argv and "sleep" in sys.argv:
    import time
    time.sleep(60)
"""


@pytest.fixture
def engines(tmp_path, monkeypatch):
    """Engines that write down how they were called, and run nothing."""
    folder, told = tmp_path / "bin", tmp_path / "told"
    folder.mkdir()
    for name in ("docker", "podman", "apptainer", "singularity"):
        path = folder / name
        path.write_text(ENGINE.format(python=sys.executable, told=str(told)))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return told


def segmenter_of(container: dict, command=("label", "{image}", "{output}"), **keys):
    section = {"kind": "command", "labels": LABELS, "command": command, "container": container}
    section = Command.model_validate(section | keys)
    return CommandSegmenter(section, Labelling(("ct",), Placing("ct")), Run(device="cpu"))


def call_of(segmenter, folder, device="cpu"):
    case = marked_case(folder, "a")
    arguments = segmenter._arguments(folder, [case], device)
    return segmenter.launcher.call(arguments, folder, device)


def option(arguments, name):
    """Values of an option that may be given several times."""
    return [after for one, after in pairwise(arguments) if one == name]


INSIDE = ["/backsplit/images/a.nii.gz", "/backsplit/outputs/a.nii.gz"]
SOURCES = {"a folder, with a comma": 'has,comma and "quotes"', "plain": "plain"}


@pytest.mark.parametrize("name", SOURCES.values(), ids=SOURCES.keys())
@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_docker_and_podman_get_the_folder_the_user_and_no_network(tmp_path, engines, engine, name):
    folder = tmp_path / name
    folder.mkdir()
    segmenter = segmenter_of({"image": "labeller:1", "engine": engine})
    call = call_of(segmenter, folder, "cuda:1")
    program, *arguments = call.arguments
    assert Path(program).name == engine and arguments[0] == "run"
    at = arguments.index(IMAGE_ID)  # what the name stood for when the job began
    assert arguments[at + 1 :] == INSIDE
    options = arguments[:at]
    assert option(options, "--network") == ["none"] and option(options, "--pull") == ["never"]
    assert option(options, "--entrypoint") == ["label"] and "--rm" in options
    assert option(options, "--security-opt") == ["no-new-privileges"]
    (mount,) = option(options, "--mount")
    assert next(csv.reader([mount])) == ["type=bind", f"source={folder}", "target=/backsplit"]
    assert option(options, "--user") == [f"{os.getuid()}:{os.getgid()}"]
    assert option(options, "--workdir") == ["/backsplit"]
    gpu = {"docker": ("--gpus", "device=1"), "podman": ("--device", "nvidia.com/gpu=1")}[engine]
    assert option(options, gpu[0]) == [gpu[1]]
    (name_of_container,) = option(options, "--name")
    at_once = ("--time", "0") if engine == "podman" else ()
    assert call.stop[1:] == ("rm", "--force", *at_once, name_of_container)
    without = call_of(segmenter, folder).arguments
    assert not {"--gpus", "--device"} & set(without)


TAKES_A_VALUE = {
    **{"--containall": False, "--net": False, "--nv": False},
    **{"--network": True, "--mount": True, "--pwd": True, "--env": True},
}
"""Options of `apptainer exec`, as its manual (1.4) has them: none may be given that is not here."""


def read_as_apptainer(arguments: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Options with their values, and the image with the command after it."""
    verb, *left = arguments
    assert verb == "exec"
    options: dict[str, list[str]] = {}
    while left[0].startswith("-"):
        name = left.pop(0)
        values = options.setdefault(name, [])
        if TAKES_A_VALUE[name]:
            values.append(left.pop(0))
    return options, left


@pytest.mark.parametrize("engine", ["apptainer", "singularity"])
def test_apptainer_gets_the_folder_and_nothing_else_of_the_host(
    tmp_path, engines, engine, monkeypatch
):
    image = tmp_path / "labeller.sif"
    image.write_bytes(b"an image")
    folder = tmp_path / SOURCES["a folder, with a comma"]
    folder.mkdir()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1,GPU-2")
    for name in ("APPTAINER_BIND", "SINGULARITY_MOUNT", "APPTAINERENV_PATH", "APPTAINER_WORKDIR"):
        monkeypatch.setenv(name, "/data")
    monkeypatch.setenv("APPTAINER_CACHEDIR", "/cache")
    segmenter = segmenter_of({"image": str(image), "engine": engine})
    call = call_of(segmenter, folder, "cuda:1")
    program, *arguments = call.arguments
    assert Path(program).name == engine
    options, run = read_as_apptainer(arguments)
    assert run == [str(image), "label", *INSIDE]
    assert {"--containall", "--net"} <= set(options) and options["--network"] == ["none"]
    (mount,) = options["--mount"]
    assert next(csv.reader([mount])) == ["type=bind", f"source={folder}", "destination=/backsplit"]
    assert options["--pwd"] == ["/backsplit"]
    assert options["--env"] == ["TMPDIR=/backsplit/tmp", "CUDA_VISIBLE_DEVICES=GPU-2"]
    assert "--nv" in options and "--nv" not in call_of(segmenter, folder).arguments
    own = {name for name in call.environment if name.startswith(("APPTAINER", "SINGULARITY"))}
    assert own == {"APPTAINER_CACHEDIR"}


def test_the_engine_is_apptainer_for_a_file_and_docker_for_a_name(tmp_path, engines):
    for image, engine in [
        ("x.sif", "apptainer"),
        (str(tmp_path), "apptainer"),
        ("a/b:1", "docker"),
    ]:
        assert segmenter_of({"image": image}).section.container.program == engine


def test_an_image_is_known_by_its_digest(tmp_path, engines):
    found = segmenter_of({"image": "labeller:1"}).contents()
    assert found["program"]["image"] == IMAGE_ID
    image = tmp_path / "labeller.sif"
    segmenter = segmenter_of({"image": str(image)})
    identities = []
    for content in (b"1", b"2"):
        image.write_bytes(content)
        identities.append(segmenter.contents())
    assert identities[0] != identities[1]


def test_an_image_or_engine_that_is_not_there_is_told(tmp_path, engines, monkeypatch):
    def refused(container: dict) -> RunError:
        with pytest.raises(RunError) as caught:
            segmenter_of(container).weights()
        assert caught.value.code is Code.PROGRAM_MISSING
        return caught.value

    other = refused({"image": "labeller:2"})
    assert "No such image" in other.what and "`docker pull labeller:2`" in other.remedy
    assert "does not exist" in refused({"image": "absent.sif"}).what
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "'docker'" in refused({"image": "labeller:1"}).what


def test_a_container_that_hangs_is_removed_by_its_name(tmp_path, engines):
    save(tmp_path / "a.nii.gz", ct_like())
    segmenter = segmenter_of(
        {"image": "labeller:1"}, ["sleep", "{image}"], timeout_minutes=1.5 / 60
    )
    ((_, found),) = segmenter.label([marked_case(tmp_path, "a")])
    assert found.code is Code.TIME_LIMIT
    calls = [json.loads(line) for line in engines.read_text().splitlines()]
    (started,) = [call for call in calls if call[0] == "run"]
    assert calls[-1] == ["rm", "--force", *option(started, "--name")]


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_a_version_that_does_not_come_ends_its_container(tmp_path, engines, monkeypatch, engine):
    monkeypatch.setattr(launch, "ASK_S", 2.0)
    container = {"image": "labeller:1", "engine": engine}
    segmenter = segmenter_of(container, version_command=["sleep", "1000"])
    with pytest.raises(RunError, match="labeller:1 did not end within 2 s") as late:
        segmenter.contents()
    assert late.value.code is Code.TIME_LIMIT
    calls = [json.loads(line) for line in engines.read_text().splitlines()]
    (started,) = [call for call in calls if call[0] == "run"]
    assert calls[-1][:2] == ["rm", "--force"] and calls[-1][-1:] == option(started, "--name")


def test_links_of_a_sandbox_folder_are_not_followed(tmp_path):
    """`/run` and `/proc/mounts` are this machine's, and change all the time."""
    outside = tmp_path / "host"
    outside.mkdir()
    (outside / "busy").write_text("1")
    image = tmp_path / "sandbox"
    (image / "var").mkdir(parents=True)
    (image / "program").write_text("labels")
    (image / "var" / "run").symlink_to(outside)
    (image / "mtab").symlink_to(outside / "busy")
    launcher = Launcher(Container(image=str(image), engine="apptainer"))
    before = launcher.sha256(image)
    (outside / "busy").write_text("22")
    launcher.require_unchanged()
    assert launcher.sha256(image) == before
    links = [Link(image / "mtab", str(outside / "busy")), Link(image / "var/run", str(outside))]
    assert own_parts(image) == [links[0], image / "program", links[1]]
    (image / "mtab").unlink()
    (image / "mtab").symlink_to("/proc/self/mounts")
    assert own_parts(image)[0] == Link(image / "mtab", "/proc/self/mounts")
    with pytest.raises(RunError) as changed:
        launcher.require_unchanged()
    assert changed.value.code is Code.PROGRAM_CHANGED
    assert launcher.sha256(image) != before
    (image / "program").write_text("other labels")
    with pytest.raises(RunError):
        launcher.require_unchanged()

"""How a program is called: its arguments filled in, on this machine or in a container."""

from __future__ import annotations

import csv
import io
import os
import re
import shlex
import shutil
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from backsplit.config.command import Container
from backsplit.errors import Code, RunError, shown
from backsplit.segment.device import gpu_name
from backsplit.segment.program import ask_program, working_folder
from backsplit.store.disk import Link, file_times, files_below, is_there
from backsplit.store.provenance import digest, file_sha256
from backsplit.store.tsv import one_line

INSIDE = PurePosixPath("/backsplit")
"""Where a container finds the program's working folder."""

TEMPORARY = "tmp"

OPTIONS = ("APPTAINER", "SINGULARITY")
"""How variables begin that Apptainer takes for options (APPTAINER_BIND) or passes on
(APPTAINERENV_…): they are left out, so that an image gets the same wherever it runs."""

PLACES = ("CACHEDIR", "TMPDIR", "CONFIGDIR")
"""How those of them end that only say where Apptainer keeps files of its own."""

LONGEST_VERSION = 300

INTERPRETERS = re.compile(r"python[\d.]*|(ba|z)?sh|Rscript|julia|perl|java")
SCRIPTS = (".py", ".sh", ".R", ".jl", ".pl", ".jar")
"""How files end that an interpreter runs."""

ASK_S = 120.0
"""How long a container engine, or a program that is asked for its version, may take to answer."""


@dataclass(frozen=True)
class Call:
    """What is started.

    Attributes
    ----------
    arguments : the program and its arguments
    environment : its variables
    stop : arguments of a command that ends it, where ending the process is not enough
    """

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Launcher:
    """Calls one program, here or in a container.

    Attributes
    ----------
    container : the image that it runs in; None for none
    """

    container: Container | None = None
    _found: dict[str, str] = field(default_factory=dict, compare=False)
    _hashed: dict[Path, tuple[object, str]] = field(default_factory=dict, compare=False)

    def root(self, folder: Path) -> PurePosixPath:
        """The working folder as the program sees it."""
        return PurePosixPath(folder) if self.container is None else INSIDE

    def call(self, arguments: Sequence[str], folder: Path, device: str) -> Call:
        """What to start for arguments that are filled in.

        Parameters
        ----------
        arguments : the program and its arguments
        folder : working folder, on this machine
        device : cpu, mps, cuda or cuda:N; the program sees no other GPU
        """
        gpu = gpu_name(device)
        temporary = folder / TEMPORARY
        temporary.mkdir(exist_ok=True)
        if self.container is None:
            environment = {**os.environ, "TMPDIR": str(temporary), "CUDA_VISIBLE_DEVICES": gpu}
            program = self._find(arguments[0])
            return Call((program, *map(_absolute, arguments[1:])), environment)
        engine = self._find(self.container.program)
        if self.container.runs_files:
            inside = _apptainer(self.container.image, folder, gpu)
            return Call((engine, *inside, *arguments), _without_options(os.environ))
        name = f"backsplit-{uuid.uuid4().hex}"
        podman = self.container.program == "podman"
        inside = _docker(self._image_id(), folder, gpu, name, podman=podman)
        first, *others = arguments
        before, after = inside[:-1], inside[-1]
        call = (engine, *before, "--entrypoint", first, after, *others)
        at_once = ["--time", "0"] if podman else []  # it waits ten seconds otherwise
        return Call(call, os.environ, (engine, "rm", "--force", *at_once, name))

    def require(self, arguments: Sequence[str]) -> None:
        """Look whether the program, or the engine and the image, are there.

        Raises
        ------
        RunError
            PROGRAM_MISSING
        """
        if self.container is None:
            self._find(arguments[0])
            _require_script(script_of(arguments))
            return
        self._find(self.container.program)
        if not self.container.runs_files:
            self._image_id()
        elif not Path(self.container.image).exists():
            remedy = f"`apptainer build {shlex.quote(self.container.image)} SOURCE`"
            raise self._no_image("does not exist", remedy)

    def identity(self, arguments: Sequence[str]) -> dict[str, Any]:
        """What tells one program from another: sha256 of its files, or the image's digest."""
        if self.container is not None:
            self.require(arguments)
            if self.container.runs_files:
                return {"image": self.sha256(Path(self.container.image))}
            return {"image": self._image_id()}
        parts = [self._find(arguments[0]), *map(_absolute, arguments[1:])]
        files = [Path(part) for part in parts if "/" in part and Path(part).is_file()]
        return {"files": [[file.name, self.sha256(file)] for file in files]}

    def sha256(self, path: Path) -> str:
        """SHA-256 of a file or folder that labels depend on, which may not change from now on.

        Raises
        ------
        RunError
            PROGRAM_MISSING: it is not there.
        """
        times = _times(path, follow=self._follows(path))
        found = contents_sha256(path, follow=self._follows(path))
        self._hashed[path] = times, found
        return found

    def _follows(self, path: Path) -> bool:
        """Whether links below a path are ours to follow: those of a container lead into itself."""
        return self.container is None or path != Path(self.container.image)

    def require_unchanged(self) -> None:
        """Look whether what was hashed is what was run: by size and times, then by contents.

        Raises
        ------
        RunError
            PROGRAM_CHANGED, PROGRAM_MISSING
        """
        for path, (times, before) in [*self._hashed.items()]:
            now = _times(path, follow=self._follows(path))
            if now != times and self.sha256(path) != before:
                raise RunError(
                    Code.PROGRAM_CHANGED,
                    f"{path} changed while this job was running it",
                    "run again; the labels of the old version will be replaced",
                )

    def version(self, command: Sequence[str]) -> str:
        """What a command prints, which tells versions of the program apart.

        Raises
        ------
        RunError
            PROGRAM_MISSING: it fails or prints nothing. TIME_LIMIT: it does not end.
        """
        self.require(command)
        image = "" if self.container is None else f" in the image {shown(self.container.image)}"
        asked = f"`version_command` ({shown(' '.join(command))}){image}"
        with working_folder() as folder:
            call = self.call(command, folder, "cpu")
            try:
                status, said = ask_program(
                    call.arguments, folder, call.environment, ASK_S, call.stop
                )
            except OSError as error:
                status, said = 1, str(error)
        if status is None:
            raise RunError(
                Code.TIME_LIMIT,
                f"{asked} did not end within {ASK_S:g} seconds",
                "run it by hand to see why, then correct `version_command` or the program",
            )
        told = "" if status else one_line(said)[:LONGEST_VERSION]
        if not told:
            raise RunError(
                Code.PROGRAM_MISSING,
                f"{asked} does not print a version"
                f" ({shown(one_line(said)) or 'it prints nothing'})",
                "correct it, or install the program",
            )
        return told

    def _find(self, program: str) -> str:
        """The path of a program, as it is found now and for the rest of the job.

        Raises
        ------
        RunError
            PROGRAM_MISSING
        """
        if program not in self._found:
            found = shutil.which(program)
            if found is None:
                raise _not_found(program, is_engine=self.container is not None)
            self._found[program] = str(Path(found).absolute())  # a link may matter
        return self._found[program]

    def _image_id(self) -> str:
        """Id of an image by name, as the engine has it now; what is run for the rest of the job.

        Raises
        ------
        RunError
            PROGRAM_MISSING
        """
        assert self.container is not None
        image = self.container.image
        if (noted := f"image {image}") in self._found:
            return self._found[noted]
        asked = [self._find(self.container.program), "image", "inspect", "--format", "{{.Id}}"]
        try:
            done = subprocess.run(  # noqa: S603 (a list, no shell)
                [*asked, image], capture_output=True, text=True, timeout=ASK_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise self._no_image(f"cannot be looked up ({error})", "start the engine") from None
        found = done.stdout.strip()
        if done.returncode or not found:
            said = shown(done.stderr.strip().splitlines()[-1:] or "nothing")
            raise self._no_image(
                f"is not on this machine ({said})",
                f"`{self.container.program} pull {shlex.quote(image)}`",
            )
        self._found[noted] = found
        return found

    def _no_image(self, what: str, remedy: str) -> RunError:
        assert self.container is not None
        image = shown(self.container.image)
        return RunError(Code.PROGRAM_MISSING, f"the container image {image} {what}", remedy)


def script_of(arguments: Sequence[str]) -> str | None:
    """The script that an interpreter is told to run, `label.py` of `python -u label.py`."""
    if not INTERPRETERS.fullmatch(Path(arguments[0]).name):
        return None
    first = next((part for part in arguments[1:] if not part.startswith("-")), "")
    return first if first.endswith(SCRIPTS) and not set(first) & {*" {"} else None


def _require_script(script: str | None) -> None:
    """Look whether a script is there, by a path that the program has from its working folder too.

    Raises
    ------
    RunError
        PROGRAM_MISSING
    """
    if script is None or ("/" in script and is_there(Path(script))):
        return
    if is_there(Path(script)):
        what = "is in the folder where you run, but the program works in another one"
        remedy = f"write ./{script}"
    else:
        what, remedy = "does not exist", "correct its path in `command`"
    raise RunError(Code.PROGRAM_MISSING, f"{shown(script)} {what}", remedy)


def _not_found(program: str, *, is_engine: bool) -> RunError:
    """Say why a program cannot be started."""
    what = "is not in PATH on this machine"
    remedy = "install it, activate its environment, or give its path in `command`"
    path = Path(program)
    is_file = is_there(path) and path.is_file()
    if is_engine:
        remedy = "install it, or set `container.engine`"
    elif is_file and "/" not in program:
        remedy = f"write ./{program}"
    elif is_file:
        what = "is not executable"
        remedy = f"`chmod +x {shlex.quote(program)}`, or put its interpreter before it"
    elif "/" in program:
        what = "is a folder" if is_there(path) else "does not exist"
        remedy = "correct its path in `command`"
    return RunError(Code.PROGRAM_MISSING, f"the program {shown(program)!r} {what}", remedy)


def contents_sha256(path: Path, *, follow: bool = True) -> str:
    """SHA-256 of a file, or of all files below a folder with their names.

    Parameters
    ----------
    path : the file or folder
    follow : whether links in a folder are followed; otherwise where they lead to counts

    Raises
    ------
    RunError
        PROGRAM_MISSING: it is not there, or cannot be read.
    """
    try:
        if not path.is_dir():
            return file_sha256(path)
        parts: list[list[str]] = []
        for file in files_below(path, follow=follow):
            is_link = not follow and file.is_symlink()
            found = str(file.readlink()) if is_link else file_sha256(file)
            parts.append([file.relative_to(path).as_posix(), found])
        return digest(parts)
    except OSError as error:
        raise RunError(
            Code.PROGRAM_MISSING,
            f"{error.filename or path} cannot be read ({error.strerror})",
            "correct the path or its permissions",
        ) from None


def _times(path: Path, *, follow: bool = True) -> object:
    """Sizes and times of a file, or of the files of a folder; None where it cannot be read."""
    try:
        files = files_below(path, follow=follow) if path.is_dir() else [path]
        return [[str(file), *file_times(file, follow=follow)] for file in files]
    except OSError:
        return None


def own_parts(image: Path) -> list[Path | Link]:
    """The file of a container; of one that is a folder its files, and where its links lead."""
    if not image.is_dir():
        return [image]
    found = files_below(image, follow=False)
    return [Link(path, str(path.readlink())) if path.is_symlink() else path for path in found]


def _absolute(argument: str) -> str:
    """A path of an existing file as it is from anywhere: the program works elsewhere."""
    is_path = "/" in argument and not argument.startswith("-") and is_there(Path(argument))
    return str(Path(argument).absolute()) if is_path else argument


def _without_options(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without options of Apptainer."""
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith(OPTIONS) or name.endswith(PLACES)
    }


def _mount(folder: Path, destination: str) -> str:
    """The working folder as an argument of `--mount`, which engines read as a line of CSV."""
    line = io.StringIO()
    fields = ["type=bind", f"source={folder}", f"{destination}={INSIDE}"]
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue()


def _apptainer(image: str, folder: Path, gpu: str) -> list[str]:
    """Arguments of Apptainer before the program: nothing of the host but the folder and the GPU."""
    arguments = ["exec", "--containall", "--net", "--network", "none"]
    arguments += ["--mount", _mount(folder, "destination"), "--pwd", str(INSIDE)]
    arguments += ["--env", f"TMPDIR={INSIDE / TEMPORARY}"]
    if gpu:
        arguments += ["--nv", "--env", f"CUDA_VISIBLE_DEVICES={gpu}"]
    return [*arguments, str(Path(image).absolute())]


def _docker(image: str, folder: Path, gpu: str, name: str, *, podman: bool) -> list[str]:
    """Arguments of Docker or Podman, the image last; what the program writes is ours."""
    arguments = ["run", "--rm", "--name", name, "--network", "none", "--pull", "never"]
    arguments += ["--security-opt", "no-new-privileges"]
    arguments += ["--mount", _mount(folder, "target"), "--workdir", str(INSIDE)]
    arguments += ["--env", f"TMPDIR={INSIDE / TEMPORARY}"]
    arguments += ["--user", f"{os.getuid()}:{os.getgid()}"]
    if podman and os.getuid():  # without root, users have other numbers inside
        arguments += ["--userns", "keep-id"]
    if gpu and podman:
        arguments += ["--device", f"nvidia.com/gpu={gpu}"]
    elif gpu:
        arguments += ["--gpus", f"device={gpu}"]
    return [*arguments, image]

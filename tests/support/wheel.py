"""The package as users install it: a wheel, in an environment that knows no checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from support.project import ROOT


def build(folder: Path) -> Path:
    """Build the wheel with the tools of this environment: nothing is downloaded."""
    command = ["wheel", "--quiet", "--no-build-isolation", "--no-deps", "--no-index", str(ROOT)]
    _pip(*command, "--wheel-dir", str(folder))
    (wheel,) = folder.glob("*.whl")
    return wheel


class Installed:
    """An environment with nothing but the wheel in it; libraries are those of this one."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        venv.create(folder, symlinks=True, with_pip=False)
        self.bin = folder / "bin"
        self.python = self.bin / "python"
        _pip("--python", str(self.python), "install", "--quiet", "--no-deps", "--no-index", wheel)
        (self.packages,) = folder.glob("lib/python*/site-packages")
        # a .pth within that folder is not followed: the checkout stays unknown
        (self.packages / "libraries.pth").write_text(sysconfig.get_path("purelib"))

    def call(
        self, folder: Path, *command: str, home: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Call a command of the environment in a folder."""
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        environment["PATH"] = f"{self.bin}{os.pathsep}{os.environ['PATH']}"
        if home is not None:
            environment["HOME"] = str(home)
        done = subprocess.run(
            [str(self.bin / command[0]), *command[1:]],
            cwd=folder, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done


def _pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

"""Small volumes, tables and configurations, and the command called on them as a person does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk
import yaml

if TYPE_CHECKING:
    from backsplit.flow.project import Project as Opened

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("BACKSPLIT_SHARED", ROOT.parent / "shared"))


def save(
    path: Path,
    array: np.ndarray,
    spacing: tuple[float, float, float] = (2.0, 2.0, 3.0),
    origin: tuple[float, float, float] = (-40.0, -50.0, 60.0),
    direction: tuple[float, ...] = (1, 0, 0, 0, 1, 0, 0, 0, 1),
) -> Path:
    """Write an array (z, y, x) with SimpleITK, the oracle for reading and writing."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


def load(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def ct_like(seed: int = 0, shape: tuple[int, int, int] = (12, 20, 24)) -> np.ndarray:
    """A bright box with a soft rim in air, with noise: enough of a body for thresholds."""
    rng = np.random.default_rng(seed)
    image = np.full(shape, -1000.0)
    image[1:-1, 3:-3, 3:-3] = -100
    image[1:-1, 5:-5, 5:-5] = 40
    image[1:-1, 9:11, 11 : 13 + seed % 4] = 600
    return np.rint(image + rng.normal(0, 5, shape)).astype(np.int16)


class Project:
    """A data set in a folder: images, lesions, table, configuration."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[dict[str, str]] = []
        self.settings: dict[str, Any] = {
            "dataset": {"name": "Test", "id": 7, "cases": "cases.tsv", "channels": ["ct"]},
            "targets": {"tumor": 1, "cyst": 2},
            "segmenters": {
                "tissue": {"kind": "threshold", "bands": {"fat": [-190, -30], "bone": [250, None]}}
            },
            "structures": {"bone": "tissue/bone", "fat": "tissue/fat"},
            "run": {"batch_size": 2, "device": "cpu"},
        }

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def add(
        self,
        case: str,
        image: np.ndarray | None = None,
        lesion: np.ndarray | None = None,
        **columns: str,
    ) -> None:
        image = ct_like(len(self.rows)) if image is None else image
        if lesion is None:
            lesion = np.zeros(image.shape, np.uint8)
            lesion[5:8, 8:12, 9 : 12 + len(self.rows) % 3] = 1
            lesion[8, 8:10, 9] = 2
        save(self.folder / "images" / f"{case}.nii.gz", image)
        save(self.folder / "lesions" / f"{case}.nii.gz", lesion)
        row = {
            "case": case,
            "image_ct": f"images/{case}.nii.gz",
            "lesion": f"lesions/{case}.nii.gz",
        }
        self.rows.append(row | columns)

    def misplace(self, case: str) -> None:
        """Give a case a lesion file on a grid of its own, which is refused."""
        save(self.folder / "lesions" / f"{case}.nii.gz", np.zeros((5, 6, 7), np.uint8), (7, 7, 7))

    def write(self, **sections: Mapping[str, Any]) -> Path:
        for name, section in sections.items():
            self.settings[name] = section
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        lines = ["\t".join(names)] + ["\t".join(r.get(n, "") for n in names) for r in self.rows]
        (self.folder / "cases.tsv").write_text("\n".join(lines) + "\n")
        path = self.folder / "config.yaml"
        path.write_text(yaml.safe_dump(self.settings, sort_keys=False))
        return path

    def to_verdicts(self) -> Opened:
        """Check, segment, compose, measure and judge what was written, in this process.

        To be called in the project's folder, as paths of the configuration start there.
        """
        from backsplit.flow.project import open_project
        from support import flow

        config = self.folder / "config.yaml"
        flow.check(config, None, 1, print)
        opened = open_project(config)
        flow.segment(opened, "tissue", None, print)
        flow.compose(opened, None, print)
        flow.measure(opened, None, print)
        flow.judge(opened, print)
        return opened

    def run(
        self, *arguments: str, ok: bool = True, status: int | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Call the command as a person does.

        `ok`: it did what it was asked for, be it that `check` found problems of single cases;
        `status`: the exit status, where that is what a test is about.
        """
        start = [sys.executable, "-c", "from backsplit.cli import app; app()"]
        command = [*start, *arguments, "--config", "config.yaml"]
        if status is not None:
            return self._call(command, {status})
        found_some = {3} if arguments[0] == "check" else set()
        return self._call(command, {0} | found_some if ok else {1})

    def snakemake(self, *arguments: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile")]
        command += ["--configfile", "config.yaml", "--cores", "2", *arguments]
        return self._call(command, {0} if ok else {1})

    def _call(self, command: list[str], expected: set[int]) -> subprocess.CompletedProcess[str]:
        bin_folder = str(Path(sys.executable).parent)
        environment = {
            **os.environ,
            "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
            "BACKSPLIT_WEIGHTS": str(self.folder / "weights"),
        }
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode in expected, done.stdout + done.stderr
        return done

"""The smallest project that has a bit of everything, and what may change in it."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from backsplit.cases.table import load_checked
from backsplit.errors import RunError
from backsplit.export.nnunet import datasets
from backsplit.flow.project import open_project
from backsplit.store.status import Status
from support.incremental import Engine, contents
from support.project import Project, save

SHAPE = (8, 12, 12)
CASES = ("a", "b", "c")
INPUTS = ("images", "lesions", "organs", "masks", "decisions.tsv")
BOOK = {"source": "a book", "severity": "info"}
RULES = {
    "volume": {"of": "liver", "low": 1.0, "high": 9.0},
    "intensity": {"of": "spleen", "low": 500.0, "high": 900.0},
    "side": {"left": "liver", "right": "spleen"},
    "pair": {"left": "liver", "right": "cord", "factor": 1.5},
    "order": {"names": ["cord", "liver"]},
    "chain": {
        "names": ["cord", "spleen", "liver"], "first_touches": "liver", "last_touches": "cord",
    },
    "near": {"of": "cord", "to": "kidney", "within_mm": 0.5},
    "components": {"of": "liver", "most": 1.0},
    "holes": {"of": "liver", "most": 0.1},
    "several": {"of": "liver"},
    "paired": {"of": "kidney"},
    "uneven": {"of": "cord"},
    "midline": {"of": "spleen"},
    "sexed": {"of": "cord"},
    "removable": {"of": "kidney"},
}  # fmt: skip
"""One anatomy rule of each kind, most of which the volumes break."""


def image(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    array = np.full(SHAPE, -1000.0)
    array[1:-1, 1:-1, 1:-1] = -100
    array[1:-1, 3:-3, 2:-2] = 40
    array[1:-1, 8:10, 5 : 7 + seed % 2] = 600
    return np.rint(array + rng.normal(0, 5, SHAPE)).astype(np.int16)


def organs(seed: int) -> np.ndarray:
    array = np.zeros(SHAPE, np.uint8)
    array[2:6, 3:8, 2:6] = 1
    array[2:6, 3:8, 7:10] = 2
    array[1:3, 9:10, 5 : 6 + seed % 3] = 3
    array[4, 5, 3] = 0
    array[7, 9, 9] = 1
    return array


def lesions(seed: int) -> np.ndarray:
    array = np.zeros(SHAPE, np.uint8)
    array[3:5, 4:6, 3 : 4 + seed % 2] = 1
    array[4, 6, 8] = 2
    array[5, 4, 8 + seed % 2] = 1
    return array


def mask(seed: int) -> np.ndarray:
    array = np.zeros(SHAPE, np.uint8)
    array[3:6, 6:9, 5 + seed % 2 : 8] = 1
    return array


def settings() -> dict[str, Any]:
    own = {
        "dataset": {"name": "Tiny", "id": 7, "cases": "cases.tsv", "channels": ["ct", "mr"]},
        "targets": {"tumor": 1, "cyst": 2},
        "segmenters": {
            "organs": {
                "kind": "files",
                "path": "organs/{case}.nii.gz",
                "labels": {"liver": 1, "spleen": 2, "cord": 3},
                "commercial": True,
            },
            "masks": {
                "kind": "files",
                "path": "{masks}/{name}.nii.gz",
                "labels": ["kidney", "liver"],
            },
            "tissue": {"kind": "threshold", "bands": {"fat": [-190, -30], "soft": [-30, 250]}},
        },
        "structures": {
            "liver": ["organs/liver", "masks/liver"],
            "spleen": "organs/spleen",
            "cord": "organs/cord",
            "kidney": "masks/kidney",
            "fat": "tissue/fat",
            "soft": "tissue/soft",
        },
        "compose": {"nested": ["liver", "kidney"], "groups": {"solid": ["liver", "spleen"]}},
        "qc": {
            "groups": ["site"],
            "rules": {k: [{**BOOK, **rule}] for k, rule in RULES.items()},
            "decisions": "decisions.tsv",
        },
        "export": {
            "bids": {"suffixes": {"mr": "T1w"}, "description": {"License": "CC0"}},
            "segmentations": "seg_nrrd",
        },
        "run": {"batch_size": 2, "device": "cpu", "pictures": False},
    }  # fmt: skip
    own["qc"]["rules"]["volume"].append({**BOOK, "of": "*", "low": 0, "high": 9})
    return own


class Tiny(Project):
    """A project that can go back to what it was, and is compared with clean runs."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.settings = settings()
        for number, case in enumerate(CASES):
            self.new_case(case, number)
        (folder / "decisions.tsv").write_text("case\tdecision\tnote\nb\treview\tlook\n")
        self.write()
        self.engine = Engine(folder / "config.yaml")
        self.engine.run()
        self.stopped = ""
        self._rows, self._files = copy.deepcopy(self.rows), self._inputs()
        self._clean = lasting(contents(self.results))

    def new_case(self, case: str, seed: int) -> None:
        columns = {
            "image_mr": f"images/{case}_mr.nii.gz",
            "masks": f"masks/{case}",
            "exclude": "",
            "patient": f"p{seed}",
            "site": f"s{seed % 2}",
        }
        self.add(case, image(seed), lesions(seed), **columns)
        save(self.folder / "images" / f"{case}_mr.nii.gz", 2 * image(seed) + 3000)
        save(self.folder / "organs" / f"{case}.nii.gz", organs(seed))
        (self.folder / "masks" / case).mkdir(parents=True, exist_ok=True)
        for number, name in enumerate(("kidney", "liver")):
            if (case, name) != ("b", "liver"):
                save(self.folder / "masks" / case / f"{name}.nii.gz", mask(seed + number))

    def row(self, case: str) -> dict[str, str]:
        return next(row for row in self.rows if row["case"] == case)

    def run(self) -> int:
        """Run what is due; returns the number of jobs."""
        self.write()
        jobs, self.stopped = _run(self.engine)
        return jobs

    def differing(self) -> list[str]:
        """What differs from a clean run, but for what no longer belongs.

        Where the last run was stopped by an error, a clean run has to end with the same one.
        """
        results = open_project(self.folder / "config.yaml").results.root
        found, aside = contents(results), results.with_name("aside")
        results.rename(aside)
        _, stopped = _run(Engine(self.folder / "config.yaml"))
        clean = contents(results)
        shutil.rmtree(results)
        aside.rename(results)
        if self.stopped or stopped:
            return [] if self.stopped == stopped else [f"stopped by {self.stopped}, not {stopped}"]
        return self._told(found, clean)

    def _told(self, found: dict[str, str], clean: dict[str, str]) -> list[str]:
        names = sorted(found.keys() | clean)
        different = [name for name in names if found.get(name) != clean.get(name)]
        return [
            ("missing " if n not in found else "left " if n not in clean else "other ") + n
            for n in different
            if n in clean or not self.is_left_over(n)
        ]

    def is_left_over(self, name: str) -> bool:
        """Whether a file is of a case, a segmenter, a batch or a data set that is no more."""
        project = open_project(self.folder / "config.yaml")
        parts = Path(name).parts
        if parts[:2] in (("datasets", "nnunet"), ("datasets", "converted")):
            mine = {dataset.folder.name for dataset in datasets(project.config)}
            return parts[2].removesuffix(".json") not in mine
        limited = project.config.export.only_unrestricted
        if parts[:2] == ("datasets", "bids"):
            mine = {project.config.unrestricted_name if limited else project.config.dataset.name}
            return project.config.export.bids is None or parts[2] not in mine
        if parts[:2] == ("datasets", "segmentations"):
            mine = project.config.unrestricted_name if limited else project.config.dataset.name
            return not project.config.export.segmentations or parts[2] != mine
        if parts[0] == "datasets" and "_unrestricted" in parts[-1]:
            return not limited
        if parts[:2] in (("datasets", "monai"), ("datasets", "left_out.tsv")):
            return limited
        if parts[0] == "segment" and parts[1] not in project.config.used_segmenters:
            return True
        if parts[0] == "unrestricted" and not project.config.export.only_unrestricted:
            return True
        stem = parts[-1].partition(".")[0]
        if stem.isdigit():
            return stem not in project.table.batches
        folders = ("segment", "labels", "unrestricted", "qc", "report")
        refused = {c.case.id for c in load_checked(project.table) if c.status is Status.REFUSED}
        gone = {*"abcde", "renamed"} - set(project.table.ids)
        return parts[0] in folders and stem in gone | refused

    def back(self) -> None:
        """Settings, rows and files are what they were."""
        self.settings, self.rows = settings(), copy.deepcopy(self._rows)
        now = self._inputs()
        for path in now.keys() - self._files:
            path.unlink()
        for path, data in self._files.items():
            if now.get(path) != data:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)

    def differing_from_first(self) -> list[str]:
        """What differs from the very first run, after `back` and `run`."""
        return self._told(lasting(contents(self.results)), self._clean)

    def fresh(self) -> None:
        """Begin from a clean run, where what lies there is none."""
        self.back()
        self.write()
        for path in self.folder.glob("results*"):
            if path.name != "results":
                shutil.rmtree(path)
        shutil.rmtree(self.folder / "aside", ignore_errors=True)
        self.write()
        if not self.results.exists() or lasting(contents(self.results)) != self._clean:
            shutil.rmtree(self.results, ignore_errors=True)
            self.engine = Engine(self.folder / "config.yaml")
        self.engine.run()
        assert lasting(contents(self.results)) == self._clean

    def _inputs(self) -> dict[Path, bytes]:
        roots = [self.folder / name for name in INPUTS]
        files = [p for root in roots for p in ([root] if root.is_file() else root.rglob("*"))]
        return {path: path.read_bytes() for path in files if path.is_file()}


def lasting(found: Mapping[str, str]) -> dict[str, str]:
    """Without keys, which hold times of inputs."""
    return {name: digest for name, digest in found.items() if not name.endswith(".key")}


def _run(engine: Engine) -> tuple[int, str]:
    """Number of jobs, and the error that stopped the run where `run.on_bad_case` is `stop`."""
    try:
        return engine.run(), ""
    except RunError as error:
        return 0, str(error)


Change = Callable[[Tiny], None]


def edit_in_place(path: Path, data: bytes) -> None:
    """Other bytes under the same name, with the same time of change as a person can set it."""
    kept = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns))


def nothing(_tiny: Tiny) -> None:
    """What needs no preparation."""

"""A new kind of segmenter is a model in `config/segmenters.py` and one module, and nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import ndimage

import backsplit
from support.project import load, save

pytestmark = pytest.mark.slow

SECTION = '''
class Grown(SegmenterSection):
    """Label files, grown by some voxels."""

    kind: Literal["grown"]
    path: str
    voxels: int = 1
    channel: str | None = None
    is_network: ClassVar[bool] = True
    is_anatomy: ClassVar[bool] = False

    def input_channels(self, channels):
        return channels[:1] if self.channel is None else (self.channel,)

    @property
    def label_paths(self):
        return {"seed": LabelPath(self.path)}

    @property
    def lesion_values(self):
        return {9: "necrosis"} if self.path == "{lesion}" else {}
'''

MODULE = """
import numpy as np
from scipy import ndimage

from backsplit.cases.labels import label_files, put_on_grid
from backsplit.segment.base import Commercial, Labelled, Licence, Segmenter
from backsplit.segment.timing import Timings
from backsplit.volume import read_grid, read_label_map
from backsplit.work.batch import one_by_one


def build(section, inputs, run):
    return GrownSegmenter(section, inputs)


class GrownSegmenter(Segmenter):
    def __init__(self, section, inputs):
        self.section = section
        self.placing = inputs.placing
        self.timings = Timings()

    def classes(self):
        return {"seed": 1}

    def licence(self):
        return Licence("CC-BY-NC-4.0", Commercial.NO, "not for sale", "a test")

    def identity(self):
        return {"method": 1}

    def inputs(self, case):
        return label_files(self.section.label_paths, case)

    def label(self, cases):
        return one_by_one(cases, self._label)

    def _label(self, case):
        grid = read_grid(case.images["ct"])
        path = self.inputs(case)["seed"]
        seed = put_on_grid(path, read_label_map(path, grid), grid, case, self.placing)
        array = ndimage.binary_dilation(seed.array > 0, iterations=self.section.voxels)
        return Labelled(array.astype(np.uint8), grid)
"""

PLAN = """
from pathlib import Path
from backsplit.flow.plan import Plan
from backsplit.flow.project import open_project
plan = Plan(open_project(Path("config.yaml")))
print(plan.check_key("00001"), plan.segment_key("grown", "00001"))
"""


@pytest.fixture
def with_grown(project, tmp_path, monkeypatch):
    """Two cases, and a package that has a kind of segmenter more."""
    package = tmp_path / "source" / "backsplit"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(backsplit.__file__).parent, package, ignore=ignored)
    sections = package / "config" / "segmenters.py"
    union = "\nSegmenterConfig = Annotated[\n    "
    text = sections.read_text()
    assert text.count(union) == 1
    sections.write_text(text.replace(union, f"{SECTION}\n{union}Grown | "))
    (package / "segment" / "grown.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    for number in range(2):
        project.add(f"case_{number}", seeds=f"seeds/case_{number}.nii.gz")
        save(project.folder / "seeds" / f"case_{number}.nii.gz", seed(number))
    project.settings["segmenters"]["grown"] = {"kind": "grown", "path": "{seeds}", "voxels": 2}
    project.settings["structures"] = {"seed": "grown/seed", "bone": "tissue/bone"}
    project.write()
    return project


def seed(number: int) -> np.ndarray:
    array = np.zeros((12, 20, 24), np.uint8)
    array[4:6, 9:11, 14 + number : 17] = 1
    return array


def keys(project) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PLAN], cwd=project.folder, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_its_answers_are_used_from_check_to_manifest(with_grown):
    project = with_grown
    assert project.run("labels", "grown").stdout.split() == ["1", "seed"]
    assert "grown\tCC-BY-NC-4.0\tcommercial use: no\tnot for sale" in project.run("licences").stdout
    project.snakemake()
    for number in range(2):
        found = load(project.results / "segment" / "grown" / f"case_{number}.nii.gz")
        np.testing.assert_array_equal(found, ndimage.binary_dilation(seed(number), iterations=2))
        composed = load(project.results / "labels" / f"case_{number}.nii.gz")
        assert (composed[found == 1] == 3).any()
    manifest = json.loads((project.results / "manifest.json").read_text())
    assert manifest["segmenters"]["grown"]["kind"] == "grown"
    assert manifest["segmenters"]["grown"]["licence"]["name"] == "CC-BY-NC-4.0"
    files = pd.read_parquet(project.results / "manifest.parquet").set_index("role")
    assert list(files.path["grown/seed"]) == ["seeds/case_0.nii.gz", "seeds/case_1.nii.gz"]
    assert "Nothing to be done" in project.snakemake().stderr


def test_check_reports_faults_of_a_new_kind(with_grown):
    project = with_grown
    section = project.settings["segmenters"]["grown"]

    def told(*, ok: bool = False, **keys: object) -> str:
        project.settings["segmenters"]["grown"] = section | keys
        project.write()
        return project.run("check", ok=ok).stderr

    assert "`segmenters.grown.channel`: 'mr' is not one of the channels" in told(channel="mr")
    assert "`segmenters.grown.colour`" in told(colour="red")
    assert "names {organ}, but the table has" in told(path="{organ}")
    save(project.folder / "seeds" / "case_1.nii.gz", seed(1), spacing=(1.0, 1.0, 1.0))
    assert "GRID_MISMATCH" in told(ok=True)  # one bad case is no bad run


def test_lesion_values_declared_by_a_kind_are_accepted(with_grown):
    project = with_grown
    lesion = np.zeros((12, 20, 24), np.uint8)
    lesion[5:8, 8:12, 9:12] = 1
    lesion[8, 8:10, 9] = 9
    save(project.folder / "lesions" / "case_1.nii.gz", lesion)
    assert "LABEL_UNDECLARED" in project.run("check").stderr
    project.settings["segmenters"]["grown"]["path"] = "{lesion}"
    project.write()
    assert "0 refused" in project.run("check").stderr


def test_the_plan_knows_its_files(with_grown):
    project = with_grown
    before = keys(project)
    assert keys(project) == before
    save(project.folder / "seeds" / "case_0.nii.gz", seed(2))
    after = keys(project)
    assert after[0] != before[0] and after[1] != before[1]  # `check` looks at them too


def test_its_bands_are_no_hosts_and_its_network_gets_a_gpu(with_grown):
    project = with_grown
    code = """
from pathlib import Path
from backsplit.flow.project import open_project
print(open_project(Path("config.yaml")).scheme.hosts)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=project.folder, capture_output=True, text=True, check=True
    )
    assert yaml.safe_load(done.stdout.replace("()", "[]")) == {"tumor": [], "cyst": []}
    project.write(run={"batch_size": 2, "device": "auto"})
    planned = project.snakemake("--dry-run", "--printshellcmds", "--verbose").stdout
    assert "gpu=1" in planned

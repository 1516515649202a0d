"""The wheel has all that a user needs, and nothing else."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from backsplit import __version__
from support import wheel
from support.project import ROOT, Project

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    return wheel.build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory, built) -> wheel.Installed:
    return wheel.Installed(tmp_path_factory.mktemp("environment") / "venv", built)


def test_it_is_small_and_has_the_package_and_the_workflow_alone(built):
    with zipfile.ZipFile(built) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    top = {name.partition("/")[0] for name in names}
    assert top <= {"backsplit", "snakemake_logger_plugin_backsplit"}
    inside = "backsplit/snakemake/"
    workflow = {name.removeprefix(inside) for name in names if name.startswith(inside)}
    assert workflow >= {"Snakefile", "config/config.yaml", "config/config.schema.json"}
    assert workflow >= {str(path.relative_to(ROOT)) for path in ROOT.glob("rules/*.smk")}
    assert workflow >= {str(path.relative_to(ROOT)) for path in ROOT.glob("workflow/report/*.rst")}
    assert workflow >= {f"profiles/{name}/config.yaml" for name in ("default", "slurm")}
    assert not [name for name in names if "test" in name or "docs/" in name or ".pyc" in name]
    assert built.stat().st_size < 3 * 1024 * 1024


def test_it_makes_a_data_set_far_from_any_checkout(installed, tmp_path):
    assert installed.call(tmp_path, "backsplit", "--version").stdout == f"backsplit {__version__}\n"
    project = Project(tmp_path)
    project.add("a")
    project.add("b")
    project.write()
    where = "from backsplit.flow.engine import snakefile; print(snakefile())"
    snakefile = Path(installed.call(tmp_path, "python", "-c", where).stdout.strip())
    assert snakefile.is_relative_to(installed.packages)
    installed.call(tmp_path, "backsplit", "run", "--config", "config.yaml", "--cores", "2")
    labels = project.results / "datasets" / "nnunet" / "Dataset007_Test" / "labelsTr"
    assert sorted(path.name for path in labels.iterdir()) == ["a.nii.gz", "b.nii.gz"]
    made = (project.results / "manifest.json").read_text()
    assert str(ROOT) not in made


def test_the_demo_comes_with_a_configuration(installed, tmp_path):
    said = installed.call(tmp_path, "backsplit", "demo", "make", "some demo").stdout
    assert "some demo/config.yaml" in said
    installed.call(tmp_path, "backsplit", "check", "--config", "some demo/config.yaml")
    assert (tmp_path / "results" / "cases.tsv").read_text().count("\tok\t") == 6
    config = tmp_path / "some demo" / "config.yaml"
    config.write_text(config.read_text().replace("Phantoms", "Mine"))
    installed.call(tmp_path, "backsplit", "demo", "make", "some demo")
    assert "name: Mine" in config.read_text()  # what exists is kept

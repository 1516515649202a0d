"""Recipes of `docs/segmenters.md` against the packages as PyPI has them, read and not run.

The packages need environments of their own, of gigabytes, and their weights are elsewhere. Their
command lines and class tables stand in their wheels, whose code is parsed here, never imported.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from support.recipes import sections

pytestmark = pytest.mark.recipes

RECIPES = dict(sections())


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """Name of a package to its files, unpacked."""
    folder = tmp_path_factory.mktemp("wheels")

    def fetch(package: str) -> Path:
        target = folder / package
        if not target.exists():
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            command += ["--only-binary", ":all:", "--dest", str(folder), package]
            subprocess.run(command, check=True)
            (wheel,) = folder.glob(f"{package.lower()}-*.whl")
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(target)
        return target

    return fetch


def options_of(path: Path) -> dict[str, ast.Call]:
    """Every option and positional argument that a module gives to argparse, with its call."""
    calls = [
        node
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "add_argument"
    ]
    return {
        name.value: call
        for call in calls
        for name in call.args
        if isinstance(name, ast.Constant) and isinstance(name.value, str)
    }


def used_options(name: str) -> set[str]:
    """Options that a recipe gives to its program."""
    parts = [*RECIPES[name]["command"]]
    for words in RECIPES[name].get("devices", {}).values():
        parts += [words] if isinstance(words, str) else words
    return {part for part in parts if part.startswith("-")}


def readme_table(package: Path) -> list[tuple[str, int]]:
    """Rows `| 1 | spleen |` of a package's README, as its metadata holds it."""
    (metadata,) = package.glob("*.dist-info/METADATA")
    rows = re.findall(r"^\| *(\d+) *\| *(\w+) *\|", metadata.read_text("utf-8"), re.M)
    return [(name, int(value)) for value, name in rows]


def entry_points(package: Path) -> str:
    (file,) = package.glob("*.dist-info/entry_points.txt")
    return file.read_text("utf-8")


def test_mrsegmentator(wheels):
    package = wheels("mrsegmentator")
    assert "mrsegmentator = mrsegmentator.main:main" in entry_points(package)
    options = options_of(package / "mrsegmentator" / "parser.py")
    assert used_options("mrsegmentator") <= set(options)
    (postfix,) = [k.value for k in options["--postfix"].keywords if k.arg == "default"]
    assert f"{{case}}_{ast.literal_eval(postfix)}.nii.gz" in RECIPES["mrsegmentator"]["output"]
    rows = [(name, value) for name, value in readme_table(package) if value]
    first = rows[: next(i for i, row in enumerate(rows) if i and row[1] == 1)]  # then: body_comp
    assert dict(first) == RECIPES["mrsegmentator"]["labels"] and len(first) == 40


def test_totalspineseg(wheels):
    package = wheels("totalspineseg")
    assert "totalspineseg = totalspineseg.inference:main" in entry_points(package)
    options = options_of(package / "totalspineseg" / "inference.py")
    assert used_options("spine") <= set(options)
    choices = next(k.value for k in options["--device"].keywords if k.arg == "choices")
    assert set(ast.literal_eval(choices)) == {"cuda", "cpu"}
    code = (package / "totalspineseg" / "inference.py").read_text("utf-8")
    assert "'step2_output':" in code and {"input", "output"} <= set(options)
    assert dict(readme_table(package)) == RECIPES["spine"]["labels"]


def test_moose(wheels):
    package = wheels("moosez")
    assert "moosez = moosez.moosez:main" in entry_points(package)
    section = RECIPES["moose"]
    assert used_options("moose") <= set(options_of(package / "moosez" / "moosez.py"))
    code = (package / "moosez" / "models.py").read_text("utf-8")
    model = section["command"][-1]
    folder = re.search(rf'"{model}": {{.*?KEY_FOLDER_NAME: "(\w+)"', code, re.S)
    assert folder is not None and f"/{folder[1]}/" in section["labels"]
    # where it writes, as its code composes it
    assert 'f"{self.imaging_type}_{self.modality_full}_{self.region}_"' in code
    assert 'expected_prefixes = [self.modality_full + "_"]' in code
    kind, modality, region = model.split("_", 2)
    run = (package / "moosez" / "moosez.py").read_text("utf-8")
    assert '{model.multilabel_prefix}segmentation_{file_name}.nii.gz"' in run
    name = f"{kind}_{modality.upper()}_{region}_segmentation_{modality.upper()}_{{case}}.nii.gz"
    assert section["output"] == f"images/{{case}}/moosez-*/segmentations/{name}"
    assert section["input"] == f"{{case}}/{modality.upper()}_{{case}}.nii.gz"
    folders = (package / "moosez" / "file_utilities.py").read_text("utf-8")
    assert "'moosez-' + datetime.now()" in folders


def test_vibesegmentator(wheels):
    """Its script is in its repository alone; its classes are in the package that it calls."""
    package = wheels("TPTBox")
    code = ast.parse((package / "TPTBox" / "segmentation" / "VibeSeg" / "vibeseg.py").read_text())
    (table,) = [
        ast.literal_eval(node.value)
        for node in ast.walk(code)
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "VibeSeg_map"
    ]
    unused = {value for value, name in table.items() if name.startswith("unused")}
    expected = {name: value for value, name in table.items() if value not in unused}
    assert RECIPES["vibe"]["labels"] == expected and len(unused) == 1


FREESURFER = {"inferior_lateral_ventricle": "inf_lat_vent", "accumbens": "accumbens_area",
              "ventral_dc": "ventraldc", "thalamus": "thalamus_proper", "third": "3rd",
              "fourth": "4th"}  # fmt: skip
"""Words of the recipe, and of FreeSurfer's table."""


def test_synthseg(wheels):
    """Its values are FreeSurfer's, whose table MNE ships; which of them it has, nothing on PyPI."""
    lines = (wheels("mne") / "mne" / "data" / "FreeSurferColorLUT.txt").read_text().splitlines()
    rows = [line.split() for line in lines if line[:1].isdigit()]
    table = {row[1].lower().replace("-", "_"): int(row[0]) for row in rows}
    for name, value in RECIPES["synthseg"]["labels"].items():
        for ours, theirs in FREESURFER.items():
            name = name.replace(ours, theirs)  # noqa: PLW2901
        assert table[name] == value
    sides = [n for n in RECIPES["synthseg"]["labels"] if n.startswith("left_")]
    assert {n.replace("left_", "right_") for n in sides} <= set(RECIPES["synthseg"]["labels"])

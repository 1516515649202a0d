"""A stage reads its slice of the configuration, and the fingerprint holds the whole slice."""

from __future__ import annotations

import ast
import json
from dataclasses import fields, is_dataclass, replace
from importlib import import_module
from pathlib import Path

import pytest

import backsplit
from backsplit.compose.stage import Composing
from backsplit.config.segmenters import Files, Threshold
from backsplit.config.slices import Labelling, LesionValues, Placing
from backsplit.flow.batches import composing, measuring
from backsplit.flow.project import open_project
from backsplit.measure.stage import Measuring
from backsplit.segment.stage import SegmentStage
from backsplit.store.provenance import digest, plain, read_json
from support.cases import read_cases
from support.composing import SCHEME, rules_of

PACKAGE = Path(backsplit.__file__).parent
STAGES = (
    *sorted((PACKAGE / "compose").glob("*.py")),
    *sorted((PACKAGE / "measure").glob("*.py")),
    *(PACKAGE / "segment" / f"{n}.py" for n in ("stage", "files", "threshold", "nnunet")),
    PACKAGE / "segment" / "totalsegmentator.py",
    *(PACKAGE / "cases" / f"{n}.py" for n in ("check", "claims", "labels", "lesion")),
)
LESIONS = LesionValues({"tumor": (1,)}, Placing("ct"), {"lesion": {2: "liver"}}, (9,), 5)


@pytest.mark.parametrize("path", STAGES, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_no_stage_reads_the_whole_configuration(path):
    imported = {
        alias.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "backsplit.config.model"
        for alias in node.names
    }
    assert imported <= {"Run"}  # how the work is done; nothing in it changes a label


def leaves(value, path=()):
    """Every field of nested dataclasses, by its path."""
    for field in fields(value):
        held = getattr(value, field.name)
        if is_dataclass(held):
            yield from leaves(held, (*path, field.name))
        else:
            yield (*path, field.name)


def changed(value, path):
    """The same with another value in one field."""
    first, *rest = path
    return replace(value, **{first: changed(getattr(value, first), rest) if rest else "other"})


@pytest.mark.parametrize(
    "inputs",
    [
        Composing(rules_of(), {"organs": {"liver": 1}}, LESIONS),
        Measuring(SCHEME, {"organs": {"liver": 1}}, ("organs",), LESIONS),
    ],
    ids=["composing", "measuring"],
)
def test_every_field_of_a_slice_counts(inputs):
    paths = list(leaves(inputs))
    assert ("lesions", "placing", "other_grids") in paths
    assert len({digest(plain(changed(inputs, path))) for path in paths}) == len(paths)
    assert digest(plain(inputs)) == digest(plain(replace(inputs)))


def test_order_counts_and_what_has_none_is_refused():
    assert digest(plain({"a": 1, "b": 2})) != digest(plain({"b": 2, "a": 1}))
    assert digest(plain({1: "a", "b": 2})) != digest(plain({"b": 2, 1: "a"}))
    with pytest.raises(TypeError, match="set cannot be part of a fingerprint"):
        plain({"names": {"a", "b"}})


@pytest.mark.parametrize(
    ("section", "counts"),
    [
        (Files(kind="files", path="{case}.nii.gz", labels={"liver": 1}), True),
        (Threshold(kind="threshold", bands={"fat": (-190, -30)}), False),
    ],
    ids=["files", "threshold"],
)
def test_how_files_are_placed_counts_where_files_are_read(project, configured, section, counts):
    """Labels that come from the image alone do not depend on it, and are not made again."""
    project.add("a")
    config = configured()
    (case,) = read_cases(config)
    made_from = []
    for policy in ("refuse", "any"):
        where = Placing("ct", policy)
        kind = import_module(f"backsplit.segment.{section.kind}")
        segmenter = kind.build(section, Labelling(("ct",), where), config.run)
        folder = config.results.segment("mine")
        stage = SegmentStage("mine", segmenter, section, where, folder)
        made_from.append(digest(stage.made_from(case)))
    assert (made_from[0] != made_from[1]) == counts


def test_composing_and_measuring_are_made_from_their_whole_slices(project, configured):
    project.add("a")
    configured()
    for verb in (["check"], ["segment", "tissue"]):
        project.run(*verb)
    project.run("compose")
    project.run("measure")
    opened = open_project(project.folder / "config.yaml")
    for sidecar, inputs in (
        (opened.results.labels.sidecar("a"), composing(opened)),
        (opened.results.measures.sidecar("a"), measuring(opened)),
    ):
        assert read_json(sidecar)["made_from"]["config"] == json.loads(json.dumps(plain(inputs)))

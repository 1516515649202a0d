"""The sidecar of a label map: names for ids, volumes, and what a person wants to know first."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from backsplit.cases.instances import Instance
from backsplit.compose.account import details
from backsplit.compose.case import ComposedCase, LesionFound, Rules
from backsplit.compose.host import NO_HOST, Host
from backsplit.compose.layers import LayerAccount, Overruled, State
from backsplit.compose.opinions import Heard
from backsplit.compose.repair import Repaired
from backsplit.config.slices import Merging
from backsplit.scheme.scheme import Opinion, Scheme
from backsplit.store.sidecars import SegmentDetails, StructureEntry
from backsplit.volume import Grid

GRID = Grid((40, 30, 20), (3.0, 2.0, 5.00001), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
ML = 0.0300001  # nearly
SCHEME = Scheme(
    {"tumor": 7, "cyst": 9, "scar": 11},
    ("background", "tumor", "cyst", "scar", "liver", "fat", "bone"),
    {"organs": {"liver": "liver"}, "tissue": {"fat": "fat", "bone": "bone"}},
    exceptions=(("bone", "liver"),),
)
RULES = Rules(SCHEME, Merging(("organs", "tissue")))
LIVER = Host(4, "surroundings", 0.123456, 0.654321, 0.111149, 2.34567)


def lesion(number, target, voxels, host=NO_HOST, repaired=None):
    box = (slice(1, 3), slice(4, 8), slice(5, 9))
    instance = Instance(number, target, np.arange(voxels), box, (1.23456, -20.005, 3.0))
    return LesionFound(instance, host, repaired)


def case(lesions=(), overruled=(), structures=(), accounts=(), ignored=0):
    counts = np.array([9000, 5000, 12, 0, 3000, 500, 1, 42])
    return ComposedCase(
        np.zeros(GRID.shape, np.uint8), counts, tuple(accounts), tuple(overruled), ignored,
        tuple(lesions), tuple(structures),
    )  # fmt: skip


def told(**parts):
    notes = ("the lesion was snapped",)
    return details(case(**parts), GRID, RULES, notes, {}, {}).model_dump(mode="json")


def entry(*values):
    """A structure: name, status, voxels, sides, reason."""
    return StructureEntry(**dict(zip(StructureEntry.model_fields, values, strict=True)))


def test_voxels_go_by_name():
    found = told()
    assert found["voxel_ml"] == round(GRID.voxel_ml, 9) == 0.03000006
    assert found["voxels"] == {
        "background": 9000, "tumor": 5000, "cyst": 12, "scar": 0, "liver": 3000, "fat": 500,
        "bone": 1, "ignore": 42,
    }  # fmt: skip
    assert told(ignored=17)["ignored_voxels"] == 17


def test_a_lesion_s_entry_rounds_what_was_measured():
    repaired = Repaired(5, 2, {0: 4, 5: 3})
    entries = told(lesions=[lesion(3, 2, 12345, LIVER, repaired), lesion(4, 1, 10)])["lesions"]
    assert entries[0] == {
        "instance": 3, "target": "cyst", "voxels": 12345, "volume_ml": 370.350741,
        "centroid_mm": [1.23, pytest.approx(-20.0, abs=0.011), 3.0],
        "box_zyx": [[1, 3], [4, 8], [5, 9]],
        "host": "liver", "host_basis": "surroundings", "inside_fraction": 0.1235,
        "shell_fraction": 0.6543, "closed_fraction": 0.1111, "distance_mm": 2.346,
        "repair": {"rim_voxels": 5, "hole_voxels": 2, "were": {"background": 4, "fat": 3}},
    }  # fmt: skip
    assert (entries[1]["target"], entries[1]["host"], entries[1]["host_basis"]) == (
        "tumor", None, "none",
    )  # fmt: skip
    assert entries[1]["distance_mm"] is None and entries[1]["repair"] is None


def test_who_was_overruled_and_why():
    pairs = [
        (State("organs", 4), State("tissue", 6)),  # an exception
        (State("tissue", 5), State("tissue", 6)),
        (State("organs", 4), State("targets", 1)),
        (State("tissue", 5), State("organs", 4)),
    ]
    overruled = [Overruled(loser, winner, 1234) for loser, winner in pairs]
    rows = told(overruled=overruled)["overruled"]
    assert rows[0] == {
        "loser": "liver", "loser_layer": "organs", "winner": "bone", "winner_layer": "tissue",
        "voxels": 1234, "volume_ml": 37.0201, "why": "exception: bone over liver",
    }  # fmt: skip
    assert [row["why"] for row in rows[1:]] == [
        "masks of tissue overlap; the one listed first wins",
        "lesions win over all segmenters",
        "organs comes before tissue in compose.order",
    ]


def test_layers_and_structures_are_listed_as_they_are():
    account = LayerAccount("organs", 10, 4, 3, 2, 1)
    status = entry("liver", "truncated", 7, "left,superior", "")
    found = told(accounts=[account], structures=[status])
    assert found["layers"] == [
        {
            "layer": "organs", "claimed": 10, "kept": 4, "agreed": 3, "overruled": 2,
            "set_aside": 1,
        }
    ]  # fmt: skip
    assert found["structures"] == [
        {"structure": "liver", "status": "truncated", "voxels": 7, "sides": "left,superior",
         "reason": ""}
    ]  # fmt: skip


def test_what_segmenters_found_and_nobody_took_is_kept():
    found = SegmentDetails(
        segmenter="organs", classes={}, overlaps={}, unknown={},
        voxels={"liver": 9, "spleen": 5}, notes={},
    )  # fmt: skip
    made = details(case(), GRID, RULES, (), {"organs": found}, {"tissue": "no memory"})
    assert made.classes_without_structure == {"organs": {"spleen": 5}}
    assert made.failed_segmenters == {"tissue": "no memory"}


def test_the_summary_says_what_a_person_wants_to_know_first():
    lesions = [
        lesion(1, 1, 1000, LIVER, Repaired(100, 0, {0: 100})),
        lesion(2, 1, 500, LIVER, Repaired(0, 0, {})),
        lesion(3, 1, 500),
        lesion(4, 2, 10000, LIVER, Repaired(10, 40, {0: 50})),
    ]
    structures = [
        entry("liver", "labelled", 9, "", ""),
        entry("fat", "unknown", 0, "", "tissue failed: no file"),
    ]
    summary = told(lesions=lesions, structures=structures, ignored=200)["summary"]
    assert summary == [
        "the lesion was snapped",
        "tumor: 3 lesion(s), 60 ml, 2 in liver, 1 in no organ",
        "cyst: 1 lesion(s), 300 ml, 1 in liver",
        "scar: none",
        "fat is unknown: tissue failed: no file",
        "6 ml where unknown structures could be are `ignore`",
        "liver got 3 ml around lesion 1 (tumor)",
        "liver got 1.5 ml around lesion 4 (cyst)",
    ]
    assert told()["summary"][1:] == [
        "tumor: none", "cyst: none", "scar: none",
        "1.26 ml are `ignore` because the configuration says so",
    ]  # fmt: skip


def test_whom_the_map_follows_where_several_label_a_structure_is_said():
    both = dict.fromkeys(("liver", "fat"), ("organs", "tissue"))
    ways = {"liver": ("first", "first"), "fat": ("union", "ignore")}
    opinions = {name: Opinion(sources, *ways[name]) for name, sources in both.items()}
    scheme = dataclasses.replace(SCHEME, opinions=opinions)
    heard = (
        Heard("liver", "organs", 1000, 1000, 0, 0), Heard("liver", "tissue", 500, 0, 500, 0),
        Heard("fat", "organs", 300, 200, 0, 100), Heard("fat", "tissue", 200, 200, 0, 0),
    )  # fmt: skip
    composed = dataclasses.replace(case(), heard=heard)
    made = details(composed, GRID, Rules(scheme, RULES.merging), (), {}, {})
    assert made.summary[-2:] == (
        "liver by first of organs, tissue: 15 ml of tissue set aside",
        "fat by union of organs, tissue: voxels on which they disagree are `ignore`",
    )
    assert made.opinions[1].model_dump() == {
        "structure": "liver", "layer": "tissue", "by": "first", "said": 500, "stands": 0,
        "set_aside": 500, "ignored": 0,
    }  # fmt: skip


@pytest.mark.parametrize(("pairs", "more"), [(8, None), (9, 1), (12, 4)])
def test_the_summary_has_the_eight_largest_overlaps(pairs, more):
    overruled = [Overruled(State("tissue", 5), State("organs", 4), 3333 - n) for n in range(pairs)]
    lines = told(overruled=overruled)["summary"][5:]
    reason = "organs comes before tissue in compose.order"
    assert lines[0] == f"tissue labelled 100.0 ml of liver as fat: {reason}".replace(
        "100.0", f"{3333 * GRID.voxel_ml:.3g}"
    )
    assert lines[8:] == ([] if more is None else [f"… and {more} smaller overlaps"])
    assert len(lines) == 8 + (more is not None)


@pytest.mark.parametrize(
    ("voxels", "text"), [(1, "0.03 ml"), (3330, "99.9 ml"), (3341, "100 ml"), (50000, "1500 ml")]
)
def test_volumes_are_written_as_a_person_would(voxels, text):
    assert f", {text}, " in told(lesions=[lesion(1, 1, voxels)])["summary"][1]
    assert math.isclose(GRID.voxel_ml, ML, rel_tol=1e-5)

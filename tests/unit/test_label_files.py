"""Label files: where they lie, and how they come onto the image's grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from backsplit.cases.labels import label_files, put_on_grid, require_placeable, snap_note
from backsplit.config.slices import placing
from backsplit.errors import CaseError, Code, RunError
from backsplit.volume import Grid, LabelMap, read_grid
from support.cases import read_cases
from support.project import ct_like, save

SHAPE = ct_like().shape
UPRIGHT = (1, 0, 0, 0, 1, 0, 0, 0, 1)


def test_label_files_lie_where_the_pattern_says(project, configured):
    project.add("a", organs="more/a.nii.gz")
    several = {"kind": "files", "path": "x/{case}/{name}.nii.gz", "labels": ["liver", "fat"]}
    one = {"kind": "files", "path": "{organs}", "labels": {"bone": 1}}
    config = configured(
        segmenters={"several": several, "one": one},
        structures={"liver": "several/liver", "bone": "one/bone"},
    )
    (case,) = read_cases(config)
    assert label_files(config.segmenters["several"].label_paths, case) == {
        "liver": Path("x/a/liver.nii.gz"), "fat": Path("x/a/fat.nii.gz"),
    }  # fmt: skip
    found = label_files(config.segmenters["one"].label_paths, case)
    assert found == {"labels": project.folder.resolve() / "more" / "a.nii.gz"}
    one["path"] = "{case}/{organs}"
    config = configured(segmenters={"several": several, "one": one})
    found = label_files(config.segmenters["one"].label_paths, case)
    assert found == {"labels": Path(f"a/{project.folder.resolve()}/more/a.nii.gz")}
    one["path"] = "{other}/{case}.nii.gz"
    config = configured(segmenters={"several": several, "one": one})
    with pytest.raises(
        RunError, match=r"names \{other\}, but the table has case, image_ct, lesion"
    ):
        label_files(config.segmenters["one"].label_paths, case)


@pytest.mark.parametrize(
    ("policy", "drawn_on", "placed"),
    [
        ("channels", "pet", True), ("channels", "other", False), ("any", "other", True),
        ("any", "pet", True), ("refuse", "pet", False), ("refuse", "ct", True),
        ("any", "far", False),
    ],
)  # fmt: skip
def test_labels_on_other_grids_are_placed_where_allowed(
    project, configured, policy, drawn_on, placed
):
    project.add("a")
    save(project.folder / "pet.nii.gz", np.zeros((8, 8, 8), np.int16), spacing=(5, 5, 5))
    project.rows[0]["image_pet"] = "pet.nii.gz"
    dataset = project.settings["dataset"] | {"channels": ["ct", "pet"], "other_grids": policy}
    config = configured(dataset=dataset)
    (case,) = read_cases(config)
    reference = read_grid(project.folder / "images" / "a.nii.gz")
    pet = read_grid(project.folder / "pet.nii.gz")
    grid = {
        "pet": pet, "ct": reference, "other": Grid((9, 9, 9), (4, 4, 4), pet.origin, UPRIGHT),
        "far": Grid((9, 9, 9), (4, 4, 4), (900, 0, 0), UPRIGHT),
    }[drawn_on]  # fmt: skip
    labels = LabelMap(np.ones(grid.shape, np.uint8), grid, {"n": 1}, {3: (1, 2)}, ("before",))
    path = Path("drawn.nii.gz")
    if not placed:
        for act in (
            lambda: require_placeable(path, grid, reference, case, placing(config)),
            lambda: put_on_grid(path, labels, reference, case, placing(config)),
        ):
            with pytest.raises(CaseError) as caught:
                act()
            code = Code.GRID_NO_OVERLAP if drawn_on == "far" else Code.GRID_MISMATCH
            assert caught.value.code is code
        return
    require_placeable(path, grid, reference, case, placing(config))
    found = put_on_grid(path, labels, reference, case, placing(config))
    assert found.grid == reference and found.array.shape == reference.shape and found.array.any()
    assert (found.names, found.overlaps, found.notes[0]) == ({"n": 1}, {3: (1, 2)}, "before")
    if drawn_on == "ct":
        assert found.notes == ("before",)
    else:
        note = f"drawn.nii.gz is put from {grid.describe()} on the image's grid"
        assert found.notes[1:] == (note,)


def test_a_channel_without_a_file_lends_no_grid(project, configured):
    project.add("a")
    project.rows[0]["image_pet"] = "missing.nii.gz"
    config = configured(dataset=project.settings["dataset"] | {"channels": ["ct", "pet"]})
    (case,) = read_cases(config)
    reference = read_grid(case.images["ct"])
    other = Grid((9, 9, 9), (4, 4, 4), reference.origin, UPRIGHT)
    with pytest.raises(CaseError) as caught:
        require_placeable(Path("drawn.nii.gz"), other, reference, case, placing(config))
    assert caught.value.code is Code.GRID_MISMATCH


@pytest.mark.parametrize(("off", "noted"), [(0.0, False), (0.0009, False), (0.0011, True)])
def test_only_what_float32_does_not_round_away_is_noted(off, noted):
    grid = Grid((4, 4, 4), (1, 1, 1), (0, 0, 0), UPRIGHT)
    other = Grid((4, 4, 4), (1, 1, 1), (off, 0, 0), UPRIGHT)
    assert bool(snap_note(Path("x.nii"), other, grid)) == noted

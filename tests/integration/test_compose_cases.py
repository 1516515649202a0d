"""Composing as a person does it: instances, doubted structures, overlapping masks, yielding."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd

from backsplit.config.model import Run
from backsplit.segment.nnunet import Engine
from backsplit.segment.timing import Timings
from backsplit.volume import Grid, Volume
from backsplit.volume.resample import resample_image
from support.project import Project, ct_like, load, save

SHAPE = ct_like().shape


def compose(project: Project) -> None:
    """Up to the verdicts, verb by verb."""
    project.run("check")
    for segmenter in project.settings["segmenters"]:
        project.run("segment", segmenter)
    for verb in ("compose", "measure", "judge"):
        project.run(verb)


def sidecar(project: Project, case: str):
    return json.loads((project.results / "labels" / f"{case}.json").read_text())


def test_lesion_values_are_instances_where_configured(project):
    lesion = np.zeros(SHAPE, np.uint8)
    lesion[4:6, 8:10, 8:10] = 5
    lesion[4:6, 8:10, 10:12] = 9  # touches the first: one component, two lesions
    lesion[8, 12, 15] = 9
    project.add("a", lesion=lesion)
    for targets in ({"tumor": "*"}, {"tumor": [5, 9]}):
        project.write(targets=targets)
        compose(project)
        rows = {row["instance"]: row["voxels"] for row in sidecar(project, "a")["lesions"]}
        assert rows == {5: 8, 9: 9}
        np.testing.assert_array_equal(
            load(project.results / "labels" / "a.nii.gz") == 1, lesion > 0
        )
    project.write(targets={"tumor": 5, "cyst": 9})
    compose(project)
    rows = [(r["target"], r["voxels"]) for r in sidecar(project, "a")["lesions"]]
    assert sorted(rows) == [("cyst", 1), ("cyst", 8), ("tumor", 8)]


def with_organs(project: Project, *cases: str) -> Project:
    """Binary masks of liver and kidney that overlap in part."""
    liver, kidney = np.zeros((2, *SHAPE), np.uint8)
    liver[2:6, 5:15, 5:12] = 1
    kidney[4:9, 5:15, 9:18] = 1
    for case in cases:
        project.add(case)
        save(project.folder / "organs" / case / "liver.nii.gz", liver)
        save(project.folder / "organs" / case / "kidney.nii.gz", kidney)
    project.settings["segmenters"]["given"] = {
        "kind": "files",
        "path": "organs/{case}/{name}.nii.gz",
        "labels": ["liver", "kidney"],
    }
    project.settings["structures"] |= {"liver": "given/liver", "kidney": "given/kidney"}
    project.settings["compose"] = {"order": ["targets", "given", "tissue"]}
    return project


def test_masks_that_overlap_follow_the_rules_and_are_counted(project):
    with_organs(project, "a").write()
    compose(project)
    ids = json.loads((project.results / "labels" / "labels.json").read_text())
    first = load(project.results / "labels" / "a.nii.gz")
    masks = {n: load(project.folder / "organs" / "a" / f"{n}.nii.gz") for n in ("liver", "kidney")}
    both = (masks["liver"] > 0) & (masks["kidney"] > 0) & (first > 2)
    assert both.any() and (first[both] == ids["liver"]).all()
    lost = [o for o in sidecar(project, "a")["overruled"] if o["loser_layer"] == "given"]
    within = [o for o in lost if o["winner_layer"] == "given"]
    assert [(o["loser"], o["winner"]) for o in within] == [("kidney", "liver")]
    assert within[0]["voxels"] == ((masks["liver"] > 0) & (masks["kidney"] > 0)).sum()
    assert "listed first" in within[0]["why"]
    order = project.settings["compose"]
    told = project.run("check").stderr
    assert "takes voxels from the lesion" not in told
    project.write(compose=order | {"except": [{"winner": "bone", "loser": "t*"}]})
    assert "compose.except: bone takes voxels from the lesion tumor" in project.run("check").stderr
    project.write(compose=order | {"except": [{"winner": "kidney", "loser": "liver"}]})
    compose(project)
    second = load(project.results / "labels" / "a.nii.gz")
    assert (second[both] == ids["kidney"]).all()
    np.testing.assert_array_equal(second[~both], first[~both])


def test_excluded_and_missing_structures_are_unknown(project):
    with_organs(project, "a", "b", "c")
    project.rows[1]["exclude"] = "liv*"
    (project.folder / "organs" / "c" / "kidney.nii.gz").unlink()
    project.write()
    compose(project)
    known = pd.read_parquet(project.results / "labels" / "status.parquet")
    status = {(r.case, r.structure): r.status for r in known.itertuples()}
    assert status["a", "liver"] == "labelled" and status["a", "kidney"] == "labelled"
    assert status["b", "liver"] == "unknown" and status["b", "kidney"] == "labelled"
    assert status["c", "liver"] == "labelled" and status["c", "kidney"] == "unknown"
    reasons = {(r.case, r.structure): r.reason for r in known.itertuples()}
    assert "excluded" in reasons["b", "liver"] and "does not exist" in reasons["c", "kidney"]
    ids = json.loads((project.results / "labels" / "labels.json").read_text())
    doubted = load(project.results / "labels" / "b.nii.gz")
    trusted = load(project.results / "labels" / "a.nii.gz")
    assert not (doubted == ids["liver"]).any()
    assert (doubted[trusted == ids["liver"]] == ids["ignore"]).all()
    project.rows[1]["exclude"] = "spleen"
    project.write()
    assert "not a structure" in project.run("check").stderr


def test_a_structure_of_which_a_part_is_missing_is_unknown_and_its_other_part_stays(project):
    """What the missing file may hold is `ignore`, never background."""
    with_organs(project, "a", "b")
    (project.folder / "organs" / "b" / "kidney.nii.gz").unlink()
    del project.settings["structures"]["kidney"], project.settings["structures"]["liver"]
    project.settings["structures"]["organs"] = ["given/liver", "given/kidney"]
    project.write()
    compose(project)
    known = pd.read_parquet(project.results / "labels" / "status.parquet")
    rows = known[known["structure"] == "organs"].set_index("case")
    assert list(rows["status"]) == ["labelled", "unknown"] and rows.loc["b", "voxels"] > 0
    assert "kidney.nii.gz does not exist" in rows.loc["b", "reason"]
    ids = json.loads((project.results / "labels" / "labels.json").read_text())
    whole, part = (load(project.results / "labels" / f"{case}.nii.gz") for case in "ab")
    drawn = {n: load(project.folder / "organs" / "a" / f"{n}.nii.gz") for n in ("liver", "kidney")}
    found = (drawn["liver"] > 0) & (part != 1)
    assert (part[found] == ids["organs"]).all()
    body = load(project.folder / "images" / "b.nii.gz") > -500  # no air is unknown
    lost = (whole == ids["organs"]) & (drawn["liver"] == 0) & body & (part != 1)
    assert lost.any() and (part[lost] == ids["ignore"]).all()
    project.settings["segmenters"]["given"]["missing"] = "absent"  # it was looked for
    project.write()
    compose(project)
    assert not (load(project.results / "labels" / "b.nii.gz") == ids["ignore"]).any()


def test_labels_from_another_channel_s_grid_come_onto_the_image_s(project):
    project.add("a")
    pet = np.zeros((9, 11, 13), np.float32)
    pet[2:7, 2:9, 2:10] = 8.0
    save(project.folder / "pet.nii.gz", pet, spacing=(4.0, 4.0, 4.0), origin=(-40.7, -50.6, 60.9))
    project.rows[0]["image_pet"] = "pet.nii.gz"
    project.settings["dataset"]["channels"] = ["ct", "pet"]
    bands = {"kind": "threshold", "channel": "pet", "bands": {"hot": [4.0, None]}}
    project.settings["segmenters"]["uptake"] = bands | {"within": "image"}
    project.settings["structures"] = {"hot": "uptake/hot"}
    project.write()
    project.run("check")
    project.run("segment", "uptake")
    labels = load(project.results / "segment" / "uptake" / "a.nii.gz")
    assert labels.shape == SHAPE
    ml = labels.sum() * 2.0 * 2.0 * 3.0 / 1000
    assert abs(ml - (pet > 4).sum() * 4.0**3 / 1000) < 0.15 * ml


def test_channels_of_a_network_come_onto_the_grid_of_its_first():
    axes = (1, 0, 0, 0, 1, 0, 0, 0, 1)
    first = Grid((12, 10, 8), (2.0, 2.0, 3.0), (0, 0, 0), axes)
    second = Grid((6, 6, 6), (4.0, 4.0, 4.0), (0, 0, 0), axes)
    rng = np.random.default_rng(0)
    volumes = [Volume(rng.random(g.shape).astype(np.float32), g) for g in (first, second)]
    network = SimpleNamespace(reader=type("SimpleITKIO", (), {})())
    engine = Engine([network], ["ct", "pet"], Timings(), Run())
    ct, pet = engine._on_one_grid(["ct", "pet"], volumes)
    assert ct is volumes[0] and pet.grid == first
    np.testing.assert_array_equal(pet.array, resample_image(volumes[1], first).array)


def refused_by_compose(project: Project) -> dict[str, str]:
    """Case to the code and the message with which composing refused it."""
    project.run("check")
    for segmenter in project.settings["segmenters"]:
        project.run("segment", segmenter)
    project.run("compose")
    (table,) = (project.results / "labels").glob("*.tsv")
    rows = pd.read_csv(table, sep="\t").set_index("case")
    bad = rows[rows["status"].isin(["failed", "refused"])]
    return {str(case): f"{row['code']}: {row['message']}" for case, row in bad.iterrows()}


def test_a_case_without_any_labels_is_refused_alone(project):
    project.add("a")
    project.add("b")
    save(project.folder / "organs" / "b.nii.gz", np.ones(SHAPE, np.uint8))
    given = {"kind": "files", "path": "organs/{case}.nii.gz", "labels": {"liver": 1}}
    project.write(segmenters={"given": given}, structures={"liver": "given/liver"})
    refused = refused_by_compose(project)
    assert list(refused) == ["a"]
    assert refused["a"].startswith("NOTHING_LABELLED: a: every segmenter failed (given: ")
    assert (project.results / "labels" / "b.nii.gz").exists()
    assert not (project.results / "labels" / "a.nii.gz").exists()


def test_a_lesion_lost_in_large_voxels_is_refused(project):
    near = np.zeros(SHAPE, np.uint8)
    near[4, 9, 9:11], near[4, 9, 11] = 1, 2  # all in one voxel of the PET
    apart = np.zeros(SHAPE, np.uint8)
    apart[4, 9, 9:11], apart[8, 4, 3] = 1, 2
    for case, lesion in (("near", near), ("apart", apart)):
        pet = np.arange(6 * 6 * 7, dtype=np.int16).reshape(6, 6, 7)
        path = save(project.folder / f"{case}.nii.gz", pet, spacing=(9.0, 9.0, 9.0))
        project.add(case, lesion=lesion, image_pet=path.name)
    project.write(
        dataset=project.settings["dataset"] | {"channels": ["ct", "pet"], "grid": "pet"},
        segmenters={"tissue": {"kind": "threshold", "channel": "pet", "bands": {"fat": [0, 100]}}},
        structures={"fat": "tissue/fat"},
    )
    refused = refused_by_compose(project)
    assert list(refused) == ["near"], refused
    assert refused["near"].startswith("LESION_LOST: ") and "dataset.grid" in refused["near"]
    labels = load(project.results / "labels" / "apart.nii.gz")
    assert (labels == 1).sum() == (labels == 2).sum() == 1

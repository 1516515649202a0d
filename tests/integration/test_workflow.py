"""The workflow as a person runs it: threshold and label files, no network."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
from test_check import EXPECTED, bad_table

from support.project import load, save

pytestmark = pytest.mark.slow
DONE = "Nothing to be done"


def outputs(project, *folders):
    """Every file of the results with its time of writing."""
    roots = [project.results / folder for folder in folders] or [project.results]
    files = [p for root in roots for p in root.rglob("*") if p.is_file()]
    return {str(p.relative_to(project.results)): p.stat().st_mtime_ns for p in files}


def test_a_table_becomes_a_data_set_that_nnunet_accepts(project):
    for i in range(3):
        project.add(f"case_{i}")
    project.write()
    project.snakemake()
    folder = project.results / "datasets" / "nnunet" / "Dataset007_Test"
    verify_dataset_integrity(str(folder), num_processes=1)
    described = json.loads((folder / "dataset.json").read_text())
    assert list(described["labels"]) == ["background", "tumor", "cyst", "bone", "fat"]
    assert list(described["labels"].values()) == [0, 1, 2, 3, 4]
    assert described["channel_names"] == {"0": "CT"} and described["numTraining"] == 3
    for i in range(3):
        labels = load(folder / "labelsTr" / f"case_{i}.nii.gz")
        lesion = load(project.folder / "lesions" / f"case_{i}.nii.gz")
        np.testing.assert_array_equal(np.where(labels <= 2, labels, 0), lesion)
        image = folder / "imagesTr" / f"case_{i}_0000.nii.gz"
        assert image.is_symlink()
        assert image.resolve() == (project.folder / "images" / f"case_{i}.nii.gz").resolve()
    verdicts = pd.read_csv(project.results / "qc" / "verdicts.tsv", sep="\t")
    assert list(verdicts["verdict"]) == ["accept"] * 3
    assert "case_2" in (project.results / "report" / "index.html").read_text()

    assert DONE in project.snakemake().stderr
    # copied instead of linked: the export alone is made anew
    before = outputs(project, "labels", "segment", "qc")
    project.write(export={"nnunet": {"mode": "copy"}})
    project.snakemake()
    assert outputs(project, "labels", "segment", "qc") == before
    assert not image.is_symlink()
    verify_dataset_integrity(str(folder), num_processes=1)


def test_bad_cases_are_set_aside_and_the_others_finish(project):
    bad_table(project)
    project.write()
    project.snakemake()
    verdicts = pd.read_csv(project.results / "qc" / "verdicts.tsv", sep="\t", keep_default_na=False)
    rules = dict(zip(verdicts["case"], verdicts["rules"], strict=True))
    assert rules == {row["case"]: EXPECTED.get(row["case"], "") for row in project.rows}
    folder = project.results / "datasets" / "nnunet" / "Dataset007_Test"
    exported = sorted(p.name for p in (folder / "labelsTr").iterdir())
    assert exported == ["good_1.nii.gz", "good_2.nii.gz", "healthy.nii.gz"]
    assert not (load(folder / "labelsTr" / "healthy.nii.gz") <= 2).all()
    assert not np.isin(load(folder / "labelsTr" / "healthy.nii.gz"), [1, 2]).any()
    page = (project.results / "report" / "index.html").read_text()
    assert all(code in page for code in EXPECTED.values())
    assert not (project.folder / "x.nii.gz").exists()
    assert DONE in project.snakemake().stderr


def test_a_deleted_output_is_rebuilt_alone(project):
    for i in range(4):
        project.add(f"case_{i}")
    project.write()
    project.snakemake()
    before = outputs(project, "segment", "labels")
    for gone in ("segment/tissue/case_1.nii.gz", "labels/case_2.nii.gz"):
        content = (project.results / gone).read_bytes()
        (project.results / gone).unlink()
        project.snakemake()
        assert (project.results / gone).read_bytes() == content
        after = outputs(project, "segment", "labels")
        changed = {name for name in before if after[name] != before[name]}
        assert {name for name in changed if name.endswith(".nii.gz")} == {gone}
        before = after
    assert DONE in project.snakemake().stderr


def test_new_and_changed_cases_run_alone(project):
    for i in range(4):
        project.add(f"case_{i}")
    project.write()
    project.snakemake()
    before = outputs(project, "segment", "labels")
    project.add("case_4")
    project.write()
    project.snakemake()
    after = outputs(project, "segment", "labels")
    changed = {n for n in after if n.endswith(".nii.gz") and after[n] != before.get(n)}
    assert changed == {"segment/tissue/case_4.nii.gz", "labels/case_4.nii.gz"}
    # a lesion is drawn anew: its label map follows, no segmenter runs again
    lesion = project.folder / "lesions" / "case_0.nii.gz"
    drawn = load(lesion)
    drawn[2, 6, 6] = 1
    save(lesion, drawn)
    project.snakemake()
    again = outputs(project, "segment", "labels")
    changed = {n for n in after if n.endswith(".nii.gz") and again[n] != after[n]}
    assert changed == {"labels/case_0.nii.gz"}
    assert load(project.results / "labels" / "case_0.nii.gz")[2, 6, 6] == 1


def test_unknown_structures_become_ignore_background_or_drop_the_case(project):
    for name in ("a", "b"):
        project.add(name)
        organs = np.zeros((12, 20, 24), np.uint8)
        organs[2:5] = 4
        save(project.folder / "organs" / f"{name}.nii.gz", organs)
    (project.folder / "organs" / "b.nii.gz").unlink()
    project.settings["segmenters"]["given"] = {
        "kind": "files",
        "path": "organs/{case}.nii.gz",
        "labels": {"liver": 4},
    }
    project.settings["structures"]["liver"] = "given/liver"
    project.settings["qc"] = {"off": ["*"]}  # a slab of body and air is no liver, and is told so
    project.write()
    project.snakemake()
    ids = json.loads((project.results / "labels" / "labels.json").read_text())
    known, unknown = (load(project.results / "labels" / f"{c}.nii.gz") for c in "ab")
    assert ids["ignore"] == 6 and not (known == 6).any()
    image = load(project.folder / "images" / "b.nii.gz")
    # nothing in the body is called background, and nothing in the air is unknown
    assert (unknown == 6).any() and not (unknown[1:-1, 5:-5, 5:-5] == 0).any()
    assert not (unknown == 6)[image < -900].any()
    folder = project.results / "datasets" / "nnunet" / "Dataset007_Test"
    assert json.loads((folder / "dataset.json").read_text())["labels"]["ignore"] == 6
    verify_dataset_integrity(str(folder), num_processes=1)
    verdicts = pd.read_csv(project.results / "qc" / "verdicts.tsv", sep="\t", keep_default_na=False)
    assert list(verdicts["verdict"]) == ["accept", "review"]
    project.write(compose={"unknown": "background"})
    project.snakemake()
    assert not (load(project.results / "labels" / "b.nii.gz") == 6).any()
    assert "ignore" not in json.loads((folder / "dataset.json").read_text())["labels"]
    project.write(compose={"unknown": "drop"})
    project.snakemake()
    assert [p.name for p in (folder / "labelsTr").iterdir()] == ["a.nii.gz"]
    flags = (project.results / "qc" / "flags.tsv").read_text()
    assert "STRUCTURE_UNKNOWN" in flags


def test_a_killed_batch_goes_on_where_it_was(project):
    for i in range(4):
        project.add(f"case_{i}")
    project.write()
    project.run("check")
    project.run("segment", "tissue", "--batch", "00001")
    done = project.results / "segment" / "tissue"
    before = outputs(project, "segment")
    # as after a kill: the batch's table was never written, one volume is there without sidecar
    (done / "00001.tsv").unlink()
    (done / "case_1.json").unlink()
    shutil.copy(done / "case_0.nii.gz", done / "case_1.nii.gz")
    project.run("segment", "tissue")
    after = outputs(project, "segment")
    assert after["segment/tissue/case_0.nii.gz"] == before["segment/tissue/case_0.nii.gz"]
    assert load(done / "case_1.nii.gz").shape == load(done / "case_0.nii.gz").shape
    assert not np.array_equal(load(done / "case_1.nii.gz"), load(done / "case_0.nii.gz"))
    table = pd.read_csv(done / "00002.tsv", sep="\t", keep_default_na=False)
    assert list(table["status"]) == ["done", "done"]


def test_a_bad_configuration_stops_before_anything_runs(project):
    project.add("a")
    project.write(structures={"bone": "tissu/bone"})
    failed = project.snakemake(ok=False)
    assert "'tissu/bone'" in failed.stdout + failed.stderr
    assert "Traceback" not in failed.stdout + failed.stderr
    assert not project.results.exists()


def test_hand_made_results_are_remade_after_a_configuration_change(project):
    lesion = np.zeros((12, 20, 24), np.uint8)
    lesion[4:6, 8:10, 8:10] = 7
    project.add("a", lesion=lesion)
    project.write()
    project.run("check")
    assert "LABEL_UNDECLARED" in (project.results / "cases.tsv").read_text()
    project.write(targets={"tumor": 7})
    project.snakemake()
    assert (load(project.results / "labels" / "a.nii.gz") == 1).sum() == 8
    assert DONE in project.snakemake().stderr


def test_retry_reruns_only_failed_cases(project):
    for name in ("a", "b"):
        project.add(name)
        save(project.folder / "organs" / f"{name}.nii.gz", np.full((12, 20, 24), 4, np.uint8))
    project.settings["segmenters"]["given"] = {
        "kind": "files",
        "path": "organs/{case}.nii.gz",
        "labels": {"organ": 4},
    }
    project.settings["structures"]["organ"] = "given/organ"
    project.write()
    project.run("check")
    project.run("segment", "given")
    table = project.results / "segment" / "given" / "00001.tsv"
    # as a job leaves it that ran out of memory in one case
    (project.results / "segment" / "given" / "b.nii.gz").unlink()
    (project.results / "segment" / "given" / "b.json").unlink()
    rows = table.read_text().replace("b\tdone\t\t", "b\tfailed\tOUT_OF_MEMORY\ttoo large")
    table.write_text(rows)
    project.snakemake()
    assert "OUT_OF_MEMORY" in (project.results / "qc" / "flags.tsv").read_text()
    assert DONE in project.snakemake().stderr
    before = outputs(project, "segment")
    assert project.run("retry").stdout.split() == ["results/segment/given/00001.tsv"]
    project.snakemake()
    after = outputs(project, "segment")
    assert after["segment/given/a.nii.gz"] == before["segment/given/a.nii.gz"]
    assert (load(project.results / "labels" / "b.nii.gz") > 2).any()
    assert "OUT_OF_MEMORY" not in (project.results / "qc" / "flags.tsv").read_text()

"""A study on phantoms by Snakemake: killed, continued, shared, priced."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import blosc2
import numpy as np
import pandas as pd
import pytest
import torch

from backsplit.demo.phantoms import make_phantom
from backsplit.study.table import LESIONS, SCORES
from support.project import load, save

pytestmark = pytest.mark.slow

ORGANS = {"spleen": 1, "kidney_left": 3, "liver": 5}
HELD_OUT = ["p0", "p1"]
ARMS = {
    "binary": {"structures": []},
    "tuned": {"from": "binary"},
}
STUDY = {
    "small": {"spacing_mm": [8, 8, 8], "patch": [16, 16, 16], "features": [4, 8, 8]},
    "folds": [0],
    "budget": {"epochs": 3, "iterations": 2, "validation_iterations": 1},
    "decisions": ["argmax", 0.5],
    "augmenters": 0,
}


@pytest.fixture(scope="module")
def studied(project_in, tmp_path_factory):
    """Five phantoms, two held out, in one organs are unknown; a study of two arms has run."""
    project = project_in(tmp_path_factory.mktemp("study"))
    for number in range(5):
        phantom = make_phantom(300 + number, ("liver", "kidney"), (8.0, 8.0, 8.0))
        case, spacing = f"p{number}", phantom.grid.spacing
        fold = "0" if case in HELD_OUT else ""
        unknown = "liver" if case == "p4" else ""
        project.add(
            case, phantom.image, phantom.lesion,
            fold=fold, patient=f"patient{number}", exclude=unknown,
        )  # fmt: skip
        for folder, array in (("images", phantom.image), ("lesions", phantom.lesion)):
            save(project.folder / folder / f"{case}.nii.gz", array, spacing)
        save(project.folder / "organs" / f"{case}.nii.gz", phantom.anatomy, spacing)
    given = {"kind": "files", "path": "organs/{case}.nii.gz", "labels": ORGANS}
    project.settings["dataset"]["id"] = 301
    project.settings["targets"] = {"kidney_tumor": 1, "liver_tumor": 2}
    project.settings["segmenters"] = {"given": given}
    project.settings["structures"] = {name: f"given/{name}" for name in ORGANS}
    project.settings["study"] = {**STUDY, "arms": ARMS}
    project.settings["run"]["batch_size"] = 5
    project.settings["run"]["pictures"] = False
    project.write()
    project.snakemake("study")
    return project


def folder(project) -> Path:
    return project.results / "study"


def jobs(project) -> pd.DataFrame:
    return pd.read_csv(folder(project) / "jobs.tsv", sep="\t")


def checkpoints(project) -> dict[Path, int]:
    found = (folder(project) / "trained").rglob("checkpoint_final.pth")
    return {path: path.stat().st_mtime_ns for path in found}


def weights(model: Path) -> dict[str, torch.Tensor]:
    path = model / "fold_0" / "checkpoint_final.pth"
    return torch.load(path, weights_only=False)["network_weights"]


def test_every_arm_case_and_target_has_a_row(studied):
    scores = pd.read_parquet(folder(studied) / "scores.parquet")
    assert {name: str(kind) for name, kind in scores.dtypes.items()} == SCORES
    targets = ["any target", "kidney_tumor", "liver_tumor"]
    rows = scores.set_index(["arm", "case", "target", "decision"]).index
    assert set(rows) == {
        (arm, case, target, decision)
        for arm in ARMS for case in HELD_OUT for target in targets for decision in ("argmax", "0.5")
    }  # fmt: skip
    assert (scores["patient"] == "patient" + scores["case"].str[1:]).all()
    lesions = pd.read_parquet(folder(studied) / "lesions.parquet")
    assert list(lesions.columns) == list(LESIONS)
    drawn = lesions[(lesions["kind"] == "reference") & (lesions["decision"] == "argmax")]
    assert drawn.groupby(["case", "target"]).size().index.nunique() == 6


def test_all_arms_have_the_same_images_and_lesions_and_one_plan(studied):
    main = next((studied.results / "datasets" / "nnunet").glob("Dataset301*"))
    plans = []
    for name in jobs(studied)["dataset"].unique():
        for case in (f"p{n}" for n in range(5)):
            whole, mine = (
                load(f / "labelsTr" / f"{case}.nii.gz")
                for f in (main, folder(studied) / "raw" / name)
            )
            np.testing.assert_array_equal(
                np.where(mine <= 2, mine, 0), np.where(whole <= 2, whole, 0)
            )
            image = folder(studied) / "raw" / name / "imagesTr" / f"{case}_0000.nii.gz"
            assert image.resolve() == (studied.folder / "images" / f"{case}.nii.gz").resolve()
        ready = folder(studied) / "preprocessed" / name
        plans.append({**json.loads((ready / "nnUNetPlans.json").read_text()), "dataset_name": ""})
    assert len(plans) == 2 and all(plan == plans[0] for plan in plans)
    assert plans[0]["configurations"]["3d_fullres"]["spacing"] == [8, 8, 8]


def test_an_arm_that_starts_from_another_is_its_extension(studied):
    models = jobs(studied).set_index("arm")["model"]
    held = torch.load(
        studied.folder / models["tuned"] / "fold_0" / "checkpoint_final.pth", weights_only=False
    )
    origin = held["init_args"]["backsplit"]["extended"]["from"]
    assert Path(models["binary"]).name in origin
    classes = {
        arm: len(json.loads((studied.folder / m / "dataset.json").read_text())["labels"])
        for arm, m in models.items()
    }
    assert classes["binary"] == 3 and classes["tuned"] == 3 + len(ORGANS) + 1


def test_nothing_is_due_after_a_study(studied):
    before = checkpoints(studied)
    assert "Nothing to be done" in studied.snakemake("study").stderr
    assert checkpoints(studied) == before


def command(project, *arguments: str) -> list[str]:
    call = "from backsplit.cli import app; app()"
    return [sys.executable, "-c", call, "study", *arguments, "--config", "config.yaml"]


def test_a_killed_study_ends_with_the_same_tables(studied):
    """Killed after its first epoch, the training goes on and gives the same network, bit by bit.

    Whatever the number of threads that a process is allowed.
    """
    scores = pd.read_parquet(folder(studied) / "scores.parquet")
    model = studied.folder / jobs(studied).set_index("arm")["model"]["tuned"]
    first = weights(model)
    before = folder(studied) / "before"
    model.rename(before)
    notes = folder(studied) / "jobs" / "tuned" / "fold_0_seed_0"
    tables = [folder(studied) / "scores.parquet", folder(studied) / "report" / "index.html"]
    for path in [*notes.iterdir(), *tables]:
        path.unlink()
    allowed = {"BACKSPLIT_WEIGHTS": str(studied.folder / "weights"), "OMP_NUM_THREADS": "2"}
    environment = {**os.environ, **allowed}
    running = subprocess.Popen(
        command(studied, "train", "--arm", "tuned"), cwd=studied.folder, env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    latest, curves = (model / "fold_0" / name for name in ("checkpoint_latest.pth", "curves.tsv"))
    limit = time.monotonic() + 120
    while not curves.exists() and running.poll() is None and time.monotonic() < limit:
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert latest.exists() and not (model / "fold_0" / "checkpoint_final.pth").exists()
    studied.snakemake("study")
    assert (
        torch.load(model / "fold_0" / "checkpoint_final.pth", weights_only=False)["current_epoch"]
        == 3
    )
    for name, tensor in weights(model).items():
        torch.testing.assert_close(tensor, first[name], rtol=0, atol=0, msg=name)
    again = pd.read_parquet(folder(studied) / "scores.parquet")
    pd.testing.assert_frame_equal(again, scores, check_exact=True)


def test_noise_changes_structures_and_no_lesion_of_the_preprocessed_labels(studied):
    given = studied.settings["study"]
    try:
        studied.write(study={**STUDY, "arms": {"noisy": {"noise": {"grow_mm": 8}}}})
        studied.run("study", "labels")
    finally:
        studied.write(study=given)
    name = json.loads((folder(studied) / "arms" / "noisy.json").read_text())["dataset"]
    noise = pd.read_parquet(folder(studied) / "raw" / name / "noise.parquet")
    free = noise[noise["case"] != "p4"]  # there the unknown is all round, and nothing can grow
    assert len(free) == 4 * len(ORGANS) and free["dice"].between(0.2, 0.99).all()
    clean = jobs(studied).set_index("arm")["dataset"]["tuned"]
    for case in (f"p{n}" for n in range(5)):
        noisy, plain = (
            blosc2.open(str(ready(studied, one) / f"{case}_seg.b2nd"), mode="r")[:]
            for one in (name, clean)
        )
        kept = np.isin(plain, [-1, 1, 2, 3 + len(ORGANS)])  # outside, targets, ignore
        np.testing.assert_array_equal(noisy[kept], plain[kept])
        assert set(np.unique(noisy[~kept])) <= {0, 3, 4, 5}
        assert case == "p4" or (noisy != plain).mean() > 0.005


def ready(project, dataset: str) -> Path:
    return folder(project) / "preprocessed" / dataset / "nnUNetPlans_3d_fullres"


def test_two_studies_share_the_networks_that_would_be_the_same(studied):
    before = checkpoints(studied)
    other = {"lesions_only": {"structures": []}, "later": {"from": "lesions_only"}}
    given = studied.settings["study"]
    try:
        studied.write(study={**STUDY, "arms": other, "decisions": ["argmax"]})
        studied.run("study", "labels")
        said = studied.run("study", "train").stderr
        assert "lesions_only, fold 0, seed 0 is trained" in said and "epoch" not in said
        assert checkpoints(studied) == before
        said = studied.run("study", "plan").stdout
        assert "2 trainings (2 arms, 1 folds, 1 seeds) of 3 epochs; 2 done" in said
    finally:
        studied.write(study=given)


def test_the_price_is_told_before_anything_is_trained(studied):
    given = studied.settings["study"]
    try:
        budget = {"epochs": 100, "iterations": 20, "validation_iterations": 5}
        studied.write(study={**STUDY, "budget": budget, "seeds": 2, "arms": ARMS})
        lines = studied.run("study", "plan", "--measure").stdout.splitlines()
        assert lines[0] == "4 trainings (2 arms, 1 folds, 2 seeds) of 100 epochs; 0 done"
        measured = json.loads((folder(studied) / "measured.json").read_text())
        assert measured["arm"] == "binary" and measured["seconds"] > 0
        hours = float(next(line for line in lines if "training alone" in line).split()[3])
        assert hours == pytest.approx(4 * 100 * measured["seconds"] / 3600, abs=0.01)
    finally:
        (folder(studied) / "measured.json").unlink(missing_ok=True)
        studied.write(study=given)


def test_advice_of_a_study_and_of_a_data_set_without_one(studied):
    """No arm has one structure alone: information and false alarms, and no evidence."""
    said = studied.run("study", "advise").stdout
    assert "Evidence for the score: none." in said and "Information on kidney_tumor" in said
    advice = pd.read_csv(folder(studied) / "advice" / "structures.tsv", sep="\t")
    assert set(advice["structure"]) == set(ORGANS)
    known = advice.set_index("structure")["known"]
    assert known.to_dict() == {"spleen": 1.0, "kidney_left": 1.0, "liver": 0.8}  # not in p4
    assert advice[["rim_share", "information", "score"]].notna().all(axis=None)
    totals = pd.read_csv(folder(studied) / "advice" / "information.tsv", sep="\t")
    assert set(totals["target"]) == {"kidney_tumor", "liver_tumor"} and (totals["gain"] > 0).all()
    assert (totals["halves_gain"].abs() < 1e-12).all() and (totals["halves_trace_gain"] > 0).all()
    around = pd.read_csv(folder(studied) / "advice" / "surroundings.tsv", sep="\t")
    scores = pd.read_parquet(folder(studied) / "scores.parquet")
    mine = scores[(scores["arm"] == "binary") & (scores["target"] == "any target")]
    mine = mine[mine["decision"] == "argmax"]
    alarms_ml = around["alarm_mm3"].sum() / 1000
    assert alarms_ml == pytest.approx(mine["false_positive_ml"].sum(), abs=1e-6)
    given = studied.settings.pop("study")
    try:
        studied.write()
        said = studied.run("study", "advise").stdout
        assert "alarm_share: not available; train an arm without structures" in said
        assert said.splitlines()[0].split()[-2:] == ["rim_share", "score"]
    finally:
        studied.write(study=given)


def test_a_study_that_is_not_there_is_said_to_be_missing(studied):
    given = studied.settings.pop("study")
    try:
        studied.write()
        done = studied.snakemake("study", ok=False)
        assert "has no section `study`" in done.stdout + done.stderr
    finally:
        studied.write(study=given)


def test_a_data_set_is_preprocessed_again_beside_those_of_the_arms(studied):
    """They have one number, which nnU-Net would not plan: as after an image that was replaced."""
    held = json.loads((folder(studied) / "plan.json").read_text())
    main = next((studied.results / "datasets" / "nnunet").glob("Dataset301*")).name
    note = folder(studied) / "preprocessed" / main / "study_plan.json"
    note.write_text(json.dumps({**held, "key": "of other images"}))
    studied.run("study", "preprocess")
    assert json.loads((folder(studied) / "plan.json").read_text()) == held
    assert {path.name for path in ready(studied, main).glob("*.pkl")} == {
        f"p{number}.pkl" for number in range(5)
    }
    assert not list((folder(studied) / "preprocessed").glob(".*"))

"""Which job made what, and what a job must not cost."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from backsplit.cases.table import open_table
from backsplit.config.model import Config
from backsplit.errors import Code, RunError
from backsplit.flow.plan import Plan
from backsplit.flow.project import Project
from backsplit.store.results import Results
from backsplit.store.status import Outcome, Status
from backsplit.work.jobs import RecordedStage, job_of, recorded
from backsplit.work.progress import RUN_VARIABLE

HEAVY = (
    *("torch", "nnunetv2", "totalsegmentator", "nibabel", "pydicom", "highdicom", "SimpleITK"),
    *("scipy.ndimage", "scipy.spatial", "pandas", "pyarrow", "matplotlib"),
)


def test_what_a_job_reported_is_not_tried_again_by_its_run_and_a_crash_is(tmp_path, monkeypatch):
    results = Results(tmp_path)

    def attempt(error: Exception | None) -> bool:
        """Whether the job's work was begun."""
        begun = False
        with suppress(RuntimeError, RunError), recorded(results, "compose", "00001"):
            begun = True
            if error is not None:
                raise error
        return begun

    monkeypatch.setenv(RUN_VARIABLE, "first run")
    assert attempt(RuntimeError("killed")) and attempt(None)  # a crash is tried again
    reported = RunError(Code.DISK_FULL, "the disk is full", "make room")
    assert attempt(reported) and not attempt(None)
    with pytest.raises(RunError) as again, recorded(results, "compose", "00001"):
        pass
    assert str(again.value) == str(reported)
    with recorded(results, "compose", "00002"):  # another job of the run
        pass
    monkeypatch.setenv(RUN_VARIABLE, "second run")  # somebody made room, perhaps
    assert attempt(None)
    monkeypatch.delenv(RUN_VARIABLE)  # by hand
    assert attempt(reported) and attempt(None)


@pytest.mark.parametrize(
    "module",
    [
        "flow",
        "flow.check",
        "flow.plan",
        "flow.ready",
        "flow.watch",
        "segment.stage",
        "segment.licences",
        "segment.files",
        "segment.nnunet",
        "segment.threshold",
        "segment.totalsegmentator",
        "compose.stage",
        "flow.gather",
    ],
)
def test_a_verb_starts_without_what_it_may_not_need(module):
    code = f"import sys, backsplit.{module}; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class Nothing:
    """A stage whose work takes no time."""

    name = "segment organs"

    def work(self, cases):
        yield from ((case, {}) for case in cases)


def test_the_last_job_that_made_a_case_is_found_also_after_a_kill(tmp_path, monkeypatch):
    results = Results(tmp_path)
    with recorded(results, "segment/organs", "00001") as recorder:
        stage = RecordedStage(Nothing(), recorder, lambda outcome, computed: None)
        assert [case for case, _ in stage.work(["a", "b"])] == ["a", "b"]
        stage(Outcome("a", Status.DONE), computed=True)
        stage(Outcome("b", Status.DONE), computed=False)  # was there already
        stage(Outcome("c", Status.FAILED, "INTERNAL", "?"), computed=True)
    path = results.job_record("segment/organs", "00001")
    events = [json.loads(line) for line in path.read_text().splitlines()]
    assert [event["event"] for event in events] == ["start", "case", "failed", "end"]
    assert events[2]["case"] == "c" and events[2]["reason"] == "? (code INTERNAL)"
    assert events[-1]["cases"] == 1 and events[-1]["peak_mib"] > 10
    first = job_of(results, "segment/organs", "a")
    assert first["job"] == events[0]["job"] and first["scheduler"] == {}
    assert job_of(results, "segment/organs", "b") is None

    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    with pytest.raises(KeyboardInterrupt), recorded(results, "segment/organs", "00001") as killed:
        killed.made("a")
        raise KeyboardInterrupt
    with path.open("a") as stream:
        stream.write('{"job": "cut sh')
    later = job_of(results, "segment/organs", "a")
    assert later["job"] != first["job"] and later["scheduler"] == {"SLURM_JOB_ID": "4711"}
    with recorded(results, "segment/organs", "00001") as next_job:
        next_job.made("a")
    last = job_of(results, "segment/organs", "a")
    assert last["job"] == next_job.job and last["batch"] == "00001"


def config_of(tmp_path, cases, batch_size):
    rows = [f"case_{i}\timages/{i}.nii.gz\tnone\n" for i in range(cases)]
    table = tmp_path / "cases.tsv"
    table.write_text("case\timage_ct\tlesion\n" + "".join(rows))
    return Config.model_validate(
        {
            "dataset": {"name": "Many", "id": 1, "cases": str(table)},
            "targets": {"tumor": 1},
            "segmenters": {"tissue": {"kind": "threshold", "bands": {"fat": [-190, -30]}}},
            "structures": {"fat": "tissue/fat"},
            "run": {"batch_size": batch_size, "results": str(tmp_path / "results")},
        }
    )


@pytest.mark.parametrize(("cases", "batch_size"), [(10, 1), (10, 4), (10, 10), (10, 200), (12, 4)])
def test_batches_follow_the_batch_size_and_hold_every_row_once(tmp_path, cases, batch_size):
    table = open_table(config_of(tmp_path, cases, batch_size))
    assert len(table.batches) == -(-cases // batch_size)
    held = [case for name in table.batches for case in table.batch(name)]
    assert [case.id for case in held] == table.ids
    assert [case.row for case in held] == list(range(2, cases + 2))
    with pytest.raises(RunError, match="TABLE_INVALID"):
        table.batch("99999")


def test_added_rows_keep_the_keys_of_full_batches(tmp_path):
    before = Plan(Project(tmp_path, config_of(tmp_path, 10, 4)))
    keys = {b: (before.check_key(b), before.segment_key("tissue", b)) for b in before.batches}
    after = Plan(Project(tmp_path, config_of(tmp_path, 13, 4)))
    assert list(keys) == ["00001", "00002", "00003"] and list(after.batches)[-1] == "00004"
    same = [b for b in keys if keys[b] == (after.check_key(b), after.segment_key("tissue", b))]
    assert same == ["00001", "00002"]


PROGRAM = {
    "kind": "command", "command": ["./label", "{image}", "{output}"], "labels": {"fat": 1},
    "depends_on": ["weights"],
}  # fmt: skip
CASCADE = {"configurations": {"3d_cascade_fullres": {"previous_stage": "3d_lowres"}}}
MODEL = "weights/T__P__3d_cascade_fullres"
KINDS = {
    "command": (PROGRAM, ["label", "weights/deep/net.pt"]),
    "nnunet": (
        {"kind": "nnunet", "model": MODEL, "folds": [1]},
        [
            f"{MODEL}/fold_1/checkpoint_final.pth",
            f"{MODEL}/dataset.json",
            "weights/T__P__3d_lowres/fold_1/checkpoint_final.pth",
        ],
    ),
    "monai_bundle": ({"kind": "monai_bundle", "bundle": "weights"}, ["weights/models/model.pt"]),
    "totalsegmentator": (
        {"kind": "totalsegmentator", "task": "body", "weights": "weights"},
        ["weights/Dataset299_body_1559subj/fold_0/checkpoint_final.pth"],
    ),
}
"""Section of each kind, and files whose change is a change of its labels."""


def every_own_file(folder):
    """What the kinds read; a network is not opened."""
    for model in (f"{folder}/{MODEL}", f"{folder}/weights/T__P__3d_lowres"):
        for name in ("dataset.json", "fold_1/checkpoint_final.pth", "fold_1/progress.png"):
            write(Path(model, name), '{"labels": {"background": 0, "fat": 1}}')
        write(Path(model, "plans.json"), json.dumps(CASCADE))
    for _, names in KINDS.values():
        for name in names:
            if not (folder / name).exists():
                write(folder / name, "1")


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_labels_depend_on_changes_the_key_of_their_batches(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    section, names = KINDS[kind]
    every_own_file(tmp_path)
    data = config_of(tmp_path, 4, 4).model_dump(mode="json", by_alias=True)
    data["segmenters"]["tissue"] = section
    config = Config.model_validate(data)

    def key() -> str:
        return Plan(Project(tmp_path, config)).segment_key("tissue", "00001")

    known = {key()}
    assert known == {key()}
    for name in names:  # the folders themselves keep their times
        with Path(name).open("a") as stream:
            stream.write(" ")
        known.add(key())
    assert len(known) == 1 + len(names)
    if kind == "nnunet":  # what training leaves beside the network
        write(Path(MODEL, "fold_1/progress.png"), "2")
        write(Path(MODEL, "fold_0/checkpoint_final.pth"), "2")
        assert key() in known

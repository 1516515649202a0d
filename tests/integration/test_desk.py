"""What a person sees and types: a run that is quiet and names what it lost, and nothing guessed."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from backsplit.errors import RunError
from backsplit.flow.project import open_project
from backsplit.flow.ready import needed_bytes, require_space
from backsplit.store.status import outcomes_in
from support import flow
from support.incremental import Engine
from support.project import ROOT, load, save

pytestmark = pytest.mark.slow
ORGANS = {"kind": "files", "path": "organs/{case}.nii.gz", "labels": {"cord": 1, "larynx": 2}}


def command(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Call the command without -c, in a folder."""
    start = [sys.executable, "-c", "from backsplit.cli import app; app()", *arguments]
    whole = {**os.environ, "BACKSPLIT_WEIGHTS": str(folder / "weights"), **environment}
    return subprocess.run(
        start, cwd=folder, env=whole, capture_output=True, text=True, check=False, timeout=300
    )


def organs(project, case: str, *values: int) -> Path:
    array = np.zeros((12, 20, 24), np.uint8)
    for number, value in enumerate(values):
        array[3 + number, 6:12, 6:12] = value
    return save(project.folder / "organs" / f"{case}.nii.gz", array)


@pytest.fixture
def mixed(project):
    """Two sound cases, one that is refused, one whose organs cannot be read; one class missing."""
    for case in ("fine", "good", "odd", "torn"):
        project.add(case)
        organs(project, case, 1, 2)
    (project.folder / "organs" / "torn.nii.gz").write_bytes(b"no volume at all")
    lesion = project.folder / "lesions" / "odd.nii.gz"
    save(lesion, np.where(load(lesion) == 2, 9, load(lesion)).astype(np.uint8))
    project.settings["segmenters"]["given"] = ORGANS
    project.settings["structures"] |= {"cord": "given/cord", "larynx": "given/larynx"}
    project.write()
    return project


def test_a_run_is_quiet_names_what_it_lost_and_says_so_by_its_exit_status(mixed):
    done = command(mixed.folder, "run", "-c", "config.yaml")
    assert done.returncode == 3, done.stdout + done.stderr
    said = done.stderr.splitlines()
    stages = [line.split("] ")[1].split(":")[0] for line in said if re.search(r"cases in \d", line)]
    assert stages[0] == "check" and sorted(stages[1:]) == sorted(
        ["segment tissue", "segment given", "compose", "measure"])  # fmt: skip
    text = done.stderr
    assert "check: odd refused:" in text and "(code LABEL_UNDECLARED)" in text
    assert "segment given: torn failed:" in text and "(code FILE_UNREADABLE)" in text
    assert "check: 3/3 cases in" in text and ", 1 refused" in text
    assert "segment given: 2/3 cases in" in text and ", 1 failed" in text
    assert "refused: 1 (odd), LABEL_UNDECLARED" in text
    assert "failed in segment given: 1 (torn), FILE_UNREADABLE" in text
    assert "to review: 1 (torn)" in text and "exported: 3 of 4 cases, results/datasets" in text
    assert sum(line.startswith("[backsplit]     torn: ") for line in said) == 1  # what leads
    assert "report: results/report/index.html" in text
    assert "`backsplit retry -c config.yaml`" in text and "took " in text
    # nothing of the engine's, and nothing twice
    others = [line for line in said if not line.startswith("[backsplit]")]
    assert len(said) < 25 and len(others) == 1, text
    assert others[0].startswith("Using workflow specific profile")
    assert done.stdout == "" and len(set(said)) == len(said)

    # the next run has nothing to do, and still says what is lost, without -c
    again = command(mixed.folder, "run")
    assert again.returncode == 3 and "[backsplit] configuration: config.yaml" in again.stderr
    assert "Nothing to be done" in again.stderr and "refused: 1 (odd)" in again.stderr
    assert len(again.stderr.splitlines()) < 12
    # what is asked of Snakemake gets Snakemake's answer
    dry = command(mixed.folder, "run", "-n", "--forceall")
    assert dry.returncode == 0 and "rule segment:" in dry.stdout + dry.stderr

    # stale results of a case that is refused now are not done
    lesion = mixed.folder / "lesions" / "good.nii.gz"
    save(lesion, np.where(load(lesion) == 2, 9, load(lesion)).astype(np.uint8))
    assert command(mixed.folder, "check").returncode == 3
    told = command(mixed.folder, "status").stdout.splitlines()
    assert told[0] == "check: 2 ok, 2 refused, 4 in all"
    lines = dict(line.split(": ", 1) for line in told)
    assert lines["segment tissue"] == lines["compose"] == "1 done, 0 failed, 2 in all"
    assert lines["segment given"] == "0 done, 1 failed, 2 in all"
    assert lines["judge"].startswith("out of date") and lines["report"].startswith("out of date")
    assert lines["export"].startswith("out of date")


def screen(text: str) -> list[str]:
    """Lines that a terminal shows in the end: two sequences move the cursor up and clear."""
    lines: list[str] = [""]
    for part in re.split(r"(\x1b\[\d+A|\x1b\[J|\n)", text.replace("\r\n", "\n")):
        if part == "\n":
            lines.append("")
        elif up := re.fullmatch(r"\x1b\[(\d+)A", part):
            lines = [*lines[: len(lines) - 1 - int(up[1])], ""]
        elif part != "\x1b[J":
            lines[-1] += part
    return lines


def test_on_a_terminal_the_lines_of_running_stages_take_each_other_s_place(project):
    project.add("a")
    project.write()
    ours, theirs = pty.openpty()
    done = subprocess.Popen(
        [sys.executable, "-c", "from backsplit.cli import app; app()", "run", "-c", "config.yaml"],
        cwd=project.folder, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    read = []
    with suppress(OSError):  # what Linux says at the end
        while block := os.read(ours, 4096):
            read.append(block)
    assert done.wait() == 0
    text = b"".join(read).decode()
    shown = [line for line in screen(text) if line]
    assert "\x1b[1A" in text or "\x1b[2A" in text  # lines were put in others' place
    assert not [line for line in shown if "running" in line or line.endswith("left")], shown
    for stage in ("check", "segment tissue", "compose", "measure"):
        ended = [line for line in shown if line.startswith(f"[backsplit] {stage}: ")]
        assert len(ended) == 1 and "1/1 cases in" in ended[0], shown


def test_status_has_a_line_for_each_stage(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    project.add("a")
    config = project.write()
    project.run("check")
    lines = dict(line.split(": ", 1) for line in flow.status(open_project(config)))
    assert list(lines) == ["check", "segment tissue", "compose", "measure", "judge", "export",
                           "report"]  # fmt: skip
    assert {lines[name] for name in ("judge", "export", "report")} == {"not made yet"}
    Engine(config).run()
    lines = dict(line.split(": ", 1) for line in flow.status(open_project(config)))
    assert lines["compose"] == "1 done, 0 failed, 1 in all" and lines["judge"] == "1 accept"
    assert lines["export"].startswith("1 cases in ") and "Dataset007_Test" in lines["export"]
    assert lines["report"].endswith("report/index.html")


def test_weights_that_nobody_accepted_stop_the_run_before_any_job(project):
    model = project.folder / "model"
    (model / "fold_0").mkdir(parents=True)
    (model / "fold_0" / "checkpoint_final.pth").write_bytes(b"who knows")
    (model / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "cord": 1}}))
    plans = {"configurations": {"3d_fullres": {}}}
    (model / "plans.json").write_text(json.dumps(plans))
    project.settings["segmenters"]["net"] = {"kind": "nnunet", "model": "model"}
    project.settings["structures"]["cord"] = "net/cord"
    project.add("a")
    project.write()
    for done in (command(project.folder, "run", "-c", "config.yaml"),
                 project.snakemake(ok=False)):  # fmt: skip
        assert done.returncode == 1
        assert done.stderr.count("WEIGHTS_UNKNOWN") == 1, done.stderr
        assert "run `backsplit weights accept net -c config.yaml`" in done.stderr
        assert "SEGMENTER" not in done.stderr and "Traceback" not in done.stderr
        assert not (project.results / "check").exists()


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (
            {"qc": {"decisions": "decided.tsv"}},
            "TABLE_INVALID",
            "'nobody' is not in the case table",
        ),
        ({"run": {"device": "cuda:9"}}, "DEVICE_MISSING", "run.device is cuda:9"),
        ({"segmenters": "organ"}, "FILE_MISSING", "0 of 2 cases have such a file"),
    ],
)
def test_what_would_stop_a_run_later_stops_it_before_any_job(project, change, code, words):
    (project.folder / "decided.tsv").write_text("case\tdecision\nnobody\taccept\n")
    for case in ("a", "b"):
        project.add(case)
        organs(project, case, 1, 2)
    project.settings["segmenters"]["given"] = dict(ORGANS)
    project.settings["segmenters"]["net"] = {"kind": "totalsegmentator", "weights": "demo",
                                             "fastest": True}  # fmt: skip
    project.settings["structures"] |= {"cord": "given/cord", "liver": "net/liver"}
    if change.get("segmenters"):
        project.settings["segmenters"]["given"]["path"] = "organs/{case}.nii"
        change = {}
    project.settings["compose"] = {"segmenter_lesions": {"net/kidney_cyst_*": "background"}}
    project.write(**change)
    done = command(project.folder, "run", "-c", "config.yaml")
    assert done.returncode == 1 and done.stderr.count(f"(code {code})") == 1, done.stderr
    assert words in done.stderr and not (project.results / "check").exists()
    if code != "DEVICE_MISSING":  # which a login node lacks, and the jobs have
        checked = command(project.folder, "check")
        assert checked.returncode == 1 and words in checked.stderr


def test_an_error_of_a_job_is_whole_on_the_terminal_and_not_tried_again(mixed):
    mixed.write(run={"on_bad_case": "stop", "batch_size": 4})
    lesion = mixed.folder / "lesions" / "odd.nii.gz"
    save(lesion, np.where(load(lesion) == 9, 2, load(lesion)).astype(np.uint8))
    done = command(mixed.folder, "run", "-c", "config.yaml")
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("torn failed and run.on_bad_case is stop") == 1, done.stderr
    assert "segment given (batch 00001): stopped" in done.stderr
    assert "NOT finished: 1 job failed, see above" in done.stderr
    assert "next: correct the cause, then `backsplit run -c config.yaml`" in done.stderr
    record = mixed.results / "provenance/jobs/segment/given/00001.jsonl"
    events = [json.loads(line)["event"] for line in record.read_text().splitlines()]
    assert events.count("start") == 1 and events[-1] == "error"


def test_a_case_without_its_label_file_is_told_where_the_path_comes_from(project, monkeypatch):
    """The path is one of the configuration: nothing in the case table could be corrected."""
    monkeypatch.chdir(project.folder)
    project.settings["segmenters"]["given"] = ORGANS
    project.settings["structures"]["cord"] = "given/cord"
    for case in ("a", "b"):
        project.add(case)
        organs(project, case, 1, 2)
    (project.folder / "organs" / "b.nii.gz").unlink()
    config = project.write()
    flow.check(config, None, 1, print)
    flow.segment(open_project(config), "given", None, print)
    rows = {row.case: row for row in outcomes_in(project.results / "segment/given/00001.tsv")}
    assert rows["a"].status == "done" and rows["b"].code == "FILE_MISSING"
    assert rows["b"].message.startswith("organs/b.nii.gz does not exist; add it; or correct ")
    assert "this segmenter's `path`" in rows["b"].message


def test_a_full_disk_stops_a_run_before_any_job_and_done_cases_need_no_space(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    for case in ("a", "b"):
        project.add(case)
    config = project.write()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1e6))
    with pytest.raises(RunError, match=r"would need about 0\.0 GB more") as raised:
        require_space(open_project(config))
    assert raised.value.code == "DISK_FULL" and "run.results" in raised.value.remedy
    needed = needed_bytes(open_project(config))
    project.write(export={"nnunet": {"mode": "copy"}})  # the images too
    images = sum(path.stat().st_size for path in (project.folder / "images").iterdir())
    assert needed_bytes(open_project(config)) == pytest.approx(needed + images, abs=2)
    project.write(export={"segmentations": ["seg_nrrd", "dicom_seg"]})
    assert needed_bytes(open_project(config)) == pytest.approx(needed + 0.75 * images, abs=2)
    project.write(export={})
    Engine(config).run()
    written = sum(p.stat().st_size for p in project.results.rglob("*") if p.is_file())
    assert written < needed  # of these volumes nearly all is what a case has beside its maps
    require_space(open_project(config))


def test_an_intact_data_set_verifies_whatever_its_paths_are_relative_to(project, monkeypatch):
    """Label files by a path from the working folder, a table in a folder of its own."""
    project.add("a")
    data = project.folder / "data"
    organs(project, "a", 1, 2).parent.rename(data)
    monkeypatch.chdir(project.folder)
    Path("mine").mkdir()
    for row in project.rows:
        row.update({name: f"../{cell}" for name, cell in row.items() if name != "case"})
    path = f"../{project.folder.name}/data/{{case}}.nii.gz"
    project.settings["segmenters"]["given"] = ORGANS | {"path": path}
    project.settings["structures"]["cord"] = "given/cord"
    project.settings["dataset"]["cases"] = "mine/cases.tsv"
    project.write().rename("mine/config.yaml")
    Path("cases.tsv").rename("mine/cases.tsv")
    Engine(Path("mine/config.yaml")).run()
    # `mine/config.yaml` is found without being named
    verified = command(project.folder, "verify", "--deep")
    assert verified.returncode == 0 and "0 differ" in verified.stderr, verified.stdout
    assert "[backsplit] configuration: mine/config.yaml" in verified.stderr
    save(data / "a.nii.gz", np.ones((12, 20, 24), np.uint8))
    changed = command(project.folder, "verify")
    assert changed.returncode == 1 and "a.nii.gz has changed" in changed.stdout


def test_the_shell_completes_verbs(tmp_path):
    start = "from backsplit.cli import app; import sys; sys.argv = ['backsplit']; "
    done = subprocess.run(
        [sys.executable, "-c", f"{start}app(prog_name='backsplit')"],
        env={**os.environ, "_BACKSPLIT_COMPLETE": "complete_bash",
             "COMP_WORDS": "backsplit ex", "COMP_CWORD": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert {"explain", "export"} <= set(done.stdout.split()), done.stdout + done.stderr
    assert "run" not in done.stdout.split()


def test_profiles_of_both_kinds_print_by_our_lines():
    for profile in ("default", "slurm"):
        text = (ROOT / "profiles" / profile / "config.yaml").read_text()
        assert re.search(r"^logger: backsplit\b", text, re.M), profile

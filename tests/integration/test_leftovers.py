"""What belongs to nothing any more is listed, removed when told, and nothing else is."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from backsplit.flow.leftovers import Why, leftovers, remove
from backsplit.flow.project import open_project
from backsplit.record.verify import verify
from support import flow
from support.incremental import Engine, contents, differing, nothing
from support.project import Project, ct_like, save

OWN = (
    *("notes.txt", "check/notes.txt", "labels/mine.nii.gz", "labels/mine.json", "labels/mine.tsv~"),
    *("segment/organs/notes.txt", "segment/reference/a.nii.gz", "qc/decisions.tsv"),
    *("qc/cases/b_zoomed.png", "qc/tables/measures/notes.txt", "labels/tables/old.txt"),
    *("report/cases/notes.txt", "datasets/nnunet/notes.txt", "datasets/converted/notes.json"),
    *("datasets/nnunet/Dataset900_Other/dataset.json", "datasets/monai/notes.json"),
    *("datasets/nnunet/Dataset900_Other/labelsTr/x.nii.gz", "datasets/left_out_by_me.tsv"),
    *("datasets/nnunet/Dataset007_Test/plans/mine.json", "datasets/bids/Mine/participants.tsv"),
    *("datasets/bids/Test/derivatives/mine/sub-c/anat/sub-c_dseg.nii.gz", "logs/run.log"),
    *("datasets/bids/Test/sub-c/anat/sub-c_T1w.json", "benchmarks/check/00009.tsv"),
)
"""Files of a person, in every folder of the results."""

DECISIONS = "case\tdecision\tnote\na\treject\t\n"


@pytest.fixture
def full(project, monkeypatch) -> Project:
    """Four cases in batches of two, two segmenters, every kind of data set; `a` has a page."""
    monkeypatch.chdir(project.folder)
    for case in "abcd":
        add(project, case)
    project.settings["segmenters"] = {
        "organs": {"kind": "files", "path": "organs/{case}.nii.gz", "labels": {"liver": 1}},
        "tissue": {"kind": "threshold", "bands": {"fat": [-190, -30], "bone": [250, None]}},
    }
    project.settings["structures"] = {
        "liver": "organs/liver",
        "fat": "tissue/fat",
        "bone": "tissue/bone",
    }
    project.settings["compose"] = {"nested": ["liver"]}
    project.settings["export"] = {"bids": {}}
    project.write()
    return project


def add(project: Project, case: str) -> None:
    project.add(case)
    organs = (ct_like(len(project.rows)) > 0).astype("uint8")
    save(project.folder / "organs" / f"{case}.nii.gz", organs)


def plant(results: Path) -> None:
    for name in OWN:
        path = results / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(DECISIONS if path.name == "decisions.tsv" else "{}")


def dig_up(results: Path) -> None:
    """Take them out again, but for decisions, which count; each must be there."""
    for name in OWN:
        path = results / name
        assert path.read_text() == (DECISIONS if path.name == "decisions.tsv" else "{}")
        if path.name == "decisions.tsv":
            continue
        path.unlink()
        for folder in path.parents:
            if folder == results or any(folder.iterdir()):
                break
            folder.rmdir()


def remove_a_case(project: Project) -> set[Why]:
    del project.rows[2]
    return {Why.ABSENT}


def remove_cases_and_their_batch(project: Project) -> set[Why]:
    del project.rows[1:]
    return {Why.ABSENT, Why.BATCH}


def rename_a_case(project: Project) -> set[Why]:
    project.rows[1]["case"] = "z"
    shutil.copy(project.folder / "organs/b.nii.gz", project.folder / "organs/z.nii.gz")
    return {Why.ABSENT}


def refuse_a_case(project: Project) -> set[Why]:
    (project.folder / "lesions" / "b.nii.gz").write_bytes(b"no volume")
    return {Why.REFUSED}


def crop_a_label_file(project: Project) -> set[Why]:
    """It is put on the grid of its image; the case stays."""
    save(project.folder / "organs" / "b.nii.gz", (ct_like()[:, :, 2:] > 0).astype("uint8"))
    return set()


def rename_a_segmenter(project: Project) -> set[Why]:
    segmenters = project.settings["segmenters"]
    segmenters["thresholds"] = segmenters.pop("tissue")
    structures = project.settings["structures"]
    structures |= {"fat": "thresholds/fat", "bone": "thresholds/bone"}
    return {Why.SEGMENTER}


def drop_a_segmenter(project: Project) -> set[Why]:
    del project.settings["segmenters"]["tissue"]
    project.settings["structures"] = {"liver": "organs/liver"}
    return {Why.SEGMENTER}


def leave_a_segmenter_unused(project: Project) -> set[Why]:
    project.settings["structures"] = {"liver": "organs/liver"}
    return {Why.SEGMENTER}


def rename_the_data_set(project: Project) -> set[Why]:
    project.settings["dataset"]["name"] = "Other-name"
    return {Why.DATASET}


def another_id(project: Project) -> set[Why]:
    project.settings["dataset"]["id"] = 70
    return {Why.DATASET}


def an_id_that_a_nested_set_had(project: Project) -> set[Why]:
    project.settings["dataset"]["id"] = 8
    return {Why.DATASET}


def no_nested_sets(project: Project) -> set[Why]:
    del project.settings["compose"]
    return {Why.DATASET}


def no_monai(project: Project) -> set[Why]:
    project.settings["export"] = {"bids": {}, "monai": None}
    return set()  # the export removes its lists


def no_bids(project: Project) -> set[Why]:
    project.settings["export"] = {}
    return set()  # the export removes its own files


def no_bids_under_another_name(project: Project) -> set[Why]:
    project.settings["export"] = {}
    return rename_the_data_set(project)


def no_pictures(project: Project) -> set[Why]:
    project.settings["run"]["pictures"] = False
    return set()  # measuring removes them


def smaller_batches(project: Project) -> set[Why]:
    project.settings["run"]["batch_size"] = 1
    return set()


def larger_batches(project: Project) -> set[Why]:
    project.settings["run"]["batch_size"] = 4
    return {Why.BATCH}


def only_unrestricted(project: Project) -> set[Why]:
    project.settings["export"] = {"bids": {}, "only_unrestricted": True}
    return {Why.DATASET}


CHANGES = [
    remove_a_case, remove_cases_and_their_batch, rename_a_case, refuse_a_case, crop_a_label_file,
    rename_a_segmenter, drop_a_segmenter, leave_a_segmenter_unused, rename_the_data_set, another_id,
    an_id_that_a_nested_set_had, no_nested_sets, no_monai, no_bids, no_bids_under_another_name,
    no_pictures, smaller_batches, larger_batches, only_unrestricted,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_after_cleaning_there_is_what_a_clean_run_makes(full, change: Callable):
    config = full.folder / "config.yaml"
    engine = Engine(config)
    engine.run()
    plant(full.results)
    expected = change(full)
    full.write()
    engine.run()
    project = open_project(config)
    before = contents(full.results)
    found = leftovers(project)
    assert contents(full.results) == before
    assert {left.why for left in found} == expected
    remove(project.results, found)
    gone = {left.path.relative_to("results").as_posix() for left in found}
    assert contents(full.results).keys() == before.keys() - gone
    assert leftovers(project) == [] and engine.run() == 0
    dig_up(full.results)
    assert differing(config) == []
    assert verify(project.config, project.scheme).wrong == ()


def test_no_trainer_finds_a_case_that_is_not_in_the_data_set(full):
    config = full.folder / "config.yaml"
    engine = Engine(config)
    engine.run()
    plant(full.results)  # `a` is rejected
    del full.rows[2]
    refuse_a_case(full)
    full.write()
    engine.run()
    datasets = full.results / "datasets"
    folders = sorted(datasets.glob("nnunet/*Test*/labelsTr"))
    assert len(folders) == 3
    for folder in folders:
        assert [path.name for path in folder.iterdir()] == ["d.nii.gz"]
        assert [path.name for path in folder.with_name("imagesTr").iterdir()] == ["d_0000.nii.gz"]
    maps = {path.name for path in datasets.glob("bids/Test/**/*_dseg.nii.gz")}
    assert maps == {"sub-d_dseg.nii.gz", "sub-c_dseg.nii.gz"}  # that of `c` is a person's
    for path in datasets.glob("monai/datalist*.json"):
        assert [item["case"] for item in json.loads(path.read_text())["training"]] == ["d"]


def test_a_page_of_a_case_that_needs_no_look_is_left_over(full):
    config = full.folder / "config.yaml"
    plant(full.results)
    Engine(config).run()
    pages = Path("results/report/cases")
    assert (pages / "a.html").exists() and leftovers(open_project(config)) == []
    rows = (pages / "status.tsv").read_text().splitlines(keepends=True)
    (pages / "status.tsv").write_text("".join(row for row in rows if not row.startswith("a\t")))
    found = {left.path: left.why for left in leftovers(open_project(config))}
    assert found == {pages / "a.html": Why.PAGE, pages / "a.html.json": Why.PAGE}


def test_pictures_of_before_the_next_run_are_left_over(full):
    config = full.folder / "config.yaml"
    Engine(config).run()
    no_pictures(full)
    found = leftovers(open_project(full.write()))
    assert [left.path.name for left in found] == [f"{case}.png" for case in "abcd"]
    assert {left.why for left in found} == {Why.PICTURE}


def test_the_unrestricted_data_set_made_by_hand_stays_as_long_as_its_cases(full):
    config = full.folder / "config.yaml"
    engine = Engine(config)
    engine.run()
    flow.export(open_project(config), nothing, only_unrestricted=True)
    datasets = full.results / "datasets"
    own = [
        *(full.results / "unrestricted").iterdir(),
        *(datasets / "nnunet/Dataset010_Test_unrestricted").rglob("*.*"),
        *(datasets / "bids/Test_unrestricted").rglob("*.*"),
        *(datasets / "monai/datalist_unrestricted.json", datasets / "left_out_unrestricted.tsv"),
    ]
    own = [path for path in own if not path.is_dir()]
    assert len(own) > 30
    engine.run()
    assert leftovers(open_project(config)) == []
    full.rows.pop()
    engine = Engine(full.write())
    engine.run()
    project = open_project(config)
    found = leftovers(project)
    listed = {left.path.absolute() for left in found if left.why is Why.DATASET}
    assert listed == {path for path in own if path.name not in ("mine",)}
    remove(project.results, found)
    assert differing(config) == []
    assert not (full.results / "unrestricted").exists()


def test_what_lies_behind_a_link_stays(full, tmp_path_factory):
    config = full.folder / "config.yaml"
    engine = Engine(config)
    engine.run()
    elsewhere = tmp_path_factory.mktemp("disk")
    for name in ("segment/tissue", "labels", "datasets/nnunet/Dataset007_Test/labelsTr"):
        shutil.move(full.results / name, elsewhere / Path(name).name)
        (full.results / name).symlink_to(elsewhere / Path(name).name)
    before = contents(elsewhere)
    rename_the_data_set(full)
    drop_a_segmenter(full)
    full.rows.pop()
    full.write()
    project = open_project(config)
    flow.check(config, None, 1, nothing)
    found = leftovers(project)
    assert {left.why for left in found} >= {Why.DATASET, Why.ABSENT}
    images = [full.folder / "images" / f"{case}.nii.gz" for case in "abcd"]
    remove(project.results, found)
    now = contents(elsewhere)
    assert {k: now[k] for k in before if k != "labels/labels.json"} == {
        k: v for k, v in before.items() if k != "labels/labels.json"
    }
    assert all(path.exists() for path in images)  # links to them are gone
    assert not (full.results / "datasets/nnunet/Dataset007_Test/imagesTr").exists()


def test_a_result_of_before_does_not_outlive_a_failure(full, monkeypatch):
    """Its case would be measured, and the manifest written, with labels made from another file."""
    config = full.folder / "config.yaml"
    engine = Engine(config)
    engine.run()
    organs = full.folder / "organs" / "b.nii.gz"
    save(organs, (ct_like() > 100).astype("uint8"))
    from backsplit.segment import label_files as files

    read = files.read_label_map

    def fails(path: Path, *args: object, **kwargs: object) -> object:
        if path.name == organs.name and path.parent.name == "organs":
            raise MemoryError("not today")
        return read(path, *args, **kwargs)

    monkeypatch.setattr(files, "read_label_map", fails)
    engine.run()
    assert "OUT_OF_MEMORY" in (full.results / "segment/organs/00001.tsv").read_text()
    assert not (full.results / "segment/organs/b.nii.gz").exists()
    assert leftovers(open_project(config)) == []
    assert differing(config) == []


def test_the_command_lists_and_removes_when_told(full):
    config = full.folder / "config.yaml"
    Engine(config).run()
    plant(full.results)
    assert full.run("clean").stderr == "[backsplit] clean: leftover files: 0\n"
    assert "leftover" not in full.run("check").stderr + full.run("status").stdout
    del full.rows[1:]
    full.write()
    checked, status = full.run("check"), full.run("status")
    line = checked.stderr.splitlines()[-1]
    assert line.startswith("[backsplit] check: leftover files: ") and "`backsplit clean -c " in line
    assert status.stdout.splitlines()[-1] == line.removeprefix("[backsplit] check: ")
    before = contents(full.results)
    shown = full.run("clean")
    assert contents(full.results) == before
    assert "results/labels/b.nii.gz\tof cases no longer in the table" in shown.stdout
    assert "results/labels/00002.key\tof batches beyond the last" in shown.stdout
    count = len(shown.stdout.splitlines())
    assert f"leftover files: {count} (" in line and f"leftover files: {count} (" in shown.stderr
    with FileLock(full.results / ".locks" / "run.lock"):
        assert "RESULTS_BUSY" in full.run("clean", "--yes", ok=False).stderr
        assert contents(full.results) == before
    done = full.run("clean", "--yes")
    assert done.stdout == shown.stdout and done.stderr.endswith("; removed\n")
    assert len(contents(full.results)) == len(before) - count
    assert full.run("clean").stdout == ""
    dig_up(full.results)


def test_each_folder_is_listed_once(full, monkeypatch):
    config = full.folder / "config.yaml"
    Engine(config).run()
    full.rows.pop()
    rename_a_segmenter(full)
    rename_the_data_set(full)
    no_pictures(full)
    Engine(full.write()).run()
    project = open_project(config)
    listed: Counter[str] = Counter()
    scandir = os.scandir

    def counted(path: object) -> object:
        listed[str(path)] += 1
        return scandir(path)

    monkeypatch.setattr(os, "scandir", counted)
    assert len(leftovers(project)) > 50
    assert "results/labels" in listed and set(listed.values()) == {1}
    assert not any(path.startswith("results/datasets/nnunet/Dataset007_Other") for path in listed)


def test_before_check_has_seen_the_table_nothing_is_removed(full):
    config = full.folder / "config.yaml"
    Engine(config).run()
    before = contents(full.results)
    full.rows.pop()
    full.write()
    assert "TABLE_INVALID" in full.run("clean", "--yes", ok=False).stderr
    assert contents(full.results) == before

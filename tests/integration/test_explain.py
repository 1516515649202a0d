"""`backsplit explain`: what happened to a case, and what its results were made from."""

from __future__ import annotations

import hashlib

import numpy as np

from support.project import save


def test_a_case_answers_where_it_comes_from(project):
    project.add("good")
    project.add("bad")
    project.misplace("bad")
    project.write()
    project.run("check")
    assert "compose: not done yet" in project.run("explain", "good").stdout
    for verb in (["segment", "tissue"], ["compose"], ["measure"], ["judge"]):
        project.run(*verb)
    (project.results / "qc" / "decisions.tsv").write_text(
        "case\tdecision\tnote\ngood\treview\task again\n"
    )
    project.run("judge")
    project.run("export")
    told = project.run("explain", "good").stdout
    image = hashlib.sha256((project.folder / "images" / "good.nii.gz").read_bytes()).hexdigest()
    lesion = hashlib.sha256((project.folder / "lesions" / "good.nii.gz").read_bytes()).hexdigest()
    for line in (
        "check: ok",
        f"  from image: sha256 {image[:12]}",
        f"  from lesion: sha256 {lesion[:12]}",
        "  with backsplit ",
        "lesion(s)",
        "judge: review, by a person: ask again",
        "labelsTr/good.nii.gz",
    ):
        assert line in told, told
    refused = project.run("explain", "bad").stdout
    assert refused.startswith("check: refused (GRID_MISMATCH") and "compose" not in refused
    label = project.results / "labels" / "good.nii.gz"
    save(label, np.zeros((10, 10, 10), np.uint8))
    assert "NOT what was written" in project.run("explain", "good").stdout
    label.unlink()
    assert "is GONE" in project.run("explain", "good").stdout
    assert "TABLE_INVALID" in project.run("explain", "nobody", ok=False).stderr


def test_what_is_left_out_is_listed_with_the_reason(project):
    project.add("kept")
    project.add("thrown")
    project.add("bad")
    project.misplace("bad")
    project.write()
    project.snakemake()
    (project.results / "qc" / "decisions.tsv").write_text(
        "case\tdecision\tnote\nthrown\treject\tmotion\n"
    )
    project.snakemake()
    listed = (project.results / "datasets" / "left_out.tsv").read_text().splitlines()[1:]
    assert [line.split("\t")[:5] for line in listed] == [
        ["thrown", "reject", "", "person", "motion"],
        ["bad", "reject", "GRID_MISMATCH", "rules", ""],
    ]
    folder = project.results / "datasets" / "nnunet" / "Dataset007_Test" / "labelsTr"
    assert [path.name for path in folder.iterdir()] == ["kept.nii.gz"]
    (project.results / "qc" / "decisions.tsv").unlink()  # and it comes back
    project.snakemake()
    assert {path.name for path in folder.iterdir()} == {"kept.nii.gz", "thrown.nii.gz"}


def test_judging_tells_the_numbers_behind_a_case(project):
    project.settings["qc"] = {"cohort": {"fewest": 5}, "review": 0.2}
    for number in range(6):
        project.add(f"c{number}")
    project.write()
    assert "FILE_MISSING" in project.run("judge", "--explain", "c1", ok=False).stderr
    for verb in (["check"], ["segment", "tissue"], ["compose"], ["measure"]):
        project.run(*verb)
    assert "judge: " in project.run("judge").stderr
    before = (project.results / "qc" / "verdicts.tsv").read_bytes()
    told = project.run("judge", "--explain", "c1").stdout.splitlines()
    assert told[0].startswith("c1: ") and "of 6, score " in told[0]
    assert any("comparisons, the least likely first" in line for line in told)
    assert (project.results / "qc" / "verdicts.tsv").read_bytes() == before
    assert "TABLE_INVALID" in project.run("judge", "--explain", "nobody", ok=False).stderr
    project.settings["qc"]["cohort"]["fewest"] = 9
    project.write()
    told = project.run("judge", "--explain", "c1").stdout
    assert "no comparison: fewer than 9 cases were measured" in told

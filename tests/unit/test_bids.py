"""The BIDS data set, held against BIDS's own validator."""

from __future__ import annotations

import datetime
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backsplit.cases.table import Case
from backsplit.config.export import BidsExport, Export
from backsplit.errors import BacksplitError
from backsplit.export.bids_names import members_of
from backsplit.export.files import link_or_copy
from backsplit.flow.engine import forget_incomplete
from backsplit.flow.plan import Plan
from backsplit.flow.project import open_project
from support.examples import examples
from support.project import ct_like, load, save

LABEL = re.compile("[0-9A-Za-z]+")
IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,8}([A-Z]{119})?", fullmatch=True)


def case(name: str, patient: str = "") -> Case:
    return Case(name, 2, {}, {}, {"patient": patient}, Path())


def places(*cases: tuple[str, str]) -> list[tuple[str, str]]:
    return [(m.subject, m.session) for m in members_of([case(*c) for c in cases])]


def test_subjects_are_patients_and_sessions_their_cases():
    assert places(("pt_001", ""), ("pt_002", "")) == [("pt001", ""), ("pt002", "")]
    assert places(("p1_before", "p1"), ("p1_after", "p1"), ("p2", "p2")) == [
        ("p1", "before"), ("p1", "after"), ("p2", "1"),
    ]  # fmt: skip
    assert places(("sub-01_ses-a", "sub-01"), ("sub-02_ses-a", "sub-02")) == [
        ("01", "a"), ("02", "a"),
    ]  # fmt: skip
    # ids of BIDS say whose they are; its folds follow
    assert places(("sub-01_ses-a", ""), ("sub-01_ses-b", "")) == [("01", "a"), ("01", "b")]
    # 10 is no case of patient 1 that is called 0
    assert places(("10", "1"), ("1_x", "1")) == [("1", "10"), ("1", "x")]


def test_names_that_would_become_one_stay_apart():
    (first, _), (second, _), (third, _) = places(("pt-1", ""), ("pt_1", ""), ("pt_2", ""))
    assert {first[:4], second[:4]} == {"pt1x"} and first != second and third == "pt2"
    ((_, one), (_, two)) = places(("p_scan.1", "p"), ("p_scan-1", "p"))
    assert one != two and one.startswith("pscan1x")


@examples(300)
@given(
    st.dictionaries(
        IDS | st.from_regex(r"sub-[0-9]{1,2}_ses-[0-9]{1,2}(_run-[12])?", fullmatch=True),
        st.just("") | st.sampled_from("pqr") | st.text(max_size=4) | st.text("ab", min_size=58),
    ),
)
def test_each_patient_is_one_subject_and_each_case_one_session(table):
    members = members_of([case(name, patient) for name, patient in table.items()])
    assert [m.case for m in members] == list(table)
    spots = {(m.subject.casefold(), m.session.casefold()) for m in members}
    assert len(spots) == len(table)
    assert all(LABEL.fullmatch(m.subject) for m in members)
    assert len({bool(m.session) for m in members}) <= 1
    assert all(LABEL.fullmatch(m.session) for m in members if m.session)
    assert all(len(m.path("anat", "T" * 60, ".nii.gz").name) < 255 for m in members)
    subjects = {m.patient: m.subject for m in members}
    assert all(subjects[m.patient] == m.subject for m in members)
    assert len({s.casefold() for s in subjects.values()}) == len(subjects)


@pytest.mark.parametrize(
    ("channel", "suffix"),
    [
        *(("t1", "T1w"), ("T2w", "T2w"), ("flair", "FLAIR"), ("ct", "ct"), ("PET", "pet")),
        *(("pd", "PDw"), ("adc_map", "adcmap")),
    ],
)
def test_channels_have_the_suffix_that_bids_has_for_them(channel, suffix):
    assert BidsExport().suffix(channel) == suffix


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"suffixes": {"mr": "T1w"}}, "'mr' is not a channel"),
        ({"suffixes": {"t1": "T1w/../x"}}, "is not like"),
        ({"suffixes": {"t1": "FLAIR", "flair": "FLAIR"}}, "t1 and flair have the suffix 'FLAIR'"),
        ({"suffixes": {"t1": "flair"}}, "t1 and flair have the suffix"),
        ({"suffixes": {"t1": "T" * 61}}, "is not like"),
        ({"description": {"Name": "x"}}, "Name is written by the export"),
        ({"description": {"Release": datetime.date(2024, 1, 1)}}, "valid JSON"),
    ],
)
def test_impossible_requests_are_refused_before_any_work(section, said):
    with pytest.raises(ValueError, match=said):
        Export(bids=section).check_channels(["t1", "flair"])


@pytest.fixture
def sessions(project):
    """Two cases of a patient and one of another; MR in two channels, PET, a map, CT."""
    channels = ["t2", "t1ce", "pet", "adc", "ct"]
    for name, patient in (("a_1", "a"), ("a_2", "a"), ("b", "")):
        project.add(name, patient=patient)
        row = project.rows[-1]
        for number, channel in enumerate(channels[:-1]):
            path = f"{channel}/{name}.nii.gz"
            save(project.folder / path, ct_like(number).astype(np.int16))
            row[f"image_{channel}"] = path
    project.settings["dataset"] |= {"channels": channels, "grid": "ct"}
    project.settings["segmenters"]["tissue"]["channel"] = "ct"
    project.settings["compose"] = {"nested": ["bone"]}
    return project


def export(project, **bids):
    project.write(export={"bids": bids})
    for verb in ("check", "segment", "compose", "measure", "judge", "export"):
        project.run(verb, *(["tissue"] if verb == "segment" else []))
    return project.results / "datasets" / "bids" / "Test"


def errors_of(folder: Path) -> list[str]:
    """What BIDS's validator finds wrong in a data set and in its derivatives."""
    command = [Path(sys.executable).parent / "bids-validator-deno", folder, "--format", "json"]
    done = subprocess.run([*command, "--recursive"], capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    parts = (report, *report.get("derivativesSummary", {}).values())
    issues = [issue for part in parts for issue in part["issues"]["issues"]]
    return [f"{i['code']} {i.get('location')}" for i in issues if i["severity"] == "error"]


def test_the_bids_validator_accepts_sessions_channels_and_nested_labels(sessions):
    root = export(sessions, suffixes={"t1ce": "ce-gd_T1w"}, description={"Authors": ["A", "B"]})
    assert errors_of(root) == []
    images = {p.relative_to(root / "sub-a").as_posix() for p in (root / "sub-a").rglob("*.gz")}
    assert images == {
        f"ses-{s}/{kind}/sub-a_ses-{s}_{suffix}.nii.gz"
        for s in "12"
        for kind, suffix in (
            *(("anat", "T2w"), ("anat", "ce-gd_T1w"), ("anat", "adc")),
            *(("pet", "pet"), ("ct", "ct")),
        )
    }
    for name, count in (("backsplit", 3), ("backsplit-nested0", 1), ("backsplit-nested1", 2)):
        folder = root / "derivatives" / name
        table = [line.split("\t") for line in (folder / "dseg.tsv").read_text().splitlines()]
        assert [row[:3] for row in table[:4]] == [
            ["index", "name", "kind"], ["0", "background", "background"],
            ["1", "tumor", "target"], ["2", "cyst", "target"],
        ]  # fmt: skip
        assert table[0][3:] == ["color"]
        assert all(re.fullmatch("#[0-9a-f]{6}", row[3]) for row in table[1:])
        assert len(table) == 3 + count
        for case_id, place in (("a_1", "sub-a/ses-1"), ("b", "sub-b/ses-1")):
            base = f"{place.replace('/', '_')}_dseg"
            labels = load(folder / place / "anat" / f"{base}.nii.gz")
            assert labels.max() < 2 + count
            lesion = load(sessions.folder / "lesions" / f"{case_id}.nii.gz")
            np.testing.assert_array_equal(np.where(labels <= 2, labels, 0), lesion)
            about = json.loads((folder / place / "anat" / f"{base}.json").read_text())
            reference = about["SpatialReference"].removeprefix("bids:raw:")
            image = sessions.folder / "images" / f"{case_id}.nii.gz"
            assert (root / reference).resolve() == image
            assert len(about["Sources"]) == 5
    names = (root / "sourcedata" / "cases.tsv").read_text().splitlines()
    assert [line.rsplit("\t", 1)[0] for line in names[1:]] == [
        "a_1\ta\tsub-a\tses-1", "a_2\ta\tsub-a\tses-2", "b\tb\tsub-b\tses-1",
    ]  # fmt: skip
    assert len({line.rsplit("\t", 1)[1] for line in names[1:3]}) == 1  # one patient, one fold
    for place in (root, root / "derivatives" / "backsplit"):  # the validator can fail, in both
        wrong = place / "sub-b" / "ses-1" / "anat" / "sub-b_wrong.nii.gz"
        wrong.write_bytes(b"")
        assert any(wrong.name in error for error in errors_of(root))
        wrong.unlink()


def test_links_move_with_the_results_and_copies_stand_alone(project, tmp_path):
    project.add("a")
    root = export(project)
    moved = tmp_path / "moved"
    project.results.rename(moved)
    at = Path("derivatives/backsplit/sub-a/anat/sub-a_dseg.nii.gz")
    lesion = load(project.folder / "lesions" / "a.nii.gz")
    linked = load(moved / root.relative_to(project.results) / at)
    np.testing.assert_array_equal(np.where(linked <= 2, linked, 0), lesion)
    moved.rename(project.results)

    root = export(project, mode="copy")
    alone = shutil.move(root, tmp_path / "alone")
    shutil.rmtree(project.folder / "results")
    shutil.rmtree(project.folder / "images")
    assert not any(path.is_symlink() for path in Path(alone).rglob("*"))
    np.testing.assert_array_equal(load(Path(alone) / at), linked)
    assert errors_of(Path(alone)) == []


def due(project) -> bool:
    """Whether a workflow would export again."""
    plan = Plan(open_project(project.folder / "config.yaml"))
    return [path.name for path in forget_incomplete(plan)] == ["dataset.json"]


def test_stale_files_are_removed_and_foreign_files_kept(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    project.add("a")
    project.add("b")
    root = export(project)
    maps = root / "derivatives" / "backsplit"
    theirs = {
        root / "LICENSE": "mine",
        root / "sub-a" / "ct" / "sub-a_ct.json": "{}",
        root / "derivatives" / "backsplit.zip": "x",
        root / "derivatives" / "backsplit-corrected" / "sub-a" / "sub-a_dseg.nii.gz": "better",
        root / "sourcedata" / "ages.tsv": "x",
        maps / "sub-b" / "notes.txt": "look again",
    }
    for path, text in theirs.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    project.run("manifest")
    project.run("verify")
    stray = maps / "sub-a" / "anat" / "sub-a_desc-old_dseg.nii.gz"
    stray.write_text("a trainer would take it")
    assert f"{stray.name} is not in the manifest" in project.run("verify", ok=False).stdout
    stray.unlink()

    (project.results / "qc" / "decisions.tsv").write_text("case\tdecision\tnote\nb\treject\t\n")
    project.run("judge")
    project.run("export")
    assert [p.name for p in root.rglob("*.nii.gz") if "sub-b" in p.name] == []
    assert sorted(p.name for p in root.glob("sub-*")) == ["sub-a"]
    assert (root / "participants.tsv").read_text() == "participant_id\nsub-a\n"
    assert not due(project)

    project.write(export={"bids": None})
    project.run("export")
    assert {path for path in root.rglob("*") if path.is_file()} == set(theirs)
    assert {path: path.read_text() for path in theirs} == theirs
    theirs_too = root / "sub-a" / "ct" / "sub-a_rec-mine_ct.nii.gz"
    theirs_too.write_text("no trainer is sent here any more")
    project.run("manifest")
    project.run("verify")


@pytest.mark.parametrize(
    "gone",
    [
        *("dataset_description.json", "participants.tsv", "sub-a", "derivatives"),
        *("derivatives/backsplit/sub-a", "derivatives/backsplit/dseg.tsv"),
    ],
)
def test_removed_outputs_are_rebuilt(project, monkeypatch, gone):
    monkeypatch.chdir(project.folder)
    project.add("a")
    root = export(project)
    assert not due(project)
    path = root / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    if gone == "dataset_description.json":  # the last to be written
        assert "code FILE_MISSING" in project.run("manifest", ok=False).stderr
    assert due(project)
    project.run("export")
    assert not due(project) and path.exists()


def test_links_become_copies_and_links_again(project):
    project.add("a")
    places = ("sub-a/ct/sub-a_ct.nii.gz", "derivatives/backsplit/sub-a/anat/sub-a_dseg.nii.gz")
    for mode in ("symlink", "copy", "symlink"):
        root = export(project, mode=mode)
        assert [(root / place).is_symlink() for place in places] == [mode == "symlink"] * 2
    assert load(root / places[0]).shape == ct_like().shape


def test_a_data_set_of_no_case_is_valid_too(project):
    project.add("a")
    project.write(export={"bids": {}})
    project.run("check")
    (project.results / "qc").mkdir()
    (project.results / "qc" / "decisions.tsv").write_text("case\tdecision\tnote\na\treject\t\n")
    assert errors_of(export(project)) == []


def test_a_disk_without_links_says_what_to_set(project, monkeypatch, tmp_path):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    (tmp_path / "file").write_text("x")
    monkeypatch.setattr(Path, "symlink_to", refuse)
    with pytest.raises(BacksplitError, match=r"mode to copy.*LINKS_UNSUPPORTED"):
        link_or_copy(tmp_path / "link", tmp_path / "file", link=True)


def test_another_data_set_of_the_same_id_is_named(project):
    project.add("a")
    export(project)
    project.settings["dataset"]["name"] = "Renamed"
    project.write()
    told = project.run("export")
    assert "Dataset007_Test has the same id" in told.stdout + told.stderr

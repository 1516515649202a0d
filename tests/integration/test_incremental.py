"""A rerun ends where a clean run would, whatever was corrected between the two."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from backsplit.errors import Code, RunError
from backsplit.flow.project import open_project
from backsplit.record.verify import verify
from backsplit.store.provenance import file_sha256
from support.incremental import Engine, differing
from support.project import Project, ct_like, load, save


def organs(seed: int = 0) -> np.ndarray:
    labels = np.zeros((12, 20, 24), np.uint8)
    labels[2:10, 5:12, 5:12] = 1
    labels[2:10, 5:12, 13:19] = 2
    labels[1:3, 13:15, 6 + seed : 9 + seed] = 3
    return labels


def lesions(*, apart: bool = True) -> np.ndarray:
    """Two lesions that touch; told apart by value, or one."""
    labels = np.zeros((12, 20, 24), np.uint8)
    labels[4:6, 7:9, 7:9] = 1
    labels[4:6, 7:9, 9:11] = 3 if apart else 1
    labels[6:8, 8:10, 14:16] = 2
    return labels


@pytest.fixture
def small(project, monkeypatch) -> Project:
    """Three cases in batches of two, a segmenter of files and one of bands."""
    monkeypatch.chdir(project.folder)
    for number, case in enumerate("abc"):
        project.add(case, lesion=lesions(apart=False))
        save(project.folder / "organs" / f"{case}.nii.gz", organs(number))
    project.settings["segmenters"] = {
        "organs": {
            "kind": "files",
            "path": "organs/{case}.nii.gz",
            "labels": {"liver": 1, "spleen": 2, "cord": 3},
        },
        "tissue": {"kind": "threshold", "bands": {"fat": [-190, -30], "soft": [-30, 250]}},
    }
    project.settings["structures"] = {
        "liver": "organs/liver",
        "spleen": "organs/spleen",
        "cord": "organs/cord",
        "fat": "tissue/fat",
        "soft": "tissue/soft",
    }
    project.write()
    return project


def reorder(mapping: dict) -> dict:
    return dict(reversed(mapping.items()))


def labels_of(project: Project, case: str) -> np.ndarray:
    return load(project.results / "labels" / f"{case}.nii.gz")


def correct_values(project: Project) -> None:
    labels = project.settings["segmenters"]["organs"]["labels"]
    labels["liver"], labels["spleen"] = 2, 1


def reorder_bands(project: Project) -> None:
    tissue = project.settings["segmenters"]["tissue"]
    tissue["bands"] = reorder(tissue["bands"])


def reorder_bands_and_rename(project: Project) -> None:
    reorder_bands(project)
    structures = project.settings["structures"]
    structures["spinal_cord"] = structures.pop("cord")


def exchange_bands(project: Project) -> None:
    bands = project.settings["segmenters"]["tissue"]["bands"]
    bands["fat"], bands["soft"] = bands["soft"], bands["fat"]


def reorder_bands_and_edit_a_lesion(project: Project) -> None:
    reorder_bands(project)
    edited = lesions(apart=False)
    edited[4:6, 5:7, 7:9] = 1
    save(project.folder / "lesions" / "b.nii.gz", edited)


def reorder_structures_and_add_a_case(project: Project) -> None:
    project.settings["structures"] = reorder(project.settings["structures"])
    project.add("d", lesion=lesions(apart=False))
    save(project.folder / "organs" / "d.nii.gz", organs(1))


def reorder_segmenters(project: Project) -> None:
    project.settings["segmenters"] = reorder(project.settings["segmenters"])


def reorder_targets(project: Project) -> None:
    project.settings["targets"] = reorder(project.settings["targets"])


def other_hosts(project: Project) -> None:
    project.settings["compose"] = {"hosts": {"tumor": ["spleen"]}}


def other_hosts_by_a_group(project: Project) -> None:
    project.settings["compose"] = {
        "groups": {"solid": ["liver", "spleen"]},
        "hosts": {"tumor": ["solid"]},
    }


def a_target_as_a_list(project: Project) -> None:
    project.settings["targets"] = {"tumor": [1, 3], "cyst": 2}


def no_pictures(project: Project) -> None:
    project.settings["run"]["pictures"] = False


def rename_what_a_case_excludes(project: Project) -> None:
    """The doubt about `cord` would be lost: `check` refuses the case."""
    structures = project.settings["structures"]
    structures["spinal_cord"] = structures.pop("cord")


CHANGES = [
    correct_values, reorder_bands, reorder_bands_and_rename, exchange_bands,
    reorder_bands_and_edit_a_lesion, reorder_structures_and_add_a_case, reorder_segmenters,
    reorder_targets, other_hosts, other_hosts_by_a_group, a_target_as_a_list, no_pictures,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_configuration_ends_where_a_clean_run_would(small, change):
    engine = Engine(small.folder / "config.yaml")
    engine.run()
    settings = repr(small.settings)
    before = {**small.settings, **{k: dict(small.settings[k]) for k in ("run", "structures")}}
    segmenters = small.settings["segmenters"]
    before["segmenters"] = {n: {**s} for n, s in segmenters.items()}
    before["segmenters"]["organs"]["labels"] = dict(segmenters["organs"]["labels"])
    before["segmenters"]["tissue"]["bands"] = dict(segmenters["tissue"]["bands"])
    change(small)
    assert repr(small.settings) != settings or len(small.rows) > 3
    config = small.write()
    assert engine.run() > 0
    assert differing(config) == []
    if len(small.rows) == 3:
        small.settings = before
        assert repr(before) == settings
        config = small.write()
        engine.run()
        assert differing(config) == []
    assert engine.run() == 0


def test_corrected_values_of_label_files_move_the_organs(small):
    engine = Engine(small.folder / "config.yaml")
    engine.run()
    first = labels_of(small, "a")
    correct_values(small)
    small.write()
    engine.run()
    second = labels_of(small, "a")
    liver, spleen = 3, 4
    assert (second[first == liver] == spleen).all() and (second[first == spleen] == liver).all()


def test_instances_that_change_in_a_lesion_file_change_its_rows(small):
    small.settings["targets"] = {"tumor": [1, 3], "cyst": 2}
    config = small.write()
    engine = Engine(config)
    engine.run()
    before = labels_of(small, "a")
    save(small.folder / "lesions" / "a.nii.gz", lesions(apart=True))
    engine.run()
    np.testing.assert_array_equal(labels_of(small, "a"), before)  # the label map is the same
    assert differing(config) == []


def test_an_edit_that_keeps_size_and_time_is_seen(small):
    config = small.folder / "config.yaml"
    engine = Engine(config)
    engine.run()
    decisions = small.results / "qc" / "decisions.tsv"
    decisions.write_text("case\tdecision\tnote\na\treject\tx\n")
    engine.run()
    for path, edit in (
        (decisions, lambda: decisions.write_text("case\tdecision\tnote\nb\treject\tx\n")),
        (
            small.folder / "lesions" / "a.nii.gz",
            lambda: (small.folder / "lesions" / "a.nii.gz").write_bytes(
                (small.folder / "lesions" / "b.nii.gz").read_bytes()
            ),
        ),
    ):
        kept = path.stat().st_mtime_ns
        edit()
        os.utime(path, ns=(kept, kept))
        assert engine.run() > 0
        assert differing(config) == []


def test_a_label_file_that_is_mended_is_seen(small):
    config = small.folder / "config.yaml"
    organ = small.folder / "organs" / "a.nii.gz"
    whole = organ.read_bytes()
    save(organ, organs(), (2.0, 2.0, 3.5))  # not on the image's grid
    engine = Engine(config)
    engine.run()
    refused = (small.results / "cases.tsv").read_text()
    assert "GRID_MISMATCH" in refused
    organ.write_bytes(whole)
    engine.run()
    assert "GRID_MISMATCH" not in (small.results / "cases.tsv").read_text()
    assert differing(config) == []


def test_a_slice_that_is_added_to_a_folder_changes_the_key(small, tmp_path):
    folder = small.folder / "series"
    folder.mkdir()
    (folder / "1.dcm").write_bytes(b"one")
    small.rows[0]["image_ct"] = "series"
    from backsplit.flow.plan import Plan

    first = Plan(open_project(small.write())).check_key("00001")
    kept = folder.stat().st_mtime_ns
    (folder / "1.dcm").write_bytes(b"two")
    os.utime(folder, ns=(kept, kept))
    assert Plan(open_project(small.write())).check_key("00001") != first


def test_a_structure_that_a_case_excludes_can_not_be_renamed_in_silence(small):
    small.rows[0]["exclude"] = "cord"
    config = small.write()
    engine = Engine(config)
    engine.run()
    rename_what_a_case_excludes(small)
    small.write()
    engine.run()
    assert "PATTERN_UNMATCHED" in (small.results / "cases.tsv").read_text()


def test_a_map_written_with_other_classes_is_refused_by_hand_too(small):
    config = small.folder / "config.yaml"
    Engine(config).run()
    reorder_bands(small)
    small.write()
    small.run("check")
    small.run("compose")
    table = (small.results / "labels" / "00001.tsv").read_text()
    assert "RESULT_CHANGED" in table and "backsplit segment tissue" in table


@pytest.mark.parametrize("name", ["measures", "lesions"])
def test_a_damaged_table_of_a_batch_is_made_again(small, name):
    config = small.folder / "config.yaml"
    engine = Engine(config)
    engine.run()
    for path in (small.results / "qc" / "tables" / name).glob("*.parquet"):
        path.write_bytes(path.read_bytes()[:-9])
    (small.results / "labels" / "tables" / "00001.jsonl").write_text('{"case": "cut')
    (small.results / "qc" / "verdicts.tsv").unlink()
    engine.run()
    assert differing(config) == []


def test_damage_is_never_taken_into_a_new_data_set(small):
    small.settings["compose"] = {"nested": ["liver", "spleen"]}
    config = small.write()
    engine = Engine(config)
    engine.run()
    nested = small.results / "datasets/nnunet/Dataset009_Test_nested1/labelsTr/a.nii.gz"
    damage(nested)
    add(small, "d")
    engine.run()
    assert differing(config) == []
    labels = small.results / "labels" / "a.nii.gz"
    damage(labels)
    add(small, "e")
    with pytest.raises(RunError) as caught:
        engine.run()
    assert caught.value.code is Code.RESULT_CHANGED and str(labels.name) in caught.value.what
    labels.unlink()
    engine.run()
    assert differing(config) == []
    whole = open_project(config)
    assert verify(whole.config, whole.scheme, deep=True).wrong == ()


def test_verify_looks_a_structure_up_by_name_in_the_segmenters_maps(small):
    config = small.folder / "config.yaml"
    engine = Engine(config)
    engine.run()
    whole = open_project(config)
    found = verify(whole.config, whole.scheme)
    assert found.wrong == () and found.cases == 3
    # liver and spleen exchanged, and noted as if that were right
    path, sidecar = (small.results / "labels" / f"b.{end}" for end in ("nii.gz", "json"))
    labels = load(path)
    liver, spleen = whole.scheme.ids["liver"], whole.scheme.ids["spleen"]
    exchanged = np.where(labels == liver, spleen, np.where(labels == spleen, liver, labels))
    exchanged = exchanged.astype(labels.dtype)
    before = file_sha256(path)
    save(path, exchanged)
    told = verify(whole.config, whole.scheme).wrong
    assert sum("no segmenter labelled them so" in line for line in told) == 2
    sidecar.write_text(sidecar.read_text().replace(before, file_sha256(path)))
    told = verify(whole.config, whole.scheme).wrong
    assert any("names another file than the manifest does" in line for line in told)
    small.run("export")
    small.run("manifest")
    told = small.run("verify", ok=False).stdout.splitlines()
    assert len(told) == 2 and all("no segmenter labelled them so" in line for line in told)
    tissue = small.results / "segment" / "tissue" / "a.json"
    tissue.write_text(tissue.read_text().replace('"1": "fat"', '"1": "soft"'))
    told = small.run("verify", "--deep", ok=False).stdout
    assert "labels/a.nii.gz" in told and "voxels are labelled fat" in told


def test_paths_from_the_working_folder_are_found_again(small):
    """The table lies in a folder of its own; a path of the configuration starts elsewhere."""
    tables = small.folder / "tables"
    tables.mkdir()
    config = small.write()
    rows = (small.folder / "cases.tsv").read_text()
    rows = rows.replace("images/", "../images/").replace("lesions/", "../lesions/")
    (tables / "cases.tsv").write_text(rows)
    config.write_text(config.read_text().replace("cases: cases.tsv", "cases: tables/cases.tsv"))
    Engine(config).run()
    assert small.run("verify").returncode == 0


def add(project: Project, case: str) -> None:
    project.add(case, lesion=lesions(apart=False))
    save(project.folder / "organs" / f"{case}.nii.gz", organs(1))
    project.write()


def damage(path: Path) -> None:
    """Another label map under the same name and with the same description."""
    import nibabel as nib

    volume = nib.load(path)
    data = np.asarray(volume.dataobj)
    nib.save(nib.Nifti1Image(data[::-1].copy(), volume.affine, volume.header), path)


def test_ct_like_images_have_all_bands():
    """The bands above are not empty, or the tests would say nothing of them."""
    image = ct_like()
    assert ((image >= -190) & (image < -30)).sum() > 50
    assert ((image >= -30) & (image < 250)).sum() > 50

"""A lesion file for each target, from the table to the data set, the manifest and the report."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pandas as pd

from support.project import ct_like, load, save

VERBS = ["check", "compose", "measure", "judge", "export", "manifest", "report"]


def drawn(value, z, dtype=np.uint8):
    array = np.zeros(ct_like().shape, dtype)
    array[z : z + 2, 8:11, 9:12] = value
    return array


def with_columns(project):
    """Tumours as 255, cysts as 1/255 beside slices where nobody looked, a kidney in the former."""
    tumor = drawn(255, 3)
    kidney = np.zeros_like(tumor)
    kidney[2:7, 6:13, 7:14] = 1
    for case, cyst in {"a": drawn(7, 4), "b": drawn(7, 8), "c": None}.items():
        project.add(case)
        row = project.rows[-1]
        del row["lesion"]
        save(project.folder / "lesions" / f"{case}_t.nii.gz", np.where(tumor, tumor, kidney))
        row["lesion_tumor"] = f"lesions/{case}_t.nii.gz"
        row["lesion_cyst"] = "none"
        if cyst is not None:
            cyst[10:] = 9
            save(project.folder / "lesions" / f"{case}_c.nii.gz", cyst)
            row["lesion_cyst"] = f"lesions/{case}_c.nii.gz"
    project.rows[2]["lesion_tumor"] = "none"
    kits = {"kind": "files", "path": "{lesion_tumor}", "labels": {"kidney": 1}}
    project.settings |= {
        "targets": {"tumor": 255, "cyst": 2},
        "ignore": 9,
        "segmenters": {"kits": kits, **project.settings["segmenters"]},
        "structures": {"kidney": "kits/kidney", "fat": "tissue/fat", "bone": "tissue/bone"},
    }
    project.write()


def test_lesion_files_of_each_target_from_the_table_to_the_manifest(project):
    with_columns(project)
    project.run("check")
    for segmenter in ("kits", "tissue"):
        project.run("segment", segmenter)
    for verb in VERBS[1:]:
        project.run(verb)
    ids = json.loads((project.results / "labels" / "labels.json").read_text())
    found = {case: load(project.results / "labels" / f"{case}.nii.gz") for case in "abc"}
    tumor = drawn(1, 3) > 0
    for case, cyst in (("a", drawn(1, 4) > 0), ("b", drawn(1, 8) > 0)):
        np.testing.assert_array_equal(found[case] == ids["tumor"], tumor)
        np.testing.assert_array_equal(found[case] == ids["cyst"], cyst & ~tumor)
        assert (found[case][10:] == ids["ignore"]).all()
    assert not np.isin(found["c"], [ids["tumor"], ids["cyst"], ids["kidney"]]).any()
    # where the kidney could be is ignored, fat of the weaker bands included
    status = pd.read_parquet(project.results / "labels" / "status.parquet").set_index("case")
    kidney = status[status["structure"] == "kidney"]["status"]
    assert kidney.to_dict() == {"a": "labelled", "b": "labelled", "c": "unknown"}
    table = pd.read_parquet(project.results / "qc" / "drawn.parquet")
    assert table[["case", "target", "drawn_voxels", "voxels", "taken_voxels"]].values.tolist() == [
        ["a", "tumor", 18, 18, 0], ["a", "cyst", 18, 9, 9],
        ["b", "tumor", 18, 18, 0], ["b", "cyst", 18, 18, 0],
    ]  # fmt: skip
    verified = project.run("verify", "--deep")
    assert "3 label maps checked by name, 0 differ" in verified.stderr
    told = project.run("explain", "a").stdout
    assert "drawn: tumor: 18 voxels, 0.216 ml; cyst: 18 voxels, 0.216 ml" in told
    assert "from lesion_tumor: sha256" in told and "from lesion_cyst: sha256" in told
    manifest = pd.read_parquet(project.results / "manifest.parquet")
    inputs = set(manifest[manifest["kind"] == "input"]["role"])
    assert {"lesion_tumor", "lesion_cyst"} <= inputs
    path = project.folder / "lesions" / "a_c.nii.gz"
    save(path, drawn(7, 5))
    changed = project.run("verify", "--deep", ok=False)
    assert f"{path.name} has changed" in changed.stdout + changed.stderr
    save(path, drawn(7, 4) + np.where(np.arange(12)[:, None, None] >= 10, 9, 0).astype(np.uint8))
    project.run("export", "--only-unrestricted")  # of the kidney nobody knows the licence
    without = load(project.results / "unrestricted" / "a.nii.gz")
    assert (without[tumor] == 1).all() and (without == 2).sum() == 9
    assert (without[10:] == 5).all() and without.max() == 5  # tumor, cyst, fat, bone, ignore
    exported = sorted((project.results / "datasets").rglob("Dataset007_Test/labelsTr/*.nii.gz"))
    assert [int(np.max(nib.load(p).dataobj)) for p in exported] == [ids["ignore"]] * 3

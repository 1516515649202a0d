"""Real soft-tissue sarcomas: PET and MR on grids of their own beside the CT."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from support.project import Project

pytestmark = [pytest.mark.shared, pytest.mark.slow]

CASES = {
    "sts_001_pet": ("STS_001", "PET"),
    "sts_002_pet": ("STS_002", "PET"),
    "sts_002_mr": ("STS_002", "MR_T1"),
}


def centroid_and_ml(path):
    image = sitk.ReadImage(str(path))
    index = np.argwhere(sitk.GetArrayFromImage(image) == 1)[:, ::-1].astype(float)
    mean = [float(v) for v in index.mean(axis=0)]
    ml = len(index) * float(np.prod(image.GetSpacing())) / 1000
    return np.array(image.TransformContinuousIndexToPhysicalPoint(mean)), ml


@pytest.fixture(scope="module")
def sts(tmp_path_factory, shared) -> Project:
    """Lesions drawn on PET or MR, label maps on the CT's grid; one case from DICOM."""
    project = Project(tmp_path_factory.mktemp("sts"))
    data = shared / "data" / "sts"
    project.rows = [
        {
            "case": case,
            "image_ct": str(data / patient / "CT" / "image.nii.gz"),
            "image_other": str(data / patient / modality / "image.nii.gz"),
            "lesion": str(data / patient / modality / "mask.nii.gz"),
        }
        for case, (patient, modality) in CASES.items()
    ]
    with zipfile.ZipFile(data / "STS_002" / "CT_dicom_and_rtstruct.zip") as archive:
        archive.extractall(project.folder)
    (structures,) = project.folder.rglob("RS*.dcm")
    series = next(p.parent for p in project.folder.rglob("*.dcm") if p != structures)
    project.rows.append(
        {
            "case": "sts_002_dicom",
            "image_ct": str(series),
            "image_other": str(data / "STS_002" / "PET" / "image.nii.gz"),
            "lesion": str(structures),
        }
    )
    project.write(
        dataset={"name": "STS", "id": 9, "cases": "cases.tsv", "channels": ["ct", "other"]},
        targets={"gtv": [1, "GTV*"]},
    )
    project.snakemake()
    return project


@pytest.mark.parametrize("case", CASES)
def test_a_lesion_keeps_volume_and_place_across_modalities(sts, shared, case):
    patient, modality = CASES[case]
    before, before_ml = centroid_and_ml(
        shared / "data" / "sts" / patient / modality / "mask.nii.gz"
    )
    after, after_ml = centroid_and_ml(sts.results / "labels" / f"{case}.nii.gz")
    ct = sitk.ReadImage(str(shared / "data" / "sts" / patient / "CT" / "image.nii.gz"))
    labels = sitk.ReadImage(str(sts.results / "labels" / f"{case}.nii.gz"))
    assert labels.GetSize() == ct.GetSize() and labels.GetOrigin() == ct.GetOrigin()
    gap = float(np.linalg.norm(after - before))
    print(f"{case}: {before_ml:.2f} ml -> {after_ml:.2f} ml, {gap:.3f} mm")
    assert after_ml == pytest.approx(before_ml, rel=0.03)
    assert gap < 1.0
    sidecar = json.loads((sts.results / "labels" / f"{case}.json").read_text())
    how = "the image's voxels" if modality == "MR_T1" else "on the image's grid"
    assert any(how in line for line in sidecar["summary"])
    (drawn,) = sidecar["drawn"]
    assert drawn["ml"] == pytest.approx(before_ml, rel=1e-5)
    assert (drawn["voxels"] == drawn["written_voxels"]) == (modality == "MR_T1")


def test_dicom_and_nifti_of_one_patient_give_one_label_map(sts, shared):
    labels = sitk.ReadImage(str(sts.results / "labels" / "sts_002_dicom.nii.gz"))
    given = sitk.ReadImage(str(shared / "data" / "sts" / "STS_002" / "CT" / "mask.nii.gz"))
    a, b = sitk.GetArrayFromImage(labels) == 1, sitk.GetArrayFromImage(given) > 0
    assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.97
    np.testing.assert_allclose(labels.GetOrigin(), given.GetOrigin(), atol=0.01)
    other = sitk.ReadImage(str(sts.results / "labels" / "sts_002_mr.nii.gz"))
    bones = [sitk.GetArrayFromImage(i) == 2 for i in (labels, other)]
    assert 2 * (bones[0] & bones[1]).sum() / (bones[0].sum() + bones[1].sum()) > 0.97


def test_trainers_get_every_channel_on_one_grid(sts):
    verdicts = pd.read_csv(sts.results / "qc" / "verdicts.tsv", sep="\t")
    assert list(verdicts["verdict"]) == ["accept"] * 4
    folder = sts.results / "datasets" / "nnunet" / "Dataset009_STS"
    for case in (*CASES, "sts_002_dicom"):
        images = [
            sitk.ReadImage(str(folder / "imagesTr" / f"{case}_{channel:04d}.nii.gz"))
            for channel in (0, 1)
        ]
        labels = sitk.ReadImage(str(folder / "labelsTr" / f"{case}.nii.gz"))
        assert images[0].GetSize() == images[1].GetSize() == labels.GetSize()
        np.testing.assert_allclose(images[0].GetOrigin(), images[1].GetOrigin(), atol=1e-3)

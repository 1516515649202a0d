"""Small synthetic data sets, laid out as the public ones are downloaded.

Each maker writes a data set below a folder and returns its scans by the name of the case.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from support.project import save
from support.scans import (
    ORIGIN,
    SHAPE,
    Scan,
    ct,
    json_file,
    mr,
    scan,
    volume,
)

KITS = {"kidney": 1, "tumor": 2, "cyst": 3}


def kits23(root: Path) -> dict[str, Scan]:
    scans = {}
    for number in (0, 1, 400):
        case = f"case_{number:05d}"
        lesions = {"tumor": "kidney_left", **({"cyst": "kidney_right"} if number else {})}
        scans[case] = scan(number, lesions)
        folder = root / "dataset" / case
        volume(folder / "imaging.nii.gz", ct(scans[case], number))
        volume(folder / "segmentation.nii.gz", scans[case].labels(KITS))
        volume(folder / "instances" / "kidney_instance-1_annotation-1.nii.gz",
               scans[case].labels(KITS))  # fmt: skip
    return scans


def kits21(root: Path) -> dict[str, Scan]:
    scans = {}
    for number in (0, 7):
        case = f"case_{number:05d}"
        scans[case] = scan(number, {"tumor": "kidney_left", "cyst": "kidney_right"})
        folder = root / "kits21" / "data" / case
        volume(folder / "imaging.nii.gz", ct(scans[case], number))
        for kind in ("AND", "OR", "MAJ"):
            volume(folder / f"aggregated_{kind}_seg.nii.gz", scans[case].labels(KITS))
    return scans


def kits19(root: Path) -> dict[str, Scan]:
    """The last case is of the test set: without labels."""
    scans = {}
    for number in (0, 1, 210):
        case, found = f"case_{number:05d}", scan(number, {"tumor": "kidney_left"})
        volume(root / "data" / case / "imaging.nii.gz", ct(found, number))
        if number < 210:
            volume(root / "data" / case / "segmentation.nii.gz", found.labels(KITS))
            scans[case] = found
    return scans


def panther(root: Path, task: int = 1) -> dict[str, Scan]:
    scans = {}
    for number in (10000, 10001, 10003):
        for part in (1, 2) if task == 1 and number == 10000 else (1,):
            case = f"{number}_{part:04d}" if task == 1 else f"{number}"
            scans[case] = scan(number + part, {"tumor": "pancreas"})
            volume(root / "ImagesTr" / f"{case}_0000.mha", mr(scans[case], number))
            labels = scans[case].labels({"tumor": 1, "pancreas": 2})
            volume(root / "LabelsTr" / f"{case}.mha", labels)
    volume(root / "ImagesTr_unlabeled" / "10000_0003_0000.mha", mr(scan(0, {}), 9))
    return scans


STUDIES = (("0011f3deaf", "03-23-2003-NA-PET-CT Ganzkoerper  primaer mit KM-10445"),
           ("0410759456", "08-22-2003-NA-PET-CT Ganzkoerper  primaer mit KM-20805"),
           ("0410759456", "11-07-2002-NA-PET-CT Ganzkoerper  primaer mit KM-75415"))  # fmt: skip


def suv(scan: Scan) -> np.ndarray:
    image = np.full(SHAPE, 0.5, np.float32)
    image[scan.organs["heart"]] = 4.25
    for mask in scan.lesions.values():
        image[mask] = 9.5
    return image + np.random.default_rng(0).uniform(0, 0.2, SHAPE).astype(np.float32)


def autopet(root: Path) -> dict[str, Scan]:
    scans = {}
    for number, (patient, study) in enumerate(STUDIES):
        case = f"PETCT_{patient}_{study}"
        scans[case] = scan(number, {"lesion": "liver"} if number < 2 else {})
        folder = root / "FDG-PET-CT-Lesions" / f"PETCT_{patient}" / study
        for name in ("CT", "CTres"):
            volume(folder / f"{name}.nii.gz", ct(scans[case], number).astype(np.float32))
        volume(folder / "SUV.nii.gz", suv(scans[case]))
        volume(folder / "PET.nii.gz", 3000 * suv(scans[case]))
        volume(folder / "SEG.nii.gz", scans[case].labels({"lesion": 1}))
    return scans


def autopet3(root: Path) -> dict[str, Scan]:
    names = [f"fdg_{patient}_{study}" for patient, study in STUDIES]
    names += ["psma_95b833d46f153cd2_2018-04-16", "psma_95b833d46f153cd2_2019-12-28"]
    scans = {}
    for number, case in enumerate(names):
        scans[case] = scan(number, {"tumor": "liver"})
        volume(root / "imagesTr" / f"{case}_0000.nii.gz", ct(scans[case], number))
        volume(root / "imagesTr" / f"{case}_0001.nii.gz", suv(scans[case]))
        volume(root / "labelsTr" / f"{case}.nii.gz", scans[case].labels({"tumor": 1}))
    described = {"channel_names": {"0": "CT", "1": "CT"}, "labels": {"background": 0, "tumor": 1}}
    json_file(root / "dataset.json", {**described, "numTraining": 5, "file_ending": ".nii.gz"})
    folds = ([names[0]], names[1:3], names[3:])
    splits = [{"train": [n for n in names if n not in val], "val": list(val)} for val in folds]
    json_file(root / "splits_final.json", splits)
    return scans


def longitudinal(root: Path) -> dict[str, Scan]:
    scans = {}
    for number, patient in enumerate(("006f52e910", "01161aaa0b")):
        for time, folder in (("BL", "inputsTr"), ("FU", "targetsTr")):
            found = scan(number, {"1": "liver", "2": "spleen"})
            scans[f"{patient}_{time}"] = found
            volume(root / "inputsTr" / f"{patient}_{time}_img_00.nii.gz", ct(found, number))
            mask = found.labels({"1": 1, "2": 2})
            volume(root / folder / f"{patient}_{time}_mask_00.nii.gz", mask)
    return scans


MSWAL = {
    "gallstone": 1, "kidney_stone": 2, "liver_tumor": 3, "kidney_tumor": 4, "pancreatic_cancer": 5,
    "liver_cyst": 6, "kidney_cyst": 7,
}  # fmt: skip
PLACES = {
    "gallstone": "gallbladder", "kidney_stone": "kidney_right", "liver_tumor": "liver",
    "kidney_tumor": "kidney_left", "pancreatic_cancer": "pancreas",
}  # fmt: skip


def mswal(root: Path, *, described: bool = False) -> dict[str, Scan]:
    scans = {}
    for number in (1, 2, 3):
        case = f"MSWAL_{number:04d}"
        scans[case] = scan(number, {k: v for n, (k, v) in enumerate(PLACES.items()) if n != number})
        volume(root / "imagesTr" / f"{case}_0000.nii.gz", ct(scans[case], number))
        volume(root / "labelsTr" / f"{case}.nii.gz", scans[case].labels(MSWAL))
    if described:
        labels = {"background": 0, **MSWAL}
        json_file(root / "dataset.json", {"channel_names": {"0": "CT"}, "labels": labels})
    return scans


def lits(root: Path) -> dict[str, Scan]:
    scans = {}
    for number, folder in ((0, "Training Batch 1"), (3, "Training Batch 1"), (30, "Batch 2")):
        case = f"volume-{number}"
        scans[case] = scan(number, {"tumor": "liver"})
        volume(root / folder / f"volume-{number}.nii", ct(scans[case], number))
        labels = scans[case].labels({"liver": 1, "tumor": 2})
        volume(root / folder / f"segmentation-{number}.nii", labels)
    volume(root / "test" / "test-volume-0.nii", ct(scan(9, {}), 9))
    return scans


def isles(root: Path) -> dict[str, Scan]:
    """DWI and ADC on one grid, FLAIR on another, masks without a suffix of BIDS."""
    scans = {}
    for number in (1, 2):
        case = f"sub-strokecase{number:04d}_ses-0001"
        scans[case] = scan(number, {"lesion": "liver"})
        folder = root / case.partition("_")[0] / "ses-0001"
        for kind in ("dwi", "adc"):
            volume(folder / "dwi" / f"{case}_{kind}.nii.gz", mr(scans[case], number))
        flair = mr(scans[case], number)[:, ::2, ::2]
        save(folder / "anat" / f"{case}_flair.nii.gz", flair, (36.0, 36.0, 24.0), ORIGIN)
        mask = root / "derivatives" / folder.relative_to(root) / f"{case}_msk.nii.gz"
        volume(mask, scans[case].labels({"lesion": 1}))
    json_file(root / "dataset_description.json", {"Name": "ISLES22", "BIDSVersion": "1.7.0"})
    return scans


def atlas(root: Path, *, lesions: bool = False) -> dict[str, Scan]:
    scans = {}
    for number in (1, 2):
        case = f"BDMAP_{number:08d}"
        scans[case] = scan(number, {"pancreatic_lesion": "pancreas"} if lesions else {})
        volume(root / case / "ct.nii.gz", ct(scans[case], number))
        volume(root / case / "combined_labels.nii.gz", scans[case].labels({"liver": 1}))
        parts = {**scans[case].organs, **scans[case].lesions}
        for name in ("liver", "spleen", "kidney_left", "kidney_right", *scans[case].lesions):
            mask = parts[name].astype(np.uint8)
            volume(root / case / "segmentations" / f"{name}.nii.gz", mask)
    return scans


def decathlon4d(root: Path) -> dict[str, np.ndarray]:
    """Two channels in one file each; the images, (channel, z, y, x), by case."""
    import nibabel as nib

    images = {}
    for number in (1, 4):
        case = f"PROSTATE_{number:03d}"
        found = scan(number, {"TZ lesion": "liver"})
        images[case] = np.stack([mr(found, number), mr(found, number + 50)])
        path = root / "imagesTr" / f"{case}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        affine = np.diag([-18.0, -18.0, 24.0, 1.0])
        nib.save(nib.Nifti1Image(images[case].transpose(3, 2, 1, 0), affine), path)
        labels = root / "labelsTr" / f"{case}.nii.gz"
        labels.parent.mkdir(exist_ok=True)
        mask = found.labels({"TZ lesion": 1}).transpose(2, 1, 0)
        nib.save(nib.Nifti1Image(mask, affine), labels)
    pairs = [{k: f"./{k}sTr/{case}.nii.gz" for k in ("image", "label")} for case in images]
    described = {"modality": {"0": "T2", "1": "ADC"}, "labels": {"0": "background", "1": "tumor"}}
    json_file(root / "dataset.json", {**described, "training": pairs, "tensorImageSize": "4D"})
    return images

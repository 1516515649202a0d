"""BIDS folders, with lesion masks as groups name them."""

from __future__ import annotations

import pytest

from support.start import (
    section,
    started,
    statuses,
    volume,
)

MASKS = {
    "fmriprep": "sub-{s}/anat/sub-{s}_T1w_label-lesion_roi.nii.gz",
    "manual": "derivatives/labels/sub-{s}/anat/sub-{s}_T1w_lesion-manual.nii.gz",
    "labelmask": "derivatives/m/sub-{s}/anat/sub-{s}_label-L_desc-T1lesion_mask.nii.gz",
    "labelseg": "derivatives/labels/sub-{s}/anat/sub-{s}_T1w_label-lesion_seg.nii.gz",
    "dseg": "derivatives/x/sub-{s}/anat/sub-{s}_desc-stroke_dseg.nii.gz",
    "tumour subjects": "derivatives/x/sub-{s}/anat/sub-{s}_label-lesion_mask.nii.gz",
}


@pytest.mark.parametrize("kind", MASKS)
def test_a_mask_of_bids_is_the_lesion_and_no_image(tmp_path, kind):
    for subject in ("tumor01", "tumor02") if kind == "tumour subjects" else ("01", "02"):
        volume(tmp_path / f"sub-{subject}/anat/sub-{subject}_T1w.nii.gz")
        volume(tmp_path / MASKS[kind].format(s=subject), 1)
        other = f"derivatives/f/sub-{subject}/anat/sub-{subject}_desc-brain_mask.nii.gz"
        volume(tmp_path / other, 1)
    config, report, said = started(tmp_path)
    assert config.dataset.channels == ("t1w",) and statuses(report) == ["ok", "ok"]
    (left,) = section(said, "left out")
    assert "desc-brain_mask" in left
    assert config.export.bids is not None and config.export.bids.suffix("t1w") == "T1w"


def test_what_belongs_together_in_bids_is_not_guessed(tmp_path):
    for subject in ("01", "02"):
        name = f"sub-{subject}_ses-1"
        folder = tmp_path / f"sub-{subject}" / "ses-1"
        for run in ("run-1", "run-2") if subject == "01" else ("run-1",):
            volume(folder / "anat" / f"{name}_{run}_T1w.nii.gz")
        volume(
            tmp_path
            / "derivatives/m"
            / f"sub-{subject}/ses-1/anat/{name}_label-lesion_mask.nii.gz",
            1,
        )
    volume(tmp_path / "sub-01/ses-1/anat/sub-01_ses-1_FLAIR.nii.gz")
    volume(tmp_path / "sub-02/ses-1/func/sub-02_ses-1_bold.nii.gz")
    config, report, said = started(tmp_path)
    assert config.dataset.channels == ("t1w",) and statuses(report) == ["refused", "ok"]
    assert any("sub-01_ses-1 has 2 files for t1w" in line for line in section(said, "to decide"))
    assert any("flair does not exist for every case" in x for x in section(said, "left out"))


def test_a_file_that_holds_a_mask_is_no_image_whatever_it_is_called(tmp_path):
    for subject in ("01", "02"):
        volume(tmp_path / f"sub-{subject}/anat/sub-{subject}_T1w.nii.gz")
        volume(tmp_path / f"sub-{subject}/anat/sub-{subject}_vents.nii.gz", 1, 2)
        mask = f"derivatives/m/sub-{subject}/anat/sub-{subject}_label-lesion_mask.nii.gz"
        volume(tmp_path / mask, 1)
    config, _, said = started(tmp_path)
    assert config.dataset.channels == ("t1w",)
    (left,) = section(said, "left out")
    assert left.startswith("2 files */anat/sub-#_vents.nii.gz: a mask: it holds few values")


def test_images_of_one_suffix_are_channels_by_their_entities(tmp_path):
    for subject in ("01", "02"):
        start = f"sub-{subject}/anat/sub-{subject}"
        for name in ("T1w", "ce-gd_T1w", "FLAIR"):
            volume(tmp_path / f"{start}_{name}.nii.gz")
        volume(tmp_path / f"derivatives/m/{start}_label-lesion_mask.nii.gz", 1)
    config, report, _ = started(tmp_path)
    assert config.dataset.channels == ("flair", "gd_t1w", "t1w") and statuses(report) == ["ok"] * 2
    assert config.export.bids is not None
    assert [config.export.bids.suffix(c) for c in config.dataset.channels] == [
        "FLAIR", "ce-gd_T1w", "T1w",
    ]  # fmt: skip
    names = [path.name for path in report.checked[0].case.images.values()]
    assert names == [f"sub-01_{name}.nii.gz" for name in ("FLAIR", "ce-gd_T1w", "T1w")]

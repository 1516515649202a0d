"""nnU-Net's folders and the Decathlon's, as people have them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from backsplit.errors import BacksplitError, Code
from support import downloads
from support.examples import examples
from support.project import load
from support.start import (
    V1,
    V2,
    codes,
    found_in,
    nnunet_folder,
    section,
    started,
    statuses,
    volume,
)


def test_version_1_is_read(tmp_path):
    config, report, _ = started(nnunet_folder(tmp_path, description=V1))
    assert statuses(report) == ["ok", "ok"]
    assert config.targets == {"tumor": (1,), "edema": (2,), "necrosis": (3,)}


@pytest.mark.parametrize(
    "names",
    [["c_1.nii.gz", "c_2.nii.gz"], ["c_1_0000.nii.gz", "c_2_0000.nii"], ["c_0001.nii.gz"]],
)
def test_names_without_a_channel_and_several_endings(tmp_path, names):
    labels = [name.replace("_0000", "") for name in names]
    _, report, said = started(nnunet_folder(tmp_path, names, labels))
    assert statuses(report) == ["ok"] * len(names)
    assert section(said, "left out") == ["nothing"]


def test_a_number_that_is_a_channel_is_one_though_a_label_has_it_too(tmp_path):
    names = ["c_0000.nii.gz", "c_0001.nii.gz"]
    described = V2 | {"channel_names": {"0": "T1", "1": "T2"}}
    found = found_in(nnunet_folder(tmp_path, names, ["c.nii.gz"], described))
    assert [sorted(case.images) for case in found.cases] == [["t1", "t2"]]


def test_images_and_labels_that_a_description_lists(tmp_path):
    nnunet_folder(tmp_path / "a")
    listed = {
        f"c_{i}": {
            "images": [f"../a/imagesTr/c_{i}_0000.nii.gz"],
            "label": f"labelsTr/c_{i}.nii.gz",
        }
        for i in (1, 2)
    }
    root = nnunet_folder(tmp_path / "b", [], description=V2 | {"dataset": listed})
    _, report, _ = started(root, tmp_path / "mine")
    assert statuses(report) == ["ok", "ok"]


@pytest.mark.parametrize(
    ("images", "labels", "why"),
    [
        (["c_1_0000.nii.gz"], ["c_1.nii.gz", "c_2.nii.gz"], "labels of cases that have no image"),
        (["c_1_0000.nii.gz", "c_1_0001.nii.gz"], ["c_1.nii.gz"], "dataset.json has no channel 1"),
        (["c_1_0000.nii.gz", "c_1_0000.nii"], ["c_1.nii.gz"], "exists too"),
        (["c_1_0000.nii.gz"], ["c_1.nii.gz", "c_1.nii"], "exists too"),
    ],
)
def test_what_is_no_case_is_said(tmp_path, images, labels, why):
    _, report, said = started(nnunet_folder(tmp_path, images, labels))
    assert statuses(report) == ["ok"]
    (line,) = section(said, "left out")
    assert line.startswith("1 file ") and why in line
    written = (tmp_path / "mine" / "config.yaml").read_text()
    assert why in written and why in (tmp_path / "mine" / "README.md").read_text()


def test_an_image_without_a_label_stays_in_the_table(tmp_path):
    _, report, said = started(nnunet_folder(tmp_path, labels=["c_1.nii.gz"]))
    assert statuses(report) == ["ok", "refused"]
    assert any("1 of 2 cases have no lesion file (c_2)" in x for x in section(said, "to decide"))


@pytest.mark.parametrize(
    ("labels", "order", "values"),
    [
        ({"whole": [1, 2, 3], "core": [1, 3], "necrosis": 3}, [2, 1, 3],
         {"whole": 2, "core": 1, "necrosis": 3}),
        ({"kidney": [1, 2, 3], "masses": [2, 3], "tumor": 2}, [1, 3, 2],
         {"kidney": 1, "masses": 3, "tumor": 2}),
    ],
)  # fmt: skip
def test_regions_give_each_value_a_name(tmp_path, labels, order, values):
    described = V2 | {"labels": {"background": 0, **labels}, "regions_class_order": order}
    config, report, said = started(nnunet_folder(tmp_path, description=described))
    given = config.segmenters["given"].labels if "given" in config.segmenters else {}
    assert {n: v for n, (v,) in config.targets.items()} | given == values
    assert set(given) == {"kidney"} & set(labels)
    assert statuses(report) == ["ok", "ok"]
    assert any("labels are regions" in line for line in section(said, "found"))
    text = (tmp_path / "mine" / "config.yaml").read_text()
    wanted = text.replace("#  emit:", "  emit:").replace("#  regions:", "  regions:")
    wanted = wanted.replace("#    ", "    ")
    (tmp_path / "mine" / "config.yaml").write_text(wanted)
    from backsplit.flow.check import check

    regions = check(tmp_path / "mine" / "config.yaml")
    assert codes(regions) == {"WEIGHTS_MISSING"}
    assert regions.project is not None and regions.project.config.compose.emit == "regions"


def test_an_ignore_value_is_ignored(tmp_path):
    described = V2 | {"labels": {"background": 0, "tumor": 1, "edema": 2, "ignore": 3}}
    config, report, said = started(nnunet_folder(tmp_path, description=described))
    assert any(line.startswith("value 3 of the lesion files") for line in section(said, "found"))
    assert config.ignore == (3,) and list(config.targets) == ["tumor", "edema"]
    assert statuses(report) == ["ok", "ok"]


def test_patients_of_brats_are_told_by_the_names(tmp_path):
    names = [f"BraTS-GLI-0000{patient}-00{scan}" for patient in (1, 2) for scan in (0, 1)]
    images = [f"{name}_0000.nii.gz" for name in names]
    root = nnunet_folder(tmp_path, images, [f"{name}.nii.gz" for name in names])
    _, report, _ = started(root)
    patients = [checked.case.patient for checked in report.checked]
    assert patients == ["BraTS-GLI-00001"] * 2 + ["BraTS-GLI-00002"] * 2


def test_two_channels_of_one_name_keep_what_the_name_means(tmp_path):
    names = [f"c_{case}_{channel:04d}.nii.gz" for case in (1, 2) for channel in (0, 1)]
    described = V2 | {"channel_names": {"0": "CT", "1": "CT"}}
    config, report, _ = started(nnunet_folder(tmp_path, names, description=described))
    assert config.dataset.channels == ("ct_0", "ct_1")
    assert [config.export.nnunet.channel_name(c) for c in config.dataset.channels] == ["CT", "CT"]
    assert "tissue" in config.segmenters and statuses(report) == ["ok", "ok"]


def test_files_of_macos_are_no_cases(tmp_path):
    nnunet_folder(tmp_path)
    for path in list(tmp_path.rglob("*.nii.gz")):
        (path.parent / f"._{path.name}").write_bytes(b"resource fork")
    _, report, said = started(tmp_path)
    assert len(report.checked) == 2 and section(said, "left out") == ["nothing"]


@pytest.mark.parametrize(
    "wrong", [{"labels": ["a"]}, {"channel_names": {"CT": 0}}, {"dataset": {"a": {"label": 1}}}]
)
def test_a_description_of_another_shape_has_a_code(tmp_path, wrong):
    nnunet_folder(tmp_path, description=V2 | wrong)
    with pytest.raises(BacksplitError) as caught:
        found_in(tmp_path)
    assert caught.value.code is Code.LAYOUT_UNKNOWN


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.text("0aCT/.", max_size=4),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["0", "1", "labels", "channel_names", "modality", "training", "dataset",
                         "image", "images", "label", "val", "train", "ignore", "c_1"]),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@examples(300)
@given(data=PLAIN, splits=PLAIN)
def test_whatever_a_description_holds_is_read_or_refused(tmp_path_factory, data, splits):
    root = tmp_path_factory.mktemp("data")
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir()
        (root / folder / "c_1.nii.gz").touch()
    (root / "dataset.json").write_text(json.dumps(data))
    (root / "splits_final.json").write_text(json.dumps(splits))
    try:
        found_in(root)
    except BacksplitError as error:
        assert error.code is Code.LAYOUT_UNKNOWN


# the Decathlon


def test_channels_of_one_file_are_split_when_that_is_asked_for(tmp_path):
    images = downloads.decathlon4d(tmp_path / "data")
    with pytest.raises(BacksplitError) as caught:
        started(tmp_path / "data", tmp_path / "mine")
    assert caught.value.code is Code.LAYOUT_UNKNOWN and "--split" in caught.value.remedy
    assert not (tmp_path / "mine").exists()
    config, report, _ = started(tmp_path / "data", tmp_path / "mine", split=True)
    assert config.dataset.channels == ("t2", "adc") and statuses(report) == ["ok", "ok"]
    for checked in report.checked:
        source = sitk.ReadImage(str(tmp_path / "data/imagesTr" / f"{checked.case.id}.nii.gz"))
        for number, path in enumerate(checked.case.images.values()):
            written = sitk.ReadImage(str(path))
            np.testing.assert_array_equal(load(path), images[checked.case.id][number])
            assert written.GetSize() == source.GetSize()[:3]
            np.testing.assert_allclose(written.GetSpacing(), source.GetSpacing()[:3])
            np.testing.assert_allclose(written.GetOrigin(), source.GetOrigin()[:3])


def test_a_file_with_another_number_of_volumes_is_refused(tmp_path):
    downloads.decathlon4d(tmp_path)
    volume(tmp_path / "imagesTr" / "PROSTATE_004.nii.gz")
    with pytest.raises(BacksplitError) as caught:
        started(tmp_path, split=True)
    assert "PROSTATE_004.nii.gz cannot be split" in caught.value.what


def test_a_single_channel_needs_no_splitting(tmp_path):
    pairs = [{k: f"./{k}sTr/p_{i}.nii.gz" for k in ("image", "label")} for i in (1, 2)]
    described = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "pancreas",
                 "2": "cancer"}, "training": pairs}  # fmt: skip
    nnunet_folder(tmp_path, ["p_1.nii.gz", "p_2.nii.gz"], ["p_1.nii.gz", "p_2.nii.gz"], described,
                  (1, 2))  # fmt: skip
    config, report, said = started(tmp_path)
    assert "(msd)" in said[0] and config.targets == {"cancer": (2,)}
    assert (
        config.structures["pancreas"].of == ("given/pancreas",) and statuses(report) == ["ok"] * 2
    )

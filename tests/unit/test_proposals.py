"""What is proposed: anatomy for the part of the body, lesions by name, and no mask as an image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from totalsegmentator.registry import get_task_classes

from backsplit.config.model import Config
from backsplit.flow.project import Project
from backsplit.start.anatomy import STRUCTURES, structures_for
from backsplit.start.found import Found, FoundCase, Given
from backsplit.start.names import channel_of, name_of
from backsplit.start.proposal import Summary, Where, config_text, propose
from backsplit.start.region import Part, View, view_of
from support.examples import examples
from support.project import ct_like, save
from support.start import V2, by_patterns, codes, nnunet_folder, section, started

ABDOMEN = {"liver", "spleen", "kidneys", "pancreas", "stomach", "bowel", "gallbladder", "adrenals"}


def of_size(root: Path, mm: tuple[float, float, float], direction=(1, 0, 0, 0, 1, 0, 0, 0, 1)):
    """What is found in a folder with an image of that size, in mm along its own axes."""
    array = ct_like()
    spacing = tuple(side / count for side, count in zip(mm, array.shape[::-1], strict=True))
    path = save(root / "a.nii.gz", array, spacing, direction=direction)
    return Found("x", [FoundCase("a", {"mr": path}, None)], ["mr"], {"lesion": 1})


def test_where_nothing_else_tells_the_part_of_the_body_drawn_anatomy_does(tmp_path):
    drawn = {"organs": Given("{case}.nii.gz", ["brainstem", "parotid_left", "Larynx"])}
    of_head = of_size(tmp_path, (500, 280, 320))
    assert view_of(of_head, tmp_path).parts == [Part.TRUNK]
    view = view_of(replace(of_head, given=drawn), tmp_path)
    assert view.parts == [Part.HEAD_NECK] and view.sure
    assert view.why == "names of drawn anatomy: larynx, parotid"
    named = replace(of_head, given=drawn, labels={"prostate_tumor": 1})
    assert view_of(named, tmp_path).parts == [Part.PELVIS]


@pytest.mark.parametrize(
    ("mm", "direction", "part"),
    [
        ((240, 240, 155), (1, 0, 0, 0, 1, 0, 0, 0, 1), Part.HEAD),
        ((500, 500, 1100), (1, 0, 0, 0, 1, 0, 0, 0, 1), Part.WHOLE_BODY),
        ((1100, 500, 500), (0, 0, 1, 0, 1, 0, -1, 0, 0), Part.WHOLE_BODY),  # sagittal slices
        ((380, 300, 250), (1, 0, 0, 0, 1, 0, 0, 0, 1), Part.TRUNK),
        ((180, 180, 60), (1, 0, 0, 0, 1, 0, 0, 0, 1), Part.TRUNK),
    ],
)
def test_the_size_of_images_tells_the_part_of_the_body(tmp_path, mm, direction, part):
    view = view_of(of_size(tmp_path / "d", mm, direction), tmp_path / "d")
    assert list(view.parts) == [part] and view.sure == (part is Part.WHOLE_BODY)


@pytest.mark.parametrize(
    ("folder", "labels", "parts"),
    [
        ("BraTS2023", {"lesion": 1}, [Part.HEAD]),
        ("Breast_MR", {"lesion": 1}, [Part.BREAST]),
        ("x", {"prostate_lesion": 1}, [Part.PELVIS]),
        ("x", {"liver": 1, "tumor": 2}, [Part.ABDOMEN]),
        ("HECKTOR", {"GTVp": 1, "GTVn": 2}, [Part.HEAD_NECK]),
        ("x", {"lung_nodule": 1, "liver_tumor": 2}, [Part.THORAX, Part.ABDOMEN]),
        ("liver", {"brain_mets": 1}, [Part.HEAD]),  # what is drawn counts more than the folder
    ],
)
def test_names_tell_the_part_of_the_body(tmp_path, folder, labels, parts):
    found = Found("x", [], ["mr"], labels)
    assert list(view_of(found, tmp_path / folder).parts) == parts


@pytest.mark.parametrize("part", list(Part))
@pytest.mark.parametrize("mr", [False, True])
def test_each_part_of_the_body_has_structures_that_totalsegmentator_labels(part, mr):
    classes = get_task_classes("total_mr" if mr else "total").values()
    structures = structures_for([part], mr=mr, taken=[])
    assert structures
    text = {
        "dataset": {"name": "X", "id": 1, "cases": "c.tsv", "channels": ["ct"]},
        "targets": {"t": 1},
        "segmenters": {"organs": {"kind": "files", "path": "{case}", "labels": dict(
            zip(classes, range(1, 999), strict=False))}},
        "structures": {n: [f"organs/{c}" for c in some] for n, some in structures.items()},
        "compose": {"segmenter_lesions": {} if mr else {"organs/kidney_cyst_*": "background"}},
    }  # fmt: skip
    assert not Project(Path("x.yaml"), Config.model_validate(text)).resolved.problems
    if part in (Part.HEAD, Part.HEAD_NECK, Part.BREAST):
        assert not (ABDOMEN - {"liver"}) & set(structures)
    if part is Part.HEAD:
        assert set(structures) == ({"brain"} if mr else {"brain", "skull"})


def test_every_structure_is_proposed_somewhere():
    parts = {part for structure in STRUCTURES for part in structure.parts.split()}
    assert parts == set(Part)


def test_a_brain_on_mr_gets_the_brain_alone(tmp_path):
    root = tmp_path / "data"
    for case in ("a", "b"):
        save(root / "imagesTr" / f"{case}_0000.nii.gz", ct_like() + 1100, (10.0, 12.0, 15.0))
        labels = np.zeros(ct_like().shape, np.uint8)
        labels[5:7, 8:10, 8:10] = 1
        save(root / "labelsTr" / f"{case}.nii.gz", labels, (10.0, 12.0, 15.0))
    described = V2 | {"channel_names": {"0": "T1w"}, "labels": {"background": 0, "lesion": 1}}
    config, report, _ = started(nnunet_folder(root, [], [], described))
    assert {n: s.of for n, s in config.structures.items()} == {"brain": ("organs/brain",)}
    assert config.segmenters["organs"].task == "total_mr" and "tissue" not in config.segmenters
    assert "240 x 240 x 180 mm" in (root / "mine" / "config.yaml").read_text()
    assert codes(report) == {"WEIGHTS_MISSING"}


def test_what_was_drawn_stands_alone(tmp_path):
    labels = {"background": 0, "Right_kidney": 1, "tumor": 2, "Pancreas": 3}
    config, report, said = started(nnunet_folder(tmp_path, description=V2 | {"labels": labels}))
    assert config.structures["Right_kidney"].of == ("given/Right_kidney",)
    assert config.structures["kidney_left"].of == ("organs/kidney_left",)
    assert config.structures["Pancreas"].of == ("given/Pancreas",)
    sources = [source for some in config.structures.values() for source in some.of]
    assert not {"organs/kidney_right", "organs/pancreas"} & set(sources)
    assert config.compose.segmenter_lesions == {
        "organs/kidney_cyst_right": "background", "organs/kidney_cyst_left": "kidney_left",
    }  # fmt: skip
    assert any("licence of the drawn anatomy" in line for line in section(said, "to decide"))
    assert codes(report) == {"WEIGHTS_MISSING"}


def test_labels_that_are_all_organs_become_targets_and_no_structures(tmp_path):
    labels = {"background": 0, "Spleen": 1, "kidney": 2, "Liver": 3}
    config, report, said = started(nnunet_folder(tmp_path, description=V2 | {"labels": labels}))
    assert list(config.targets) == ["Spleen", "kidney", "Liver"]
    assert not {"spleen", "kidneys", "liver"} & set(config.structures)
    assert "pancreas" in config.structures and codes(report) == {"WEIGHTS_MISSING"}
    assert "no label is called a lesion: all of them are targets" in section(said, "to decide")


def test_names_that_collide_are_numbered_and_unclear_ones_are_said(tmp_path):
    labels = {"background": 0, "肝": 1, "肿瘤": 2, "lesion": 3, "fat": 4}
    description = V2 | {"labels": labels}
    config, report, said = started(nnunet_folder(tmp_path, description=description))
    assert config.targets == {"lesion": (3,)}
    assert config.segmenters["given"].labels == {"label": 1, "label_2": 2, "fat": 4}
    assert config.structures["fat"].of == ("given/fat",)
    unclear = "treated as anatomy although the name does not say so: label, label_2"
    assert unclear in section(said, "to decide")
    assert codes(report) == {"WEIGHTS_MISSING"}


def test_an_image_that_holds_few_whole_numbers_is_said_to_be_a_mask(tmp_path):
    for case in ("a", "b"):
        save(tmp_path / case / "ct.nii.gz", ct_like())
        organs = np.zeros(ct_like().shape, np.uint8)
        organs[2:6, 5:9, 5:9] = 3
        save(tmp_path / case / "other.nii.gz", organs)
    images = {
        "ct": "{case}/ct.nii.gz",
        "t1": "{case}/other.nii.gz",
        "brain_mask": "{case}/ct.nii.gz",
    }
    _, _, said = by_patterns(tmp_path, images)
    lines = [line for line in section(said, "to decide") if "mask" in line]
    assert (
        len(lines) == 2 and "the channel t1 looks like a mask: other.nii.gz holds 0, 3" in lines[0]
    )
    assert "brain_mask is named like a mask" in lines[1]


@pytest.mark.parametrize("channels", [["CT"], ["ct", "pet"], ["t1", "t2"], ["x"]])
def test_the_segmenter_follows_the_modality(channels):
    found = Found("x", [], channels, {"lesion": 1})
    proposal = propose(found, View([Part.TRUNK], ""))
    assert proposal.task == ("total_mr" if channels[0] == "t1" else "total")
    assert proposal.on_ct == (channels[0].lower() == "ct")
    assert ("fat" in proposal.structures) == proposal.on_ct


def test_a_ct_is_one_for_nnunet_whatever_its_channel_is_called():
    found = Found("x", [], ["ct_venous", "pet"], {"lesion": 1}, channel_names={"pet": "CT"})
    proposal = propose(found, View([Part.ABDOMEN], ""))
    assert proposal.on_ct and proposal.channel_names == {"ct_venous": "CT", "pet": "CT"}


@examples()
@given(
    st.text(max_size=30),
    st.lists(st.text(max_size=12), min_size=1, max_size=4, unique=True),
    st.sampled_from(list(Part)),
)
def test_proposals_are_valid_yaml_for_any_names(name, labels, part):
    wanted = {name_of(label): i + 1 for i, label in enumerate(labels)}
    channels = list(dict.fromkeys(channel_of(label) for label in labels))
    found = Found("x", [], channels, wanted)
    view = View([part], f"because: {name}")
    summary = Summary([f"a note: {label}" for label in labels], [name], [f"decide {name}"])
    where = Where(name, 9, "mine/cases.tsv", "mine/results")
    text = config_text(found, propose(found, view), view, summary, where)
    data = yaml.safe_load(text)
    assert data["dataset"] == data["dataset"] | {"name": name, "channels": channels}
    given_ = data["segmenters"].get("given", {}).get("labels", {})
    assert data["targets"] | given_ == wanted

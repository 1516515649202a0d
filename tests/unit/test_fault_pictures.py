"""The picture beside a fault of the data set: the structure, in a typical case."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from backsplit.cases.table import Case
from backsplit.report.dataset_page import write_report
from backsplit.report.fault_pictures import PICTURES_MOST, draw_faults, examples, picture_of
from backsplit.report.pictures.key import Key
from backsplit.report.read import read_flags
from backsplit.volume import write_labels
from support.composing import grid_of
from support.report import FLAGS, Page, make_config, make_results, make_scheme, write_table

FAULT = ["", "kidney", "systematic_lopsided", "review", "9 of 9", "both", "kidney lacks a part"]


@pytest.fixture
def config(tmp_path):
    """Results with a fault of which `large` is an example, and the volumes of that case."""
    config = make_config(tmp_path)
    results = config.results
    make_results(config.run.results)
    _flag(results, [*FAULT, "large"])
    grid = grid_of((20, 30, 40))
    labels = np.zeros((20, 30, 40), np.uint8)
    labels[5:12, 10:20, 4:9] = 3  # on the patient's right
    image = np.where(labels, 60, -20).astype(np.int16)
    write_labels(tmp_path / "b.nii.gz", image, grid)
    write_labels(results.labels.output("large"), labels, grid)
    return config


def _flag(results, *rows):
    write_table(results.flags, [*FLAGS, "example"], list(rows))


def case(config):
    folder = config.dataset.cases.parent
    return Case("large", 3, {"ct": folder / "b.nii.gz"}, {}, {}, folder)


def test_a_fault_has_a_picture_of_its_structure_in_its_case(config):
    write_report(config, make_scheme(), lambda _: [case(config)])
    page = Page(config.results.report.read_text("utf-8"))
    (shown,) = [a for t, a in page.tags if t == "img" and "kidney of large" in a.get("alt", "")]
    picture = Image.open(io.BytesIO(base64.b64decode(shown["src"].partition(",")[2])))
    assert picture.size == (int(shown["width"]), int(shown["height"]))
    pixels = np.asarray(picture.convert("RGB"), float)
    assert pixels.std(axis=2).max() > 20  # something is in colour
    assert "kidney in large" in " ".join(page.text.split())
    section = config.results.report.read_text("utf-8").split('<section id="flags">')[1]
    assert 'href="#case-large"' in section.split("</section>")[0]


def test_all_of_a_structure_is_seen_the_patient_s_right_on_the_left():
    """Two parts at different depths: no single slice has both."""
    mask = np.zeros((40, 40, 60), bool)
    mask[5:15, 5:9, 5:15] = mask[25:35, 30:34, 45:50] = True
    image = np.where(mask, 60, -20).astype(np.int16)
    key = Key.of(("background", "kidney"), 0)
    pixels = np.asarray(picture_of(image, mask, grid_of(mask.shape), 1, key), float)
    coloured = pixels.std(axis=2) > 15
    front = coloured[:, : coloured.shape[1] // 2]
    columns = np.flatnonzero(front.any(axis=0))
    assert np.diff(columns).max() > 20  # two parts beside each other, a gap between
    right = front[:, : columns[np.argmax(np.diff(columns))] + 1]
    left = front[:, columns[np.argmax(np.diff(columns))] + 1 :]
    # low x is the patient's right, and the smaller part, on the left, is the higher one
    assert right.sum() > left.sum()
    assert np.argwhere(left)[:, 0].mean() < np.argwhere(right)[:, 0].mean()


@pytest.mark.parametrize("lost", ["image", "labels", "structure", "case"])
def test_without_its_volumes_a_fault_names_the_case(config, lost):
    results, cases = config.results, [case(config)]
    if lost == "image":
        case(config).images["ct"].unlink()
    elif lost == "labels":
        results.labels.output("large").write_bytes(b"no label map")
    elif lost == "structure":
        _flag(results, ["", "liver", *FAULT[2:], "large"])
    else:
        cases = []
    write_report(config, make_scheme(), lambda _: cases)
    page = config.results.report.read_text("utf-8")
    assert "<figure>" not in page and "Look at" in page.split('<section id="flags">')[1]


def test_a_segmenter_s_class_is_shown_as_its_structure(config):
    _flag(config.results, ["", "given/kidney", *FAULT[2:], "large"])
    flags = examples(read_flags(config.results))
    (picture,) = draw_faults(config, make_scheme(), [case(config)], flags).values()
    assert (picture.structure, picture.case) == ("kidney", "large")


def test_only_the_first_faults_have_pictures_and_flags_of_cases_none(config):
    rows = [[*FAULT, "large"]] * (PICTURES_MOST + 3)
    _flag(config.results, ["large", *FAULT[1:], ""], [*FAULT, ""], *rows)
    assert len(examples(read_flags(config.results))) == PICTURES_MOST


def test_flags_of_an_earlier_version_have_no_example(config):
    write_table(config.results.flags, FLAGS, [FAULT])
    assert [flag.example for flag in read_flags(config.results)] == [""]

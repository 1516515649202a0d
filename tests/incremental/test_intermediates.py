"""A file of the results that is gone or damaged: the next run makes it again, or says so."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from backsplit.errors import BacksplitError
from backsplit.flow.project import open_project
from backsplit.record.verify import verify
from support.tiny import Tiny

pytestmark = pytest.mark.incremental
NNUNET, BIDS = "datasets/nnunet/Dataset007_Tiny", "datasets/bids/Tiny"
FILES = {
    "check table": "check/00001.tsv",
    "check key": "check/00001.key",
    "cases": "cases.tsv",
    "label ids": "labels/labels.json",
    "configuration": "config.json",
    "segment map": "segment/organs/a.nii.gz",
    "segment sidecar": "segment/organs/a.json",
    "segment table": "segment/organs/00001.tsv",
    "segment key": "segment/organs/00001.key",
    "label map": "labels/a.nii.gz",
    "label sidecar": "labels/a.json",
    "label table": "labels/00001.tsv",
    "statuses of a batch": "labels/tables/00001.jsonl",
    "statuses": "labels/status.parquet",
    "rows": "qc/cases/a.rows.json.gz",
    "rows' sidecar": "qc/cases/a.json",
    "measure table": "qc/cases/00001.tsv",
    "measures of a batch": "qc/tables/measures/00001.parquet",
    "lesions of a batch": "qc/tables/lesions/00001.parquet",
    "agreement of a batch": "qc/tables/agreement/00001.parquet",
    "measures": "qc/measures.parquet",
    "lesions": "qc/lesions.parquet",
    "flags": "qc/flags.tsv",
    "burden": "qc/burden.tsv",
    "verdicts": "qc/verdicts.tsv",
    "converted": "datasets/converted/Dataset009_Tiny_nested1.json",
    "export key": "datasets/export.key",
    "left out": "datasets/left_out.tsv",
    "dataset.json": f"{NNUNET}/dataset.json",
    "nested dataset.json": "datasets/nnunet/Dataset009_Tiny_nested1/dataset.json",
    "splits": f"{NNUNET}/splits_final.json",
    "names for ITK-SNAP": f"{NNUNET}/labels.label",
    "image of the data set": f"{NNUNET}/imagesTr/a_0000.nii.gz",
    "label of the data set": f"{NNUNET}/labelsTr/a.nii.gz",
    "nested label": "datasets/nnunet/Dataset009_Tiny_nested1/labelsTr/a.nii.gz",
    "MONAI list": "datasets/monai/datalist.json",
    "BIDS description": f"{BIDS}/dataset_description.json",
    "BIDS label": f"{BIDS}/derivatives/backsplit/sub-p0/anat/sub-p0_dseg.nii.gz",
    "BIDS record": f"{BIDS}/sourcedata/files.txt",
    "segmentation": "datasets/segmentations/Tiny/a.seg.nrrd",
    "note of segmentations": "datasets/segmentations/Tiny/files.json",
    "table of segmentations": "datasets/segmentations/Tiny/left_out.tsv",
    "manifest": "manifest.json",
    "manifest table": "manifest.parquet",
    "page": "report/cases/b.html",
    "page's sidecar": "report/cases/b.html.json",
    "page table": "report/cases/status.tsv",
    "report": "report/index.html",
    "figure": "report/figures/distributions.svg",
    "lesion table": "report/tables/lesions.tsv",
}


ONLY_VERIFIED = {"BIDS label"}
"""Looking at each file of each subject would take a listing a case at each start."""


@pytest.mark.parametrize("what", sorted(FILES.keys() - ONLY_VERIFIED))
def test_a_file_that_is_gone_is_made_again(tiny: Tiny, what: str):
    path = tiny.results / FILES[what]
    path.unlink()
    tiny.run()
    assert tiny.differing_from_first() == []


@pytest.mark.parametrize("what", sorted(FILES.keys() - ONLY_VERIFIED))
def test_a_damaged_file_is_named_or_harmless_and_made_again_once_removed(tiny: Tiny, what: str):
    """A run over a damaged file ends well or says what is wrong; it never ends in a traceback."""
    path = tiny.results / FILES[what]
    damage(path)
    with suppress(BacksplitError):
        tiny.run()
    path.unlink(missing_ok=True)
    tiny.run()
    assert tiny.differing_from_first() == []


@pytest.mark.parametrize("what", [name for name in FILES if name.endswith("of a batch")])
def test_a_table_of_a_batch_that_was_cut_off_is_made_again_where_it_is_read(tiny: Tiny, what: str):
    damage(tiny.results / FILES[what])
    tiny.new_case("d", 3)
    tiny.run()
    assert tiny.differing() == []


VERIFIED = (
    *("segment map", "label map", "cases", "label ids", "statuses", "measures", "lesions"),
    *("flags", "burden", "verdicts", "left out", "dataset.json", "nested dataset.json", "splits"),
    *("label of the data set", "nested label", "MONAI list", "BIDS description", "BIDS label"),
    *("segmentation", "note of segmentations", "table of segmentations"),
)


@pytest.mark.parametrize("what", VERIFIED)
def test_verify_names_a_damaged_file(tiny: Tiny, what: str):
    damage(tiny.results / FILES[what])
    project = open_project(tiny.folder / "config.yaml")
    found = verify(project.config, project.scheme)
    assert any(FILES[what] in wrong for wrong in found.wrong)


def damage(path: Path) -> None:
    """Cut a file in half; a link becomes a file, because it leads to what a person gave."""
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[: len(data) // 2])

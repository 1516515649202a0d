"""The methods text: true to what the results say, and every work that it cites has its BibTeX."""

from __future__ import annotations

import re

import pytest

from backsplit.config.model import Config
from backsplit.report.dataset_page import write_report
from backsplit.report.gather import gather
from backsplit.report.methods import methods
from backsplit.scheme.scheme import Scheme
from support.report import make_config, make_results, make_scheme
from support.sidecars import segmented, write


def entries(bibtex: str) -> list[str]:
    """Keys of entries whose braces close."""
    keys = []
    for entry in re.split(r"\n\n(?=@)", bibtex.strip()):
        assert entry.count("{") == entry.count("}") and entry.endswith("}"), entry
        assert all(f"{field} = " in entry for field in ("title", "author", "year")), entry
        keys.append(re.match(r"@\w+\{(\w+),", entry)[1])
    return keys


@pytest.fixture
def results(tmp_path):
    make_results(tmp_path / "results")
    return tmp_path


def test_who_labelled_what_with_which_version_in_how_many_cases(results):
    found = methods(config := make_config(results), gather(config, make_scheme()))
    text = " ".join(found.paragraphs)
    assert "of 3 cases with labels of tumor and cyst" in text  # `broken` was not measured
    assert "TotalSegmentator 9.8.7 \\cite{totalsegmentator} (task total)" in text
    assert "labelled liver." in text and "Existing label files (given) provided kidney." in text
    assert "of 7 cases, 2 were accepted, 1 was marked for review, 1 was rejected" in text
    assert "3 were refused because of their files" in text and "0 cases were exported" in text
    assert "given: unknown (commercial use: unknown)" in text
    assert text.count("precedence over") == 1 and "organs and then given" in text
    cited = set(re.findall(r"\\cite\{(\w+)\}", text))
    assert (
        set(entries(found.bibtex))
        == cited
        == {"backsplit", "snakemake", "totalsegmentator", "nnunet"}
    )


def test_other_kinds_and_an_exception_have_their_own_sentences(results):
    data = make_config(results).model_dump(mode="json", by_alias=True)
    data["segmenters"] = {
        "mr": {"kind": "totalsegmentator", "task": "total_mr", "fast": True},
        "net": {
            "kind": "nnunet",
            "model": "m/Dataset901_HN/T__P__3d",
            "folds": [0, 1],
            "licence": "CC-BY-4.0",
            "commercial": True,
        },
        "tissue": {"kind": "threshold", "bands": {"fat": [-190, -30], "bone": [250, None]}},
    }
    data["structures"] = {
        "liver": "mr/liver",
        "cord": "net/cord",
        "fat": "tissue/fat",
        "spleen": {"of": ["mr/spleen", "net/spleen"], "by": "union", "disagree": "ignore"},
        "aorta": ["net/aorta", "mr/aorta"],
    }
    data["compose"]["except"] = [{"winner": "cord", "loser": "tumor"}]
    data["compose"]["repair"] = {"rim_mm": 2, "holes": True, "over": ["fat"]}
    data["compose"]["segmenter_lesions"] = {
        "mr/cyst": "liver",
        "net/tumour": "ignore",
        "net/stone": "ignore",
        "none/cyst": "liver",
    }
    config = Config.model_validate(data)
    made_from = {"versions": {"nnunetv2": "2.8"}, "weights": {"a/checkpoint_final.pth": "cd" * 32}}
    write(config.results.segment("net").path, segmented("small", made_from=made_from))
    scheme = make_scheme()
    # a licence of an nnU-Net model is what its section says: nothing of the model is opened
    text = " ".join(methods(config, gather(config, scheme)).paragraphs)
    assert "\\cite{totalsegmentator_mri} (task total_mr, 3 mm)" in text
    assert "The trained model Dataset901_HN/T__P__3d of nnU-Net 2.8" in text
    assert f"(folds 0 and 1, checkpoint SHA-256 {('cd' * 6)}) labelled" in text
    assert "(fat -190 to -30; bone from 250)" in text
    assert "spleen is the union of what mr and net labelled; voxels on which they dis" in text
    assert "aorta was taken from the first of net and mr that could label it in the case." in text
    assert "As an exception, cord had precedence over tumor." in text
    assert "themselves were assigned to liver (mr/cyst) and set to an ignore label (net/t" in text
    assert "(net/tumour and net/stone)." in text and "none/cyst" not in text
    assert "Voxels that were unlabelled or fat, within 2 mm of both a lesion and the organ" in text
    assert "Cavities of voxels that were unlabelled or fat, within 2 mm of a lesion and enc" in text
    assert "Licences of the labels: mr: " in text and "tissue: none" not in text
    assert "net: CC-BY-4.0 (commercial use: yes)" in text
    data["segmenters"] = {"tissue": data["segmenters"]["tissue"]}  # whose labels need no licence
    data["structures"], data["compose"] = {"fat": "tissue/fat"}, {}
    data["export"] = {"bids": {}, "segmentations": "seg_nrrd"}
    scheme = Scheme(
        scheme.targets, ("background", "tumor", "cyst", "fat"), {"tissue": {"fat": "fat"}}
    )
    alone = methods(config := Config.model_validate(data), gather(config, scheme)).paragraphs
    assert all(alone) and "icence" not in (text := " ".join(alone))
    assert "nlabelled" not in text and "themselves" not in text
    assert "(fat -190 to -30; bone from 250) provided fat." in text  # which is drawn as a line
    assert "for nnU-Net v2, MONAI, BIDS and 3D Slicer." in text


def test_programs_and_bundles_are_named_with_their_versions(results):
    data = make_config(results).model_dump(mode="json", by_alias=True)
    program = {"kind": "command", "command": ["label", "{image}", "{output}"], "labels": {"a": 1}}
    data["segmenters"] = {
        "ours": {**program, "version_command": ["label", "--version"]},
        "theirs": program,
        "net": {"kind": "monai_bundle", "bundle": "bundles/spleen_ct"},
    }
    data["structures"] = {"liver": "ours/a", "kidney": "theirs/a", "cord": "net/spleen"}
    data["compose"] = {}
    config = Config.model_validate(data)
    for name, versions in (("ours", {"label": "label 1.2"}), ("net", {"monai": "1.5.1"})):
        made_from = {"versions": versions}
        write(config.results.segment(name).path, segmented("small", made_from=made_from))
    text = " ".join(methods(config, gather(config, make_scheme())).paragraphs)
    assert "The program ours (label 1.2) labelled" in text
    assert "The program theirs labelled" in text
    assert "The MONAI bundle spleen_ct (MONAI 1.5.1) labelled" in text


def test_the_text_is_on_the_page_and_nothing_in_it_is_markup(results):
    write_report(make_config(results), make_scheme())
    page = (results / "results/report/index.html").read_text()
    section = page.split('<section id="methods">')[1].split("</section>")[0]
    assert "TotalSegmentator 9.8.7" in section and "@article{nnunet," in section
    assert 'href="#methods"' in page and "<img" not in section and "<script" not in section

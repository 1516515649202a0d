"""What a segmenter's labels depend on: its jobs' keys and the fingerprints of its results agree."""

from __future__ import annotations

import json
import shutil

import pytest

from backsplit.config.slices import placing
from backsplit.flow.engine import start
from backsplit.flow.plan import Plan
from backsplit.flow.project import Project, open_project
from backsplit.segment.nnunet import NnUNetSegmenter
from backsplit.segment.stage import SegmentStage
from backsplit.segment.totalsegmentator import TotalSegmentatorSegmenter
from backsplit.segment.weights import accept, demo_weights
from backsplit.store import provenance, versions
from support import flow
from support.project import ct_like, save
from support.tiny import edit_in_place

NETWORK = "Dataset298_TotalSegmentator_total_6mm_1559subj"
SECTIONS = {
    "totalsegmentator": {"task": "total", "fastest": True, "weights": "weights"},
    "nnunet": {"model": "model"},
    "monai_bundle": {"bundle": "bundle"},
    "command": {"command": ["./label", "{image}", "{output}"], "labels": {"liver": 1}},
    "files": {"path": "masks/{case}.nii.gz", "labels": {"liver": 1}},
    "threshold": {"bands": {"liver": [0, 100]}},
}
PACKAGES = {
    "TotalSegmentator": {"totalsegmentator"},
    "nnunetv2": {"totalsegmentator", "nnunet"},
    "monai": {"monai_bundle"},
    "torch": set(),
    "SimpleITK": set(),
    "numpy": set(),
}
"""A package, and the kinds whose labels its version decides."""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a model of each kind, all accepted."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BACKSPLIT_WEIGHTS", str(tmp_path / "accepted"))
    (demo,) = demo_weights().glob(f"{NETWORK}/*")
    shutil.copytree(demo, tmp_path / "weights" / NETWORK / demo.name)
    shutil.copytree(demo, tmp_path / "model")
    parts = {"preprocessing": {}, "inferer": {}, "postprocessing": {}, "network_def": {}}
    output = {"network_data_format": {"outputs": {"pred": {"channel_def": {"1": "liver"}}}}}
    files = {"configs/inference.json": parts, "configs/metadata.json": output}
    for name, content in (files | {"models/model.pt": {}}).items():
        path = tmp_path / "bundle" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    accept(path for path in (tmp_path / "bundle").rglob("*") if path.is_file())
    program = tmp_path / "label"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return tmp_path


@pytest.fixture
def opened(here, project):
    """Opens a project whose one segmenter is of a kind."""
    save(here / "ct.nii.gz", ct_like())

    def open_it(kind: str, **keys: object) -> Project:
        project.rows = [{"case": "a", "image_ct": "ct.nii.gz", "lesion": "none"}]
        project.settings["segmenters"] = {"own": {"kind": kind, **SECTIONS[kind], **keys}}
        project.settings["structures"] = {"liver": "own/liver"}
        cysts = ("own/kidney_cyst_left", "own/kidney_cyst_right")
        is_total = kind in ("totalsegmentator", "nnunet")
        rules = dict.fromkeys(cysts if is_total else (), "background")
        project.settings["compose"] = {"segmenter_lesions": rules}
        project.write()
        return open_project(here / "config.yaml")

    return open_it


def key_of(opened: Project) -> str:
    return Plan(opened).segment_key("own", "00001")


def fingerprint_of(opened: Project) -> object:
    """What a job looks at, beside the files of a case."""
    section = opened.config.segmenters["own"]
    folder = opened.results.segment("own")
    stage = SegmentStage("own", opened.segmenter("own"), section, placing(opened.config), folder)
    return provenance.digest([stage.inputs, stage.classes, stage.identity])


@pytest.mark.parametrize("kind", SECTIONS)
def test_an_upgrade_of_what_decides_labels_starts_jobs_that_label_again(opened, monkeypatch, kind):
    before = key_of(opened(kind)), fingerprint_of(opened(kind))
    assert before == (key_of(opened(kind)), fingerprint_of(opened(kind)))
    installed = provenance._version
    for package, kinds in PACKAGES.items():
        upgraded = {package: "99.1"}
        monkeypatch.setattr(provenance, "_version", lambda name, new=upgraded: (
            new.get(name) or installed(name)))  # fmt: skip
        after = key_of(opened(kind)), fingerprint_of(opened(kind))
        differ = [one != other for one, other in zip(before, after, strict=True)]
        assert differ == [kind in kinds] * 2, package


OWN_FILES = {
    "totalsegmentator": "weights", "nnunet": "model", "monai_bundle": "bundle", "command": "label",
}  # fmt: skip


@pytest.mark.parametrize("kind", OWN_FILES)
def test_an_edit_that_keeps_size_and_time_of_an_own_file_starts_jobs(here, opened, kind):
    before = key_of(opened(kind))
    own = here / OWN_FILES[kind]
    for path in [own] if own.is_file() else sorted(p for p in own.rglob("*.p*t*") if p.is_file()):
        data = path.read_bytes()
        edit_in_place(path, data[:-1] + bytes([data[-1] ^ 1]))
        assert key_of(opened(kind)) != before, path
        before = key_of(opened(kind))


def test_a_job_in_an_environment_of_its_own_has_the_key_that_was_planned(opened, monkeypatch):
    """`--sdm conda`: else no run would find the keys that the jobs of the run before noted."""
    planned, own = key_of(opened("nnunet")), fingerprint_of(opened("nnunet"))
    given = Plan(opened("nnunet")).environment()
    monkeypatch.setattr(provenance, "_version", lambda name: "99.1")
    assert key_of(opened("nnunet")) != planned
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert key_of(opened("nnunet")) == planned and Plan(opened("nnunet")).environment() == given
    assert fingerprint_of(opened("nnunet")) != own
    assert key_of(opened("threshold")) != planned


def test_an_export_in_an_environment_of_its_own_notes_the_key_that_was_planned(
    opened, project, monkeypatch
):
    """Else each run would find another key, remove the data set and export it again."""
    project.settings["export"] = {"segmentations": ["seg_nrrd"]}
    now = opened("threshold")
    planned, given = Plan(now).export_key(), Plan(now).environment()
    monkeypatch.setattr(provenance, "_version", lambda name: "99.1")
    assert Plan(now).export_key() != planned
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert Plan(now).export_key() == planned


@pytest.mark.parametrize("kind", ["files", "monai_bundle", "threshold"])
def test_an_upgrade_of_backsplit_reaches_the_kinds_that_it_concerns(opened, monkeypatch, kind):
    """Label files and a bundle's output may be smaller than the image: where they looked counts."""
    before = key_of(opened(kind)), fingerprint_of(opened(kind))
    monkeypatch.setattr(versions, "COVERAGE", versions.COVERAGE + 1)
    assert key_of(opened(kind)) != before[0]
    assert (fingerprint_of(opened(kind)) != before[1]) == (kind != "threshold")


@pytest.mark.parametrize("kind", ["totalsegmentator", "nnunet"])
def test_weights_that_were_moved_cost_no_label(here, opened, monkeypatch, kind):
    seen = []
    for network in (TotalSegmentatorSegmenter, NnUNetSegmenter):
        label = network.label
        monkeypatch.setattr(
            network, "label", lambda self, cases, label=label: seen.append(1) or label(self, cases)
        )
    config, results = here / "config.yaml", here / "results" / "segment" / "own"
    place = {"totalsegmentator": "weights", "nnunet": "model"}[kind]
    first = opened(kind)
    flow.check(config, None, 1, print)
    flow.segment(first, "own", None, print)
    made = {path.name: path.read_bytes() for path in results.glob("a.*")}
    assert seen == [1] and set(made) == {"a.nii.gz", "a.json"}

    (here / "elsewhere").mkdir()
    (here / place).rename(here / "elsewhere" / "other name")
    moved = opened(kind, **{place: "elsewhere/other name"})
    assert key_of(moved) != key_of(first)
    flow.segment(moved, "own", None, print)
    assert seen == [1]

    shutil.rmtree(results)
    flow.segment(moved, "own", None, print)
    assert seen == [1, 1]
    assert made == {path.name: path.read_bytes() for path in results.glob("a.*")}

    before = fingerprint_of(moved)
    (plans,) = (here / "elsewhere").rglob("plans.json")
    plans.write_bytes(plans.read_bytes() + b" ")
    accept([plans])
    assert fingerprint_of(opened(kind, **{place: "elsewhere/other name"})) != before


def test_an_upgrade_is_told_before_it_costs_a_label(here, opened, monkeypatch):
    config, installed = here / "config.yaml", provenance._version
    now = opened("nnunet")
    flow.check(config, None, 1, print)
    flow.segment(now, "own", None, print)

    def told() -> list[str]:
        said: list[str] = []
        flow.check(config, None, 1, said.append)
        lines = [*said, *start(Plan(now)).notes, *flow.status(now)]
        return [line[line.index("own: nnunet") :] for line in lines if "is installed here" in line]

    assert told() == []
    monkeypatch.setattr(provenance, "_version", lambda name: "99.1")
    downgrade = f"python -m pip install nnunetv2=={installed('nnunetv2')}"
    first, *others = told()
    assert first.startswith("own: nnunetv2 99.1 is installed here, but the labels of 1 case were ")
    assert first.endswith(f"to keep them, first run `{downgrade}`")
    assert others == [first] * 2


@pytest.mark.parametrize(("name", "decides"), [
    ("data/atlas.csv", True), ("prior.nii.gz", True), ("large_files.yml", True),
    ("scripts/table.txt", True), ("docs/README.md", False), ("docs/data_license.txt", False),
    ("LICENSE", False), ("README.md", False), ("eval/a/a_trans.nii.gz", False),
    (".git/HEAD", False), ("scripts/__pycache__/net.cpython-311.pyc", False),
])  # fmt: skip
def test_what_a_bundle_s_code_may_read_is_in_the_fingerprint(here, opened, name, decides):
    before = fingerprint_of(opened("monai_bundle"))
    path = here / "bundle" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("1")
    added = key_of(opened("monai_bundle")), fingerprint_of(opened("monai_bundle"))
    assert (added[1] != before) == decides
    path.write_text("22")
    changed = key_of(opened("monai_bundle")), fingerprint_of(opened("monai_bundle"))
    assert (changed[1] != added[1]) == decides
    assert changed[0] != added[0]


def test_a_link_of_a_sandbox_folder_that_leads_elsewhere_starts_jobs(here, opened):
    sandbox, host = here / "sandbox", here / "host"
    for name in ("opt/v1/net.pt", "opt/v2/net.pt"):
        (sandbox / name).parent.mkdir(parents=True)
        (sandbox / name).write_text(name)
    host.write_text("1")
    (sandbox / "mounts").symlink_to(host)  # inside, that is another file
    for version in ("v1", "v2"):
        (sandbox / "opt" / "current").symlink_to(version)
        now = opened("command", container={"image": "sandbox"})
        if version == "v1":
            before = key_of(now)
            host.write_text("22")
            assert key_of(opened("command", container={"image": "sandbox"})) == before
            (sandbox / "opt" / "current").unlink()
        else:
            assert key_of(now) != before

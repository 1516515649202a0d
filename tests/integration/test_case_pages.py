"""Pages of single cases: which there are, what they hold, and that they are drawn only once."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import yaml

from backsplit.flow.engine import forget_incomplete
from backsplit.flow.plan import Plan
from backsplit.flow.project import open_project
from support import flow
from support.project import Project, ct_like, save

EVIL = '<img src=x onerror="alert(1)">'


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def say(_text: str) -> None:
    pass


def stages(path: Path, *verbs: str) -> None:
    project = open_project(path)
    known = {
        "check": lambda: flow.check(path, None, 1, say),
        "segment": lambda: flow.segment(project, "tissue", None, say),
        "compose": lambda: flow.compose(project, None, say),
        "measure": lambda: flow.measure(project, None, say),
        "judge": lambda: flow.judge(project, say),
        "pages": lambda: flow.pages(project, 2, say),
        "report": lambda: flow.report(project, say),
    }
    for verb in verbs:
        known[verb]()


def decide(project: Project, **decisions: str) -> None:
    lines = [f"{case}\t{text}" for case, text in decisions.items()]
    text = "\n".join(["case\tdecision\tnote", *lines]) + "\n"
    (project.results / "qc" / "decisions.tsv").write_text(text)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, project_in) -> Path:
    """Four cases that no rule speaks against, up to their verdicts."""
    project = project_in(tmp_path_factory.mktemp("finished"))
    for case in ("a", "b", "c", "d.html"):
        project.add(case, note=EVIL)
    with contextlib.chdir(project.folder):
        stages(project.write(), "check", "segment", "compose", "measure", "judge")
    return project.folder


@pytest.fixture
def measured(finished, project, monkeypatch) -> Project:
    """A copy of the finished cases."""
    shutil.copytree(finished, project.folder, dirs_exist_ok=True)
    monkeypatch.chdir(project.folder)
    return project


def pages(project: Project) -> dict[str, tuple[int, str]]:
    folder = project.results / "report" / "cases"
    return {
        path.name: (path.stat().st_mtime_ns, path.read_text("utf-8"))
        for path in folder.glob("*.html")
    }


def test_only_cases_to_look_at_are_drawn_and_only_once(measured):
    config = measured.folder / "config.yaml"
    stages(config, "pages", "report")
    assert pages(measured) == {}
    decide(measured, a="review\tlook", b="reject\tmoved", **{"d.html": "review\t"})
    stages(config, "judge", "pages", "report")
    first = pages(measured)
    assert sorted(first) == ["a.html", "b.html", "d.html.html"]
    status = pd.read_csv(measured.results / "report/cases/status.tsv", sep="\t")
    assert status["case"].tolist() == ["a", "b", "d.html"]
    index = (measured.results / "report" / "index.html").read_text("utf-8")
    assert sorted(set(re.findall(r'href="(cases/[^"]*)"', index))) == [
        "cases/a.html", "cases/b.html", "cases/d.html.html",
    ]  # fmt: skip
    stages(config, "judge", "pages")
    assert pages(measured) == first  # nothing is drawn again
    decide(measured, a="review\tlook", b="reject\tsomething else")
    stages(config, "judge", "pages")
    second = pages(measured)
    assert sorted(second) == ["a.html", "b.html"]  # the others are gone
    assert not (measured.results / "report/cases/d.html.html.json").exists()
    assert second["a.html"] == first["a.html"]
    assert "something else" in second["b.html"][1]


def test_a_page_that_is_gone_is_due_again(measured):
    config = measured.folder / "config.yaml"
    decide(measured, a="review\t", b="review\t")
    stages(config, "judge", "pages")
    plan = Plan(open_project(config))
    table = plan.config.results.page_status
    assert table not in forget_incomplete(plan)
    first = pages(measured)
    (table.parent / "a.html").unlink()
    assert table in forget_incomplete(plan) and not table.exists()
    stages(config, "check", "segment", "compose", "measure", "judge", "pages")
    assert pages(measured)["a.html"][1] == first["a.html"][1]  # the same bytes
    assert pages(measured)["b.html"] == first["b.html"]


def test_a_page_is_drawn_again_when_its_label_map_is_another(measured):
    config = measured.folder / "config.yaml"
    decide(measured, a="review\t", b="review\t")
    stages(config, "judge", "pages")
    first = pages(measured)
    lesion = np.zeros((12, 20, 24), np.uint8)
    lesion[3:9, 7:14, 8:16] = 1
    save(measured.folder / "lesions" / "a.nii.gz", lesion)
    stages(config, "check", "segment", "compose", "measure", "judge", "pages")
    second = pages(measured)
    assert second["a.html"][1] != first["a.html"][1]
    assert second["b.html"] == first["b.html"]


def test_one_bad_case_stops_nothing(measured):
    config = measured.folder / "config.yaml"
    decide(measured, a="review\t", b="review\t", c="reject\t")
    stages(config, "judge")
    (measured.folder / "images" / "a.nii.gz").write_bytes(b"no image")
    (measured.results / "labels" / "b.nii.gz").unlink()
    stages(config, "pages", "report")
    assert list(pages(measured)) == ["c.html"]
    status = pd.read_csv(measured.results / "report/cases/status.tsv", sep="\t").set_index("case")
    assert status["status"].to_dict() == {"a": "failed", "b": "failed", "c": "done"}
    index = (measured.results / "report" / "index.html").read_text("utf-8")
    assert index.count("Its page could not be drawn") == 2


def test_what_another_version_composed_is_said(measured):
    config = measured.folder / "config.yaml"
    decide(measured, a="review\t")
    stages(config, "judge")
    sidecar = measured.results / "labels" / "a.json"
    said = json.loads(sidecar.read_text())
    del said["layers"]
    sidecar.write_text(json.dumps(said))
    stages(config, "pages")
    status = pd.read_csv(measured.results / "report/cases/status.tsv", sep="\t").set_index("case")
    assert status.loc["a", "code"] == "FILE_MISSING"
    assert "run `backsplit compose` again" in status.loc["a", "message"]


def test_a_page_fetches_and_runs_nothing_but_its_own(measured):
    config = measured.folder / "config.yaml"
    decide(measured, a=f"review\t{EVIL}</script><script>alert(2)</script>")
    stages(config, "judge", "pages")
    text = pages(measured)["a.html"][1]
    tags = Tags(text).tags
    assert EVIL not in text and "alert(2)</script>" not in text
    scripts = [attrs.get("type") for tag, attrs in tags if tag == "script"]
    assert scripts == ["application/json", *["application/gzip"] * 2, None]  # one runs
    assert not [name for _, attrs in tags for name in attrs if name.startswith("on")]
    assert not [attrs for _, attrs in tags if "style" in attrs]
    links = {attrs["href"] for _, attrs in tags if "href" in attrs}
    assert links == {"../index.html#case-a"}  # the only page
    assert all(attrs["src"].startswith("data:image/") for _, attrs in tags if "src" in attrs)
    policy = next(a["content"] for t, a in tags if t == "meta" and "http-equiv" in a)
    assert "default-src 'none'" in policy and "unsafe" not in policy
    for tag in ("style", "script"):
        content = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL).group(1)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_a_page_shows_what_the_flags_speak_of(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    for number in range(3):
        image = ct_like(number)
        if number == 1:
            image[1:-1, 5:-5, 5:-5] = 600  # bone everywhere
        project.add(f"case_{number}", image)
    rule = {"of": ["bone"], "low": 0.25, "high": 5.0, "source": "made up"}
    config = project.write(qc={"rules": {"volume": [rule]}})
    stages(config, "check", "segment", "compose", "measure", "judge", "pages")
    found = pages(project)
    assert list(found) == ["case_1.html"]
    text = found["case_1.html"][1]
    findings = re.findall(r'data-values="([^"]*)"[^>]*><b>([^<]*)</b>', text)
    assert [name for _, name in findings] == ["Lesion 1: tumor", "Lesion 2: cyst", "bone"]
    assert "made up" in text
    held = view_of(text)
    assert [layer["name"] for layer in held["layers"]] == ["label map", "tissue"]
    names = {value: name for value, name, _, _ in held["layers"][0]["values"]}
    assert [names[int(values)] for values, _ in findings] == ["tumor", "cyst", "bone"]
    assert held["unit"] == "HU" and sorted(held["lesions"]) == ["1", "2"]
    assert len(text) < 2_000_000


def test_what_a_page_shows_is_the_label_map(measured):
    config = measured.folder / "config.yaml"
    decide(measured, a="review\t")
    stages(config, "judge", "pages")
    text = pages(measured)["a.html"][1]
    held = view_of(text)
    voxels = re.findall(r'class="voxels">([^<]*)<', text)
    paths = [measured.results / "labels/a.nii.gz", measured.results / "segment/tissue/a.nii.gz"]
    for packed, layer, path in zip(voxels, held["layers"], paths, strict=True):
        kind = np.uint8 if layer["bytes"] == 1 else np.uint16
        found = np.frombuffer(gzip.decompress(base64.b64decode(packed)), kind)
        labels = sitk.GetArrayFromImage(sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS"))[::-1]
        found = found.reshape(held["size"])
        # all that is labelled is in the part that is shown, in the same order
        assert found[found > 0].tolist() == labels[labels > 0].tolist()
        assert set(np.unique(found)) - {0} == {value for value, *_ in layer["values"]}


@pytest.mark.parametrize(
    ("wanted", "expected"), [("all", ["a", "b", "c", "d.html"]), ("review", ["b"]), ("none", [])]
)
def test_which_cases_have_a_page_is_configured(measured, wanted, expected):
    decide(measured, b="review\t")
    config = measured.folder / "config.yaml"
    settings = yaml.safe_load(config.read_text())
    settings["run"]["pages"] = wanted
    config.write_text(yaml.safe_dump(settings, sort_keys=False))
    stages(config, "judge", "pages", "report")
    found = pages(measured)
    assert sorted(found) == [f"{case}.html" for case in expected]
    index = (measured.results / "report" / "index.html").read_text("utf-8")
    assert set(re.findall(r'href="cases/([^"]*)"', index)) == set(found)
    if wanted == "all":
        beside = re.findall(r'<a rel="(\w+)" href="([^"]*)"', found["b.html"][1])
        assert beside == [("prev", "a.html"), ("next", "c.html")]
        assert "No rule flagged this case" in found["a.html"][1]


def view_of(text: str) -> dict[str, Any]:
    """What the viewer of a page reads, but for the voxels."""
    found = re.search(r'<script type="application/json" id="view">(.*?)</script>', text)
    assert found
    return json.loads(found.group(1))

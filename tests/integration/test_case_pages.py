"""Pages of single cases: which there are, what they hold, and that they are drawn only once."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from backsplit import flow
from backsplit.flow.engine import forget_incomplete
from backsplit.flow.plan import Plan
from backsplit.flow.project import open_project
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


def test_a_page_fetches_and_runs_nothing_but_its_own(measured):
    config = measured.folder / "config.yaml"
    decide(measured, a=f"review\t{EVIL}</script><script>alert(2)</script>")
    stages(config, "judge", "pages")
    text = pages(measured)["a.html"][1]
    tags = Tags(text).tags
    assert EVIL not in text and "alert(2)</script>" not in text
    assert sum(tag == "script" for tag, _ in tags) == 1
    assert not [name for _, attrs in tags for name in attrs if name.startswith("on")]
    assert not [attrs for _, attrs in tags if "style" in attrs]
    links = {attrs["href"] for _, attrs in tags if "href" in attrs}
    assert links == {"../index.html#case-a"}
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
    flagged = text[text.index('<section id="flagged"') :].split("</section>")[0]
    assert "<b>bone</b>" in flagged and "made up" in flagged
    assert flagged.count("<img") == 1
    slices = text[text.index('<section id="slices"') :].split("</section>")[0]
    assert re.findall(r"<figcaption>(\w[\w ]*)", slices) == ["image", "label map", "tissue "]
    assert "slice 12 of 12" in slices
    lesions = text[text.index('<section id="lesions"') :].split("</section>")[0]
    assert lesions.count("<figure>") == 2  # a tumour and a cyst
    assert len(text) < 2_000_000

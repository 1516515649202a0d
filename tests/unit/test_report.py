"""The report: a page that is safe and complete."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from backsplit.config.quality import Severity
from backsplit.report import cards
from backsplit.report.case_facts import gather_pages
from backsplit.report.dataset_page import write_report
from backsplit.report.facts import Flag, led
from backsplit.report.pictures.encode import STRIP
from support.report import (
    EVIL,
    FLAGS,
    Page,
    make_config,
    make_results,
    make_scheme,
    write_table,
    write_text,
)


@pytest.fixture
def page(tmp_path) -> str:
    config = make_config(tmp_path)
    make_results(config.run.results)
    output = config.results.report
    write_report(config, make_scheme())
    return output.read_text("utf-8")


def test_each_case_of_the_table_appears(page):
    text = Page(page).text
    for case in ("small", "large", "broken", "worry", "../../secret", "<script>alert(2)</script>"):
        assert case in text
    assert len(re.findall(r"<article", page)) == 7
    order = re.findall(r'data-verdict="([a-z ]+)"', page)
    assert order == ["reject"] * 4 + ["review", "accept", "accept"]
    cases = re.findall(r'<article[^>]*data-case="([^"]*)"', page)
    assert cases[-2:] == ["large", "small"]  # by lesion volume


def test_html_of_the_table_does_no_harm(page):
    parsed = Page(page)
    assert EVIL in parsed.text  # it is shown as it stands, not run
    assert sum(tag == "script" for tag, _ in parsed.tags) == 1
    assert not [name for _, attrs in parsed.tags for name in attrs if name.startswith("on")]
    assert not parsed.attributes("style")  # the policy would not let them through


def test_the_report_fetches_nothing_remote(page):
    parsed = Page(page)
    targets = [value or "" for value in parsed.attributes("src", "href", "action", "data")]
    assert targets
    pages = ("cases/worry.html",)
    assert all(value.startswith(("data:image/", "#")) or value in pages for value in targets)
    assert {value[1:] for value in targets if value[0] == "#"} <= set(parsed.attributes("id"))
    assert not {"link", "iframe", "object", "embed", "base", "form"} & {t for t, _ in parsed.tags}
    assert "url(" not in page
    assert "@import" not in page
    policy = next(a["content"] for t, a in parsed.tags if t == "meta" and "http-equiv" in a)
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_policy_lets_our_own_style_and_script_through(page):
    policy = next(a["content"] for t, a in Page(page).tags if t == "meta" and "http-equiv" in a)
    for tag in ("style", "script"):
        content = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL).group(1)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_numbers_come_from_the_results(page):
    text = re.sub(r"\s+", " ", Page(page).text)
    for words in (
        "7 cases in the table",
        "3 refused by check",
        "1 failed in a stage",
        "1 to review",
        "2 accepted",
        "not exported yet",
        "151.5 ml lesion volume in 2 of 3 measured cases",
        "77 voxels overridden",
        "organs / liver targets / tumor 77 38.5 2",
        "given/kidney 2 of 3 200.5 100.5 to 300.5",
        "Empty structures: kidney.",
        "liver has no voxel in any",
        "organs/spleen (2)",
        "organs TotalSegmentator 9.8.7 2",
        "ab" * 32,
    ):
        assert words in text, words


def test_lesions_of_cases_that_are_there_are_listed(page):
    text = Page(page).text
    section = text[text.index("Largest first") : text.index("Every label of the data set")]
    assert section.index("large") < section.index("small") and "gone" not in section
    for part in ("150.0", "81.5", "kidney", "75.0 %", "−12", "none", "yes"):
        assert part in section


def test_a_case_to_look_at_has_its_page(page):
    worry = page[page.index('id="case-worry"') :].split("</article>")[0]
    assert worry.count('href="cases/worry.html"') == 2
    broken = page[page.index('id="case-broken"') :].split("</article>")[0]
    assert "Its page could not be drawn: gone &lt;img" in broken and "cases/" not in broken
    assert "cases/.." not in page and 'id="case-.' not in page  # no id, no address


def test_one_reason_leads_and_the_others_fold():
    def flag(severity, message):
        return Flag("a", "liver", "volume", Severity(severity), "", "", message)

    flags = [flag("info", "i"), flag("warn", "w1"), flag("warn", "w2"), flag("review", "r")]
    leading, rest = led(flags, "w2")
    assert [f.message for f in leading] == ["w2"] and [f.message for f in rest] == ["r", "w1", "i"]
    assert [f.message for f in led(flags, "")[0]] == ["r"]
    assert led(flags[:1], "") == ([], flags[:1]) and led([], "x") == ([], [])


def test_a_card_shows_what_leads_and_folds_the_rest(tmp_path):
    config = make_config(tmp_path)
    make_results(config.run.results)
    rows = [["worry", "review", "volume", "kidney: 100 ml"]]
    flags = [["worry", "kidney", "holes", "review", "", "", "kidney: 100 ml"],
             ["worry", "liver", "pair", "warn", "", "", "liver: odd"],
             ["worry", "liver", "side", "review", "", "", "liver: left"]]  # fmt: skip
    write_table(config.results.verdicts, ["case", "verdict", "rules", "reason"], rows)
    write_table(config.results.flags, FLAGS, flags)
    write_report(config, make_scheme())
    card = (
        config.results.report.read_text("utf-8").split('id="case-worry"')[1].split("</article>")[0]
    )
    before, _, folded = card.partition('<details class="folded">')
    # the subject once, then what is said of it
    assert ">kidney</span><br>100 ml<" in before and ">liver</span>" not in before
    left, odd = (folded.index(f">liver</span><br>{words}<") for words in ("left", "odd"))
    assert "2 more" in folded and left < odd
    assert gather_pages(config, make_scheme())["worry"].leading == 1


def test_only_measured_cases_get_a_page(tmp_path):
    config = make_config(tmp_path)
    make_results(config.run.results)
    rows = [[case, "review", ""] for case in ("worry", "broken", "../../secret", EVIL)]
    write_table(config.run.results / "qc" / "verdicts.tsv", ["case", "verdict", "rules"], rows)
    pages = gather_pages(config, make_scheme())
    assert list(pages) == ["worry"]
    assert pages["worry"].subjects == ["segment organs", "kidney"]
    assert [measured.structure for measured in pages["worry"].measures] == ["kidney"]


def test_cases_with_a_flag_are_dots_that_lead_to_them(page):
    figure = page[page.index('<section id="distributions"') :].split("</section>")[0]
    dots = re.findall(r'<a href="([^"]+)"[^>]*><circle[^>]*><title>([^<]*)</title>', figure)
    # of volume and of intensity; the worst on top; a segmenter's class counts for its structure
    assert [link for link, _ in dots] == ["#case-large", "cases/worry.html"] * 2
    assert dots[1][1].startswith("worry: kidney: 100 ml &lt;img")
    assert "liver" not in figure  # no case holds any


def test_segmenters_that_disagree_are_shown(page):
    section = page[page.index('<section id="agreement"') :].split("</section>")[0]
    cells = re.findall(r"<t[hd][^>]*>(?:<a[^>]*>)?([^<]*)", section.split("<tbody>")[1])
    assert cells == ["kidney", "given", "organs", "2", "0.650", "0.400", "worry", "5.5"]


def test_overruled_voxels_are_shown_as_a_matrix(page):
    table = page[page.index('<table class="matrix"') :].split("</table>")[0]
    assert re.findall(r"<span>([^<]+)</span>", table) == ["tumor"]
    assert re.findall(r'<td class="s6">([^<]+)</td>', table) == ["38.5"]


def test_figures_and_tables_lie_beside_the_page(tmp_path):
    config = make_config(tmp_path)
    make_results(config.run.results)
    folder = config.results.report.parent
    write_report(config, make_scheme())
    for name in ("distributions", "overruled"):
        text = (folder / "figures" / f"{name}.svg").read_text("utf-8")
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(text).iter()}
        assert tags <= {"svg", "g", "text", "rect", "line", "circle", "title"}
    lesions = pd.read_csv(folder / "tables" / "lesions.tsv", sep="\t")
    assert lesions["case"].tolist() == ["large", "small"]
    assert lesions.loc[0, "volume_ml"] == 150


def test_where_a_structure_is_unknown_is_said(tmp_path, page):
    assert "unknown in" not in page  # nothing is, so nobody need read of it
    config = make_config(tmp_path)
    rows = [
        ["small", "liver", "unknown"], ["large", "liver", "unknown"], ["worry", "liver", "absent"],
        ["gone", "liver", "unknown"], ["large", "kidney", "labelled"],
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["case", "structure", "status"])
    (config.run.results / "labels").mkdir(exist_ok=True)
    table.to_parquet(config.run.results / "labels" / "status.parquet")
    output = config.results.report
    write_report(config, make_scheme())
    text = " ".join(Page(output.read_text("utf-8")).text.split())
    assert "given/kidney 2 of 3 0 200.5" in text and "organs/liver 0 of 3 2 " in text


def test_a_person_s_verdict_is_said_and_kept(tmp_path):
    config = make_config(tmp_path)
    make_results(config.run.results)
    rows = [["small", "reject", "", "person", f"moved {EVIL}"]]
    columns = ["case", "verdict", "rules", "by", "note"]
    write_table(config.run.results / "qc" / "verdicts.tsv", columns, rows)
    output = config.results.report
    write_report(config, make_scheme())
    text = output.read_text()
    assert "decided by hand" in text and EVIL not in text
    assert 'data-decided="reject"' in text


def test_refused_rows_get_no_facts_of_another_case(page):
    refused = page[page.index("CASE_ID_DUPLICATE") :].split("</article>")[0]
    assert "Overridden" not in refused
    assert "<img" not in refused
    assert page.count("<img src") == 2


def test_page_is_the_same_each_time(tmp_path):
    config = make_config(tmp_path)
    make_results(config.run.results)
    pages = []
    for _ in range(2):
        write_report(config, make_scheme())
        pages.append(config.results.report.read_bytes())
    assert pages[0] == pages[1]


def test_exported_cases_are_counted(tmp_path):
    config = make_config(tmp_path)
    make_results(config.run.results)
    folder = config.run.results / "datasets" / "nnunet" / "Dataset007_Kidney"
    write_text(folder / "dataset.json", {})
    (folder / "labelsTr").mkdir()
    (folder / "labelsTr" / "large.nii.gz").touch()
    write_report(config, make_scheme())
    text = re.sub(r"\s+", " ", Page(config.results.report.read_text("utf-8")).text)
    assert "1 exported" in text


def test_nothing_done_yet_is_said_in_words(tmp_path):
    config = make_config(tmp_path)
    write_report(config, make_scheme())
    text = Page(config.results.report.read_text("utf-8")).text
    assert "No case yet" in text
    assert "No case has been measured" in text


def test_all_refused_is_said_in_words(tmp_path):
    config = make_config(tmp_path)
    rows = [["x", "refused", "FILE_MISSING", "not there", "a.nii.gz"]]
    columns = ["case", "status", "code", "message", "image_ct"]
    write_table(config.run.results / "cases.tsv", columns, rows)
    write_report(config, make_scheme())
    text = Page(config.results.report.read_text("utf-8")).text
    assert "every row of the table was refused" in text
    assert "FILE_MISSING" in text


def test_cards_hold_small_pictures_and_the_first_the_whole_one(tmp_path, monkeypatch):
    monkeypatch.setattr(cards, "LARGE_PICTURES", 1)
    config = make_config(tmp_path)
    make_results(config.run.results)
    for case in ("large", "small"):
        noise = np.random.default_rng(0).integers(0, 255, (90, 1200, 3), np.uint8)
        note = PngInfo()
        note.add_text(STRIP, "100 20 1100 60 800.0")
        path = config.run.results / "qc" / "cases" / f"{case}.png"
        Image.fromarray(noise).save(path, pnginfo=note)
    write_report(config, make_scheme())
    text = config.results.report.read_text("utf-8")
    assert _sizes(text, "src") == [(cards.SMALL_WIDTH, 19)] * 2  # 1000 x 40
    assert _sizes(text, "data-large") == [(1200, 90)]
    # a bar of 50 mm where the picture is 800 mm wide
    assert text.count('<svg viewBox="0 0 800.0 ') == 2 and text.count('width="50"') == 2


def _sizes(text: str, attribute: str) -> list[tuple[int, int]]:
    addresses = re.findall(rf' {attribute}="data:image/[a-z]+;base64,([^"]+)"', text)
    return [Image.open(io.BytesIO(base64.b64decode(data))).size for data in addresses]


def test_cards_say_what_their_flags_speak_of(page):
    def found(case: str, what: str) -> str | None:
        card = page[page.index(f'id="case-{case}"') :].split(">")[0]
        return re.search(rf'data-{what}="([^"]*)"', card).group(1)

    assert found("worry", "rule") == "OUT_OF_MEMORY volume"
    assert found("worry", "structure") == "kidney" and found("worry", "segmenter") == "organs"
    assert found("large", "structure") == "kidney" and found("large", "segmenter") == "given"
    assert found("small", "rule") == ""  # what is only noted sends nobody to look
    assert [found(case, "lesions") for case in ("large", "small", "worry")] == ["1", "1", "0"]
    options = re.findall(r'<select data-filter="(\w+)">(.*?)</select>', page)
    words = {name: re.findall(r"<option>([^<]*)", rest) for name, rest in options}
    assert words["structure"] == ["kidney"] and words["segmenter"] == ["given", "organs"]


def test_a_broken_picture_is_left_out(tmp_path):
    config = make_config(tmp_path)
    make_results(config.run.results)
    (config.run.results / "qc" / "cases" / "large.png").write_bytes(b"half a pic")
    write_report(config, make_scheme())
    assert config.results.report.read_text("utf-8").count("<img src") == 1

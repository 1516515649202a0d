"""Hostile tables, configurations and class names: a code for each, soon, in little memory.

Nothing of them is executed, and no file appears outside the results.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from backsplit.errors import BacksplitError
from backsplit.flow.check import check as run_check
from backsplit.flow.project import open_project
from backsplit.volume import read_grid
from support import flow
from support.dicom import ring, write_rtstruct
from support.hostile import CANARY, COMMANDS, CONFIG, UNICODE, configurations, models, tables
from support.mutations import sound

RANDOM = 100
"""Random damages beside the chosen ones, of tables and of configurations."""

SHARE = float(os.environ.get("BACKSPLIT_HOSTILE_SHARE", "0.15"))
"""Of some 2 400 pairs of a place in the configuration and a hostile value."""

SECONDS = 20
GIGABYTES = 6
"""Above what the libraries reserve at their import."""

LONGEST = 3000
"""Characters of what is said of one problem."""

MODEL = CONFIG.replace(
    "segmenters: {", "segmenters: {mine: {kind: nnunet, model: model}, "
).replace("structures: {", "structures: {liver: mine/liver*, ")  # fmt: skip


def attack(folder: Path) -> None:
    """Check everything hostile as `backsplit check` does; prints the codes. Runs on its own."""
    import resource
    import signal

    resource.setrlimit(resource.RLIMIT_AS, (GIGABYTES << 30, GIGABYTES << 30))
    os.chdir(folder)
    _inputs()
    outside = _outside()
    codes: dict[str, Counter[str]] = {}
    for kind, what, prepare in _attacks():
        Path("last").write_text(f"{kind}: {what}", "utf-8", "backslashreplace")
        prepare()
        signal.alarm(SECONDS)  # its default ends the process
        found = _check()
        signal.alarm(0)
        codes.setdefault(kind, Counter()).update(found)
        if "INTERNAL" in found or any(not code for code in found):
            sys.exit(f"{kind}: {what}: {found}")
        if _outside() != outside:
            sys.exit(f"{kind}: {what}: wrote {_outside() ^ outside}")
    Path("last").unlink()
    print(json.dumps(codes))


def _inputs() -> None:
    image = np.full((6, 6, 6), -1000, np.int16)
    image[1:5, 1:5, 1:5] = np.random.default_rng(0).integers(0, 60, (4, 4, 4))
    lesion = np.zeros((6, 6, 6), np.int16)
    lesion[2, 2, 2] = 1
    Path("image.nii").write_bytes(sound(image))
    Path("lesion.nii").write_bytes(sound(lesion))
    os.mkfifo("fifo")
    Path("model").mkdir()
    for name in (
        "table.tsv",
        "table.csv",
        "table.xlsx",
        "config.yaml",
        "last",
        "model/dataset.json",
    ):
        Path(name).touch()


def _attacks() -> Iterator[tuple[str, str, Callable[[], None]]]:
    def table(ending: str, data: bytes) -> None:
        Path(f"table{ending}").write_bytes(data)
        Path("config.yaml").write_text(_config(CONFIG, ending))

    def configuration(text: str) -> None:
        Path("table.tsv").write_text("case\timage_ct\tlesion\na\timage.nii\tlesion.nii\n")
        Path("config.yaml").write_text(_config(text), "utf-8", "surrogatepass")

    def model(text: str) -> None:
        Path("model/dataset.json").write_text(text, "utf-8", "surrogatepass")
        Path("config.yaml").write_text(_config(MODEL))

    for what, ending, data in tables(1, RANDOM):
        yield "table", what, lambda ending=ending, data=data: table(ending, data)
    for what, text in configurations(2, RANDOM, SHARE):
        yield "configuration", what, lambda text=text: configuration(text)
    for what, text in models():
        yield "model", what, lambda text=text: model(text)


def _config(text: str, ending: str = ".tsv") -> str:
    return text.replace("TABLE", f"table{ending}").replace("RESULTS", "results")


def _check() -> list[str]:
    """The code of a fatal problem, or of every case."""
    said: list[str] = []
    try:
        flow.check(Path("config.yaml"), None, 1, said.append)
    except BacksplitError as error:
        assert all(len(line) < LONGEST for line in said), "a message that fills the screen"
        return [str(error.code)]
    except BaseException as error:
        return ["INTERNAL", f"{type(error).__name__}: {str(error)[:300]}"]
    lines = Path("results/cases.tsv").read_text("utf-8").splitlines()
    assert all(character.isprintable() or character == "\t" for line in lines for character in line)
    return [code or "ok" for line in lines[1:] for code in line.split("\t")[2].split(",")]


def _outside() -> set[str]:
    """All files of the test but the results; two folders above are its own too."""
    files = Path("../..").rglob("*")
    return {str(path) for path in files if "results" not in path.parts}


@pytest.mark.slow
def test_hostile_inputs_are_refused_or_harmless(tmp_path):
    folder = tmp_path / "one" / "two"
    (folder / "temporary").mkdir(parents=True)
    code = (
        f"import sys; sys.path[:0] = {[str(Path(__file__).parents[1]), str(Path(__file__).parent)]}"
        "; from pathlib import Path; from test_hostile_inputs import attack"
        f"; attack(Path({str(folder)!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=folder,
        stdin=subprocess.DEVNULL, env={**os.environ, "TMPDIR": str(folder / "temporary")},
    )  # fmt: skip
    last = folder / "last"
    where = last.read_text() if last.exists() else ""
    assert done.returncode == 0, f"{where} (exit {done.returncode}): {done.stderr[-3000:]}"
    codes = json.loads(done.stdout.splitlines()[-1])
    print({kind: (sum(found.values()), found) for kind, found in codes.items()})
    assert not list(tmp_path.rglob(f"*{CANARY}*"))
    assert {"ok", "CASE_ID_INVALID", "CASE_ID_DUPLICATE", "FILE_MISSING"} <= codes["table"].keys()
    assert "MODEL_INVALID" in codes["model"]
    assert {"ok", "CONFIG_INVALID"} <= codes["configuration"].keys()


@pytest.mark.filterwarnings("ignore")
def test_hostile_names_in_dicom_stay_text(here):
    """Regions of an RTSTRUCT as lesions and as anatomy, from `check` to the report."""
    here.add("a")
    grid = read_grid(here.folder / "images" / "a.nii.gz")
    names = [name for name in (*COMMANDS, *UNICODE[:3], "../../x", "a/b", "", "GTV") if name != "~"]
    circle = [ring(grid, 5, (9, 11), 6)]
    regions = {name: circle if name in ("GTV", "$HOME") else [] for name in names}
    write_rtstruct(here.folder / "rt.dcm", regions)
    here.rows[0]["lesion"] = "rt.dcm"
    labels = {f"n{number}": name for number, name in enumerate(names) if name}
    given = {"kind": "files", "path": "rt.dcm", "labels": labels}
    here.settings["segmenters"]["given"] = given
    structures = here.settings["structures"] | {"other": "given/n*"}
    path = here.write(targets={"tumor": "GTV"}, structures=structures)
    before = {p.name for p in here.folder.iterdir()}
    said: list[str] = []
    flow.check(path, None, 1, said.append)
    for segmenter in ("tissue", "given"):
        flow.segment(open_project(path), segmenter, None, said.append)
    for step in (flow.compose, flow.measure):
        step(open_project(path), None, said.append)
    for finish in (flow.judge, flow.export, flow.report):
        finish(open_project(path), said.append)
    assert "1 of 1 cases" in "\n".join(said), said
    assert {p.name for p in here.folder.iterdir()} == before | {"results"}
    page = (here.results / "report" / "index.html").read_text()
    assert "<script>alert(1)" not in page
    wrong = here.write(targets={"tumor": "no such name"})
    assert run_check(wrong).checked[0].code == "LABEL_UNDECLARED"


@pytest.fixture
def here(project, monkeypatch):
    """A project in the folder where we are."""
    monkeypatch.chdir(project.folder)
    return project


@pytest.mark.parametrize(
    ("cases", "codes"),
    [
        (("pt_a", "PT_A", "pt_b"), ("CASE_ID_DUPLICATE", "CASE_ID_DUPLICATE", "")),
        (("a", "labels", "con.1"), ("", "CASE_ID_INVALID", "CASE_ID_INVALID")),
        (("a", "x" * 129, "x" * 128), ("", "CASE_ID_INVALID", "")),
    ],
)
def test_ids_whose_files_would_meet_are_refused(here, cases, codes):
    for case in cases:
        here.add("same", subject=case)
        here.rows[-1]["case"] = case
    assert tuple(c.code for c in run_check(here.write()).checked) == codes


def test_a_quotation_mark_swallows_no_rows(here):
    for case in ("a", "b", "c", "d"):
        here.add(case)
    for row in (0, 2):
        here.rows[row]["image_ct"] = '"' + here.rows[row]["image_ct"]
    (problem,) = run_check(here.write()).fatal
    assert problem.code == "TABLE_INVALID" and "row 2" in problem.what


def test_a_column_that_the_table_lacks_is_said_once(here):
    for case in ("a", "b"):
        here.add(case)
    section = {"kind": "files", "path": "{organs}", "labels": {"liver": 1}}
    here.settings["segmenters"]["given"] = section
    report = run_check(here.write(structures={"liver": "given/liver"}))
    assert [problem.code for problem in report.fatal] == ["CONFIG_INVALID"]
    assert "{organs}" in report.fatal[0].what and not report.problems

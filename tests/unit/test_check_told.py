"""What `backsplit check` says: each kind of problem once, what no case has, how bad it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from backsplit.errors import Code, Problem, RunError
from backsplit.flow.grouped import lines
from support import flow
from support.project import load, save


def problem(case: str, row: int, what: str, remedy="do it", code=Code.LABEL_UNDECLARED):
    value = f"lesions/{case}.nii.gz"
    return Problem(code, "cases.tsv", what, remedy, row, "lesion", value, case)


def test_the_same_in_many_cases_is_one_line():
    found = [
        problem(f"pt_{n}", n, f"/data/lesions/pt_{n}.nii.gz holds the value 3 ({n} voxels); "
                "declared values: 1, 2")
        for n in range(2, 9)
    ]  # fmt: skip
    (line,) = lines(found, 10, "results/cases.tsv")
    assert "holds the value 3; declared values: 1, 2 in 7 of 10 cases" in line
    assert "(pt_2, pt_3, pt_4, pt_5, pt_6, … 2 more; rows 2, 3, 4, 5, 6, …)" in line
    assert line.endswith("; do it (code LABEL_UNDECLARED)") and "/data" not in line


def test_one_case_keeps_its_whole_message_and_other_values_their_own_line():
    found = [problem("a", 2, "a.nii.gz holds 3"), problem("b", 3, "b.nii.gz holds 4")]
    assert list(lines(found, 2, "t")) == [str(one) for one in found]


def test_what_differs_in_numbers_is_said_three_times_and_counted():
    found = [problem(f"c{n}", n, f"c{n}.nii.gz is {n} mm off") for n in range(2, 42)]
    said = list(lines(found, 50, "results/cases.tsv"))
    assert len(said) == 4 and said[0] == str(found[0])
    assert "37 more like these (c5, c6, c7, c8, c9, … 32 more)" in said[3]
    assert "results/cases.tsv says what is wrong with each" in said[3]


def test_cases_that_are_called_by_numbers_keep_the_figures_of_their_messages():
    """A value that is the case's number, or holds it, is no name of the case."""
    found = [problem(f"{n}", n, f"{n}.nii.gz holds the value {n}, spacing 1.{n}") for n in (2, 31)]
    assert list(lines(found, 2, "t")) == [str(one) for one in found]
    found = [problem(n, 2, f"{n}.nii.gz has values that are no integers") for n in "ab"]
    (line,) = lines(found, 2, "t")
    assert "has values that are no integers in 2 of 2 cases" in line


def test_where_no_table_is_written_every_problem_is_said():
    found = [problem(f"c{n}", n, f"c{n}.nii.gz is {n} mm off") for n in range(2, 42)]
    assert list(lines(found, 50, None)) == [str(one) for one in found]


def test_what_is_wrong_with_cases_is_whole_beside_what_stops_a_run(project, monkeypatch, capsys):
    """No table of cases is written then, so none can be pointed at."""
    monkeypatch.chdir(project.folder)
    for n in range(6):
        project.add(f"c{n}")
        lesion = project.folder / "lesions" / f"c{n}.nii.gz"
        save(lesion, np.where(load(lesion) == 2, 9 + n, load(lesion)).astype(np.uint8))
    project.write(structures={"bone": "tissue/bnoe"})
    with pytest.raises(RunError, match="cannot be run"):
        flow.check(Path("config.yaml"), None, 1, print)
    said = capsys.readouterr().out
    assert [n for n in range(6) if f"row {n + 2}, `lesion`" not in said] == []
    assert "more like these" not in said and not (project.results / "cases.tsv").exists()


def test_commands_that_differ_are_given_for_the_first_case():
    found = [problem(f"c{n}", n, f"c{n}.nii.gz has lost its header", f"copy it: fix c{n}.nii.gz")
             for n in (2, 3)]  # fmt: skip
    (line,) = lines(found, 5, "t")
    assert "has lost its header in 2 of 5 cases" in line
    assert "for c2: copy it: fix c2.nii.gz" in line


def organs(project, case, *values):
    array = np.zeros((12, 20, 24), np.uint8)
    for number, value in enumerate(values):
        array[3 + number, 6:12, 6:12] = value
    save(project.folder / "organs" / f"{case}.nii.gz", array)


def with_organs(project, labels, cases=("a", "b", "c"), **section):
    for case in cases:
        project.add(case)
        organs(project, case, 1)
    given = {"kind": "files", "path": "organs/{case}.nii.gz", "labels": labels}
    project.settings["segmenters"]["given"] = given | section
    names = labels if isinstance(labels, list) else list(labels)
    project.settings["structures"] |= {f"s_{name}": f"given/{name}" for name in names}
    return project.write()


def checked(project, status: int) -> str:
    done = project.run("check", status=status)
    return done.stderr


def row_of(project, text: str) -> int:
    said = (project.folder / "config.yaml").read_text().splitlines()
    return next(n for n, line in enumerate(said, 1) if line.strip() == text)


def test_a_value_that_no_label_file_has_is_a_problem_at_its_row(project):
    with_organs(project, {"cord": 1, "larynx": 7})
    said = checked(project, 3)
    (line,) = [line for line in said.splitlines() if "LABEL_ABSENT" in line]
    assert "`segmenters.given.labels.larynx`" in line and "value 7 (they have 1" in line
    assert "0 of 3 sound cases have" in line and "s_larynx is unknown or empty" in line
    assert f"row {row_of(project, 'larynx: 7')}" in line
    organs(project, "c", 1, 7)  # one case has it
    assert "LABEL_ABSENT" not in checked(project, 0)


def test_a_file_of_a_structure_that_no_case_has_is_a_problem(project):
    with_organs(project, ["cord", "larynx"], path="masks/{case}_{name}.nii.gz")
    save(project.folder / "masks" / "b_cord.nii.gz", np.ones((12, 20, 24), np.uint8))
    said = checked(project, 3)
    (line,) = [line for line in said.splitlines() if "LABEL_ABSENT" in line]
    assert "no case" not in line and "a file of larynx" in line and "s_larynx" in line


def test_cases_that_leave_structures_out_are_those_without_any_source(project):
    """A file that is missing where another source follows, or that means absence, costs nothing."""
    with_organs(project, ["cord", "larynx"], path="masks/{case}_{name}.nii.gz")
    for case in "abc":
        for name in ("cord", "larynx"):
            if (case, name) != ("c", "cord"):
                mask = np.ones((12, 20, 24), np.uint8)
                save(project.folder / "masks" / f"{case}_{name}.nii.gz", mask)
    assert "structures are left out in 1 of 3 cases (c);" in checked(project, 0)
    project.settings["structures"]["s_cord"] = ["given/cord", "tissue/bone"]
    del project.settings["structures"]["bone"]
    project.write()
    assert "structures are left out" not in checked(project, 0)
    project.settings["structures"]["s_cord"] = "given/cord"
    project.settings["segmenters"]["given"]["missing"] = "absent"
    project.write()
    assert "structures are left out" not in checked(project, 0)
    (project.folder / "masks" / "c_larynx.nii.gz").unlink()  # none at all: the segmenter fails
    assert "structures are left out in 1 of 3 cases (c);" in checked(project, 0)


def test_a_target_that_no_lesion_file_has_is_a_problem_and_a_lesion_free_case_none(project):
    lesion = np.zeros((12, 20, 24), np.uint8)
    project.add("none", lesion=lesion)
    lesion = lesion.copy()
    lesion[5:8, 8:12, 9:12] = 1
    project.add("one", lesion=lesion)
    project.write()
    said = checked(project, 3)
    (line,) = [line for line in said.splitlines() if "LABEL_ABSENT" in line]
    assert "`targets.cyst`" in line and "(value 2)" in line
    assert f"row {row_of(project, 'cyst: 2')}" in line


def test_exit_status_is_how_bad_it_is(project):
    project.add("a")
    project.add("b")
    project.write()
    checked(project, 0)
    lesion = project.folder / "lesions" / "b.nii.gz"
    whole = load(lesion)
    save(lesion, np.where(whole == 2, 9, whole).astype(np.uint8))
    assert "LABEL_UNDECLARED" in checked(project, 3)  # a run goes on without it
    project.write(targets={"tumor": "one hundred", "bone": 2})
    said = checked(project, 1)
    assert "cannot be run" in said and "first fix" in said
    (project.results / "qc").mkdir(exist_ok=True)
    (project.results / "qc" / "decisions.tsv").write_text("case\tdecision\nzz\taccept\n")
    project.write(targets={"tumor": 1, "cyst": 2})
    said = checked(project, 1)
    assert "decisions.tsv" in said and "'zz' is not in the case table" in said

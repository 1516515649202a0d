"""A lesion file for each target: columns `lesion_<target>`, beside `lesion` or instead of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from backsplit.cases.check import check_cases
from backsplit.cases.lesion import check_lesion, read_lesion
from backsplit.cases.table import open_table
from backsplit.compose.case import compose_case
from backsplit.compose.promises import assert_promises
from backsplit.config.model import Config
from backsplit.config.slices import checking, lesion_values
from backsplit.errors import CaseError, Code, RunError
from backsplit.scheme.scheme import Scheme
from backsplit.volume import read_grid, write_labels
from support.cases import read_cases
from support.composing import rules_of
from support.examples import examples
from support.project import Project, ct_like, save

SHAPE = ct_like().shape


def with_files(project, files, *, lesion=None, **columns):
    """A case with a lesion file for each name: arrays (z, y, x), or a cell of the table."""
    project.add("a", lesion=lesion, **columns)
    if lesion is None:
        del project.rows[0]["lesion"]
    for name, array in files.items():
        path = f"lesions/a_{name}.nii.gz"
        if isinstance(array, str):
            project.rows[0][f"lesion_{name}"] = array
        else:
            save(project.folder / path, array)
            project.rows[0][f"lesion_{name}"] = path


def block(value, z, dtype=np.uint8):
    array = np.zeros(SHAPE, dtype)
    array[z : z + 2, 8:11, 9:12] = value
    return array


def read(config):
    (case,), values = read_cases(config), lesion_values(config)
    grid = read_grid(case.images["ct"])
    lesion = read_lesion(case, values, grid)
    notes = [n for c in case.lesion_files for n in check_lesion(case, c, values, grid).notes]
    return lesion, notes


def ids_of(lesion):
    """The target that stands in each voxel."""
    ids = np.zeros(lesion.map.array.shape, int)
    for value, claims in lesion.claims.items():
        ids[lesion.map.array == value] = claims[0]
    return ids


@pytest.mark.parametrize("value", [1, 2, 137, 255, 65535])
def test_whatever_is_not_0_in_the_file_of_a_target_is_it(project, configured, value):
    with_files(project, {"tumor": block(value, 2, np.uint16), "cyst": block(1, 6)})
    lesion, notes = read(configured())
    ids = ids_of(lesion)
    assert (ids[2:4, 8:11, 9:12] == 1).all() and (ids[6:8, 8:11, 9:12] == 2).all()
    assert (ids > 0).sum() == 36 and lesion.given is None
    told = [] if value == 1 else [f"value {value}"]
    assert len(notes) == len(told) + 1 and all(t in notes[0] for t in told)  # cyst's value is 2


@pytest.mark.parametrize("value", [1.0, 1.0000002, 255 / 256, 1 / 255, 1e-5, 0.75, 255.0])
def test_a_mask_may_be_of_real_numbers(project, configured, value):
    drawn = block(value, 2, np.float32)
    project.add("a", lesion=drawn)
    lesion, _ = read(configured(targets={"tumor": 1}))
    np.testing.assert_array_equal(ids_of(lesion) == 1, drawn > 0)


@pytest.mark.parametrize(
    ("values", "code"),
    [((0.5, 0.75), "LABEL_NOT_INTEGER"), ((1, 2), "LABEL_UNDECLARED"),
     ((np.nan, np.nan), "LABEL_NOT_INTEGER"), ((-0.5, -0.5), "LABEL_NOT_INTEGER")],
)  # fmt: skip
def test_a_mask_has_one_value(project, configured, values, code):
    drawn = block(values[0], 2, np.float32)
    drawn[6] = values[1]
    with_files(project, {"tumor": drawn, "cyst": "none"})
    with pytest.raises(CaseError) as caught:
        read(configured())
    assert caught.value.code == code


def test_several_values_in_the_file_of_a_target_are_instances_where_it_says_so(project, configured):
    drawn = block(3, 2) + block(7, 6)
    with_files(project, {"tumor": drawn, "cyst": block(4, 9)})
    with pytest.raises(CaseError) as caught:
        read(configured())
    assert caught.value.code is Code.LABEL_UNDECLARED
    assert "holds the values 3, 7" in caught.value.what and '"*"' in caught.value.remedy
    lesion, _ = read(configured(targets={"tumor": "*", "cyst": 2}))
    where = np.flatnonzero(lesion.map.array)
    numbers = lesion.given.at(where, ids_of(lesion).reshape(-1)[where])
    assert sorted(set(numbers.tolist())) == [3, 7, 11]  # the cyst's 4 follows the tumours' 7


def test_one_value_stands_for_a_single_target_and_no_other(project, configured):
    """But where the configuration names a value other than 1, a file of another one is none."""
    project.add("a", lesion=block(255, 2))
    lesion, notes = read(configured(targets={"tumor": 1}))
    assert (ids_of(lesion) == 1).sum() == 18 and "(value 255)" in notes[0]
    for targets in ({"tumor": 2}, {"tumor": 1, "cyst": 2}):
        with pytest.raises(CaseError) as caught:
            read(configured(targets=targets))
        assert caught.value.code is Code.LABEL_UNDECLARED


def test_where_files_overlap_the_first_target_stands_and_the_account_says_so(project, configured):
    with_files(project, {"tumor": block(1, 3), "cyst": block(1, 2)})
    lesion, _ = read(configured())
    scheme = Scheme({"tumor": (1,), "cyst": (2,)}, ("background", "tumor", "cyst"), {})
    made = compose_case(lesion.map.grid, lesion, [], {}, lambda: None, rules_of(scheme))
    assert made.counts[:3].tolist() == [lesion.map.array.size - 27, 18, 9]
    (overruled,) = made.overruled
    assert (overruled.loser.label, overruled.winner.label, overruled.voxels) == (2, 1, 9)


def test_none_is_said_for_each_target(project, configured):
    with_files(project, {"tumor": "none", "cyst": block(1, 2)})
    lesion, _ = read(configured())
    assert set(ids_of(lesion).ravel()) == {0, 2}
    project.rows[0]["lesion_cyst"] = "none"
    assert read(configured())[0] is None


def test_an_empty_cell_and_an_empty_file_are_said(project, configured):
    with_files(project, {"tumor": "", "cyst": np.zeros(SHAPE, np.uint8)})
    config = configured()
    cases = read_cases(config)
    problems, (checked,) = check_cases(cases, cases, checking(config), project.folder / "c.tsv")
    assert [(p.column, p.code) for p in problems] == [("lesion_tumor", Code.FILE_MISSING)]
    project.rows[0]["lesion_tumor"] = "none"
    cases = read_cases(config := configured())
    problems, (checked,) = check_cases(cases, cases, checking(config), project.folder / "c.tsv")
    assert not problems
    assert "a_cyst.nii.gz has no lesion voxel; write `none`" in checked.message


def test_a_column_beside_lesion_takes_its_target_out_of_it(project, configured):
    project.add("a", lesion=block(1, 2))
    project.rows[0]["lesion_cyst"] = "lesions/cyst.nii.gz"
    save(project.folder / "lesions" / "cyst.nii.gz", block(9, 6))
    lesion, _ = read(configured())
    assert [(ids_of(lesion) == target).sum() for target in (1, 2)] == [18, 18]
    for beside in (block(1, 2) + block(2, 9), block(2, 9)):  # alone it is no mask of the tumour
        save(project.folder / "lesions" / "a.nii.gz", beside)
        with pytest.raises(CaseError) as caught:
            read(configured())
        assert "which is cyst, and cyst has the column lesion_cyst" in caught.value.what


@pytest.mark.parametrize(
    ("columns", "targets", "needle"),
    [
        (["lesion", "lesion_tumour"], {"tumor": 1}, "lesion_tumour, which belongs to no target"),
        (["lesion", "lesion_tumor"], {"tumor": 1}, "and one for each target"),
        (["lesion_tumor"], {"tumor": 1, "cyst": 2}, "lacks the column lesion"),
        (["lesion"], {"tumor": 1, "cyst": 1}, "share the value 1"),
        (["lesion", "lesion_cyst"], {"tumor": 1, "cyst": 1}, None),
        (["lesion_tumor", "lesion_cyst"], {"tumor": "*", "cyst": "*"}, None),
    ],
)
def test_columns_of_the_table_fit_the_targets(project, configured, columns, targets, needle):
    project.add("a")
    row = {k: v for k, v in project.rows[0].items() if k != "lesion"}
    project.rows[0] = row | dict.fromkeys(columns, "none")
    config = configured(targets=targets)
    if needle is None:
        assert len(open_table(config)) == 1
        return
    with pytest.raises(RunError) as caught:
        open_table(config)
    assert needle in caught.value.what


def test_values_where_nobody_looked(project, configured):
    drawn = block(1, 2)
    drawn[9:] = 255
    project.add("a", lesion=drawn)
    lesion, notes = read(configured(targets={"tumor": 1}, ignore=255))
    ids = ids_of(lesion)
    assert not notes and (ids == 1).sum() == 18
    assert (ids[9:] == 4).all()  # background, tumor, bone, fat, ignore


@examples(60)
@given(st.lists(hnp.arrays(np.uint8, (4, 5, 6), elements=st.sampled_from([0, 0, 1, 200, 255])),
                min_size=2, max_size=4), st.booleans())  # fmt: skip
def test_every_voxel_of_every_file_is_a_lesion_of_the_label_map(tmp_path_factory, arrays, numbered):
    """Random files: a voxel is the first target whose file holds it, to the voxel."""
    project = Project(tmp_path_factory.mktemp("files"))
    names = [f"t{number}" for number in range(len(arrays))]
    drawn = arrays if numbered else [(a > 0) * (a.max() or 1) for a in arrays]
    with_files(project, dict(zip(names, drawn, strict=True)))
    save(project.folder / "images" / "a.nii.gz", np.arange(120, dtype=np.int16).reshape(4, 5, 6))
    project.settings["dataset"]["cases"] = str(project.folder / "cases.tsv")
    project.write(targets={n: "*" if numbered else i + 1 for i, n in enumerate(names)})
    lesion, _ = read(Config.model_validate(project.settings))
    scheme = Scheme(dict.fromkeys(names, (1,)), ("background", *names), {})
    rules = rules_of(scheme)
    made = compose_case(lesion.map.grid, lesion, [], {}, lambda: None, rules)
    expected = np.zeros(arrays[0].shape, int)
    for target, array in reversed(list(enumerate(drawn, start=1))):
        expected[array > 0] = target
    np.testing.assert_array_equal(made.labels, expected)
    path = project.folder / "labels.nii.gz"
    write_labels(path, made.labels, lesion.map.grid)
    assert_promises(path, lesion.map.grid, lesion, scheme, rules.precedence)
    if numbered:  # each value of each file that has a voxel left is one lesion
        seen = {(t, int(v)) for t, v in zip(expected.ravel(), _of(drawn, expected), strict=True)}
        assert len(made.lesions) == len({pair for pair in seen if pair[0]})


def _of(arrays, expected):
    """Value that the winning file has in each voxel."""
    stack = np.stack([np.zeros_like(arrays[0]), *arrays])
    return np.take_along_axis(stack, expected[None], axis=0)[0].ravel()

"""Tables of classes as programs ship them: each form says the same, and what is none is refused."""

from __future__ import annotations

import json

import pytest

from backsplit.errors import Code, RunError
from backsplit.segment.label_table import read_label_table

WANTED = {"liver": 1, "left kidney": 3, "vertebra L1": 40}
ITK_SNAP = """\
################################################
# ITK-SnAP Label Description File
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
    0     0    0    0        0  0  0    "Clear Label"
    1   255    0    0        1  1  1    "liver"
    3     0  255    0      0.5  1  1    "left kidney"
   40     0    0  255        1  0  1    "vertebra L1"
"""
FORMS = {
    "names.json": json.dumps({"background": 0, **WANTED}),
    "values.json": json.dumps({"0": "background"} | {str(v): n for n, v in WANTED.items()}),
    "dataset.json": json.dumps({"labels": {"background": 0, **WANTED}, "numTraining": 9}),
    "text.json": json.dumps({name: str(value) for name, value in WANTED.items()}),
    "list.json": json.dumps([{"id": v, "name": n, "colour": "red"} for n, v in WANTED.items()]),
    "under.json": json.dumps({"labels": [{"label": v, "name": n} for n, v in WANTED.items()]}),
    "snap.txt": ITK_SNAP,
    "comma.csv": "Name,Value\n" + "".join(f"{n},{v}\n" for n, v in WANTED.items()),
    "semicolon.csv": "index;label;r\n" + "".join(f"{v};{n};9\n" for n, v in WANTED.items()),
    "tab.tsv": "\ufeffid\tstructure\n0\tbackground\n"
    + "".join(f"{v}\t{n}\n" for n, v in WANTED.items()),
}


@pytest.mark.parametrize("name", FORMS)
def test_each_form_gives_the_same_classes(tmp_path, name):
    path = tmp_path / name
    path.write_text(FORMS[name], "utf-8")
    assert read_label_table(path) == WANTED


@pytest.mark.parametrize("text", [
    "", "{}", "[]", "[1, 2]", '"liver"', "{", '{"liver": -1}', '{"liver": 1.5}', '{"liver": 65536}',
    '{"liver": 1, "spleen": 1}', '[{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]',
    "index,name,value\n0,liver,5\n1,spleen,1\n", '[{"id": 1, "name": "liver", "label": 6}]',
    '{"liver": null}', '{"a\\u0000b": 1}', "colour,shape\nred,round\n", '{"labels": {"a": [1, 2]}}',
])  # fmt: skip
def test_what_is_no_table_is_refused(tmp_path, text):
    path = tmp_path / "table"
    path.write_text(text, "utf-8")
    with pytest.raises(RunError) as caught:
        read_label_table(path)
    assert caught.value.code is Code.CONFIG_INVALID and str(path) in caught.value.what


def test_a_table_that_is_not_there_is_told(tmp_path):
    with pytest.raises(RunError) as caught:
        read_label_table(tmp_path / "gone.json")
    assert caught.value.code is Code.CONFIG_INVALID

"""Settings of training: where they come from, what is refused, and what they decide."""

from __future__ import annotations

import json

import pytest

from backsplit.errors import Code, RunError
from backsplit.train.settings import FILE, VARIABLE, Settings, has_side, read_settings
from support.project import ROOT


def test_the_environment_goes_before_the_data_set(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert read_settings(tmp_path) == Settings()
    (tmp_path / FILE).write_text(json.dumps({"targets": 1, "epochs": 20}))
    assert read_settings(tmp_path) == Settings(targets=1, epochs=20)
    monkeypatch.setenv(VARIABLE, '{"epochs": 3}')
    assert read_settings(tmp_path) == Settings(targets=1, epochs=3)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"target": 0.5}', "`target`"),
        ('{"targets": 1.5}', "`targets`"),
        ('{"epochs": 0}', "`epochs`"),
        ("[1]", "not a JSON object"),
        ("{targets: 1}", "not a JSON object"),
        ('{"target_dice": NaN}', "`target_dice`"),
    ],
)
@pytest.mark.parametrize("by_file", [True, False])
def test_a_setting_that_there_is_not_is_refused(tmp_path, monkeypatch, text, told, by_file):
    if by_file:
        (tmp_path / FILE).write_text(text)
    else:
        monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(RunError, match=told) as refused:
        read_settings(tmp_path)
    assert refused.value.code is Code.TRAINING_UNSUITED
    assert (str(tmp_path) if by_file else VARIABLE) in str(refused.value)


@pytest.mark.parametrize(
    "name", ["kidney_left", "right_lung", "LeftKidney", "kidney-L", "rib_left_4", "eye r"]
)
def test_a_name_with_a_side(name):
    assert has_side(name)
    assert not Settings().mirrors(["background", "tumor", name])
    assert Settings(mirroring=True).mirrors([name])


@pytest.mark.parametrize(
    "name", ["kidney", "vertebrae_L4", "lung", "cleft", "bright", "colon", "background"]
)
def test_a_name_without_a_side(name):
    assert not has_side(name)
    assert Settings().mirrors(["background", name])
    assert not Settings(mirroring=False).mirrors([name])


def test_the_nearest_label_is_taken_where_classes_are_many():
    assert [Settings().takes_nearest(count) for count in (2, 19, 20, 118)] == [0, 0, 1, 1]
    assert Settings(nearest=True).takes_nearest(2) and not Settings(nearest=False).takes_nearest(99)


def test_each_setting_is_explained():
    text = (ROOT / "docs" / "training.md").read_text()
    assert [name for name in Settings.model_fields if f"| `{name}` |" not in text] == []

"""The package as a house: few rooms, small modules, values that nobody changes.

`lint-imports`, a part of `make lint`, holds the order of the floors.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections import Counter
from dataclasses import is_dataclass

import backsplit
from support.project import ROOT

PACKAGE = ROOT / "workflow" / "src" / "backsplit"


def test_no_module_has_more_than_400_lines():
    modules = {path: len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert modules and {path: lines for path, lines in modules.items() if lines > 400} == {}


def test_the_package_has_at_most_20_rooms():
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert 0 < len(rooms - {"__init__", "__pycache__"}) <= 20


def test_no_two_files_of_tests_have_the_same_name():
    """Pytest imports them by name alone; one run of all of them would end with an error."""
    counted = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert counted and [name for name, files in counted.items() if files > 1] == []


CANVAS = "backsplit.report.pictures.montage.Page"
"""Is drawn on, and never handed on."""


def test_what_stages_hand_on_cannot_be_changed():
    """Every dataclass with a public name is frozen."""
    open_ones = []
    for info in pkgutil.walk_packages(backsplit.__path__, "backsplit."):
        module = importlib.import_module(info.name)
        for name, found in inspect.getmembers(module, inspect.isclass):
            own = found.__module__ == module.__name__ and is_dataclass(found)
            if own and not name.startswith("_") and not found.__dataclass_params__.frozen:
                open_ones.append(f"{module.__name__}.{name}")
    assert open_ones == [CANVAS]

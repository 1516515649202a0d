"""The command finds each verb where it is, and loads no other."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module

import pytest
from typer.main import get_command, get_group

from backsplit.cli import GROUPS, VERBS, app


def test_every_verb_of_a_module_is_a_verb_of_the_command():
    modules = dict.fromkeys(VERBS.values())
    held = [
        (verb, module)
        for module in modules
        for verb in get_group(import_module(f"backsplit.cli.{module}").app).commands
    ]
    assert held == list(VERBS.items())
    shown = get_command(app)
    assert list(shown.commands) == [*VERBS, *GROUPS]
    for name in shown.commands:
        assert shown.commands[name].name == name and shown.commands[name].help


@pytest.mark.parametrize("verb", ["compose", "judge", "status"])
def test_a_verb_loads_no_other_module_of_verbs(verb):
    look = (
        "import sys; from backsplit.cli import app\n"
        f"try: app([{verb!r}, '--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in sys.modules if name.startswith('backsplit.cli.')])"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    loaded = set(ast.literal_eval(done.stdout.splitlines()[-1]))
    others = {f"backsplit.cli.{module}" for module in (*VERBS.values(), *GROUPS)}
    assert loaded & others == {f"backsplit.cli.{VERBS[verb]}"}


def test_a_verb_that_there_is_not_is_refused_with_the_nearest():
    done = subprocess.run(
        [sys.executable, "-c", "from backsplit.cli import app; app()", "chekc"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "Did you mean 'check'" in done.stderr

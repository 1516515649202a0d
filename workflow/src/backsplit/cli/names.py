"""Shell completion of cases, segmenters and arms of the configuration in use.

A shell asks at each press of Tab. So this imports only what reads YAML and a table, validates
nothing, and offers nothing if anything is wrong. Completions end up on a command line: names that a
shell would not take literally are left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer

from backsplit.cli.common import DEFAULT_CONFIG, known_configs

LITERAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

Complete = Callable[[typer.Context, str], list[str]]


def _completing(names: Callable[[Any], Iterable[object]]) -> Complete:
    """A completion function for typer, from one that finds all names in a configuration."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        with suppress(Exception):
            every = map(str, names(_settings(ctx)))
            return [n for n in every if n.startswith(incomplete) and LITERAL.fullmatch(n)]
        return []

    return complete


def _settings(ctx: typer.Context) -> Any:  # noqa: ANN401 (whatever the file holds)
    """The configuration as written: the one given, else the one that would be used."""
    import yaml

    given = ctx.params.get("config") or DEFAULT_CONFIG
    path = given if given != DEFAULT_CONFIG else next(p for p in known_configs() if p.exists())
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(Path(path).read_text("utf-8"), Loader=loader)  # noqa: S506 (both are safe)


def _cases(settings: Any) -> Iterator[str]:  # noqa: ANN401
    from backsplit.store.tsv import read_table

    header, rows = read_table(Path(settings["dataset"]["cases"]))
    column = header.index("case")
    return (row[column].strip() for row in rows)


def _arms(settings: Any) -> Iterator[str]:  # noqa: ANN401
    """Arms of the study; an entry that stands for several is expanded as `study.arms` does."""
    every = list(settings["structures"])
    nested = (settings.get("compose") or {}).get("nested") or every
    for name, given in settings["study"]["arms"].items():
        section = given or {}
        left_out = section.get("leave_one_out")
        if section.get("nested"):
            wanted = section.get("structures", "all")
            count = sum(wanted == "all" or one in wanted for one in nested)
            yield from (f"{name}_{number}" for number in range(count + 1))
        elif left_out:
            parts = [left_out] if isinstance(left_out, str) else left_out
            yield from (f"{name}_{part}" for part in parts)
        else:
            yield name


complete_cases = _completing(_cases)
complete_segmenters = _completing(lambda settings: settings["segmenters"])
complete_arms = _completing(_arms)

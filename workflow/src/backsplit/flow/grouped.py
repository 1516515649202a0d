"""Problems of many cases in a few lines: each kind once, with the cases that have it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePath

from backsplit.errors import Problem, shown

MOST_NAMED = 5
"""Cases that a line names."""

MOST_OF_A_KIND = 3
"""Lines about one column and code."""


def lines(problems: Sequence[Problem], cases: int, table: str | None) -> Iterator[str]:
    """A line for each kind of problem.

    What is the same but for the names of files is one line; of what differs in more (sizes,
    distances) the first are whole and the others counted.

    Parameters
    ----------
    problems : of single cases
    cases : how many there are
    table : where every case's problems are named; None where no table is written: then every
        line is whole
    """
    kinds: dict[tuple[str, str | None], dict[str, list[Problem]]] = {}
    for problem in problems:
        kind = kinds.setdefault((problem.code, problem.column), {})
        kind.setdefault(_without_names(problem, problem.what), []).append(problem)
    for (code, column), groups in kinds.items():
        same = list(groups.values())
        most = len(same) if table is None else MOST_OF_A_KIND
        for group in same[:most]:
            yield str(group[0]) if len(group) == 1 else _line(group, cases)
        if rest := [problem for group in same[most:] for problem in group]:
            yield (
                f"{shown(rest[0].file)}, `{column}`: {len(rest)} more like these "
                f"({_names(rest)}); {table} says what is wrong with each (code {code})"
            )


def _line(group: Sequence[Problem], cases: int) -> str:
    first = group[0]
    rows = ", ".join(str(problem.row) for problem in group[:MOST_NAMED])
    rows += ", …" if len(group) > MOST_NAMED else ""
    remedies = {_without_names(problem, problem.remedy) for problem in group}
    remedy = first.remedy
    if len({problem.remedy for problem in group}) > 1:
        remedy = (
            remedies.pop()
            if len(remedies) == 1 and "…" not in "".join(remedies)
            else (f"for {first.case}: {first.remedy}")
        )
    return (
        f"{shown(first.file)}, `{first.column}`: {_without_names(first, first.what)} in "
        f"{len(group)} of {cases} cases ({_names(group)}; rows {rows}); {remedy} "
        f"(code {first.code})"
    )


def _names(problems: Sequence[Problem]) -> str:
    return named(list(dict.fromkeys(str(problem.case) for problem in problems)))


def named(cases: Sequence[str]) -> str:
    """Some cases by name, and how many more there are."""
    more = f", … {len(cases) - MOST_NAMED} more" if len(cases) > MOST_NAMED else ""
    return ", ".join(cases[:MOST_NAMED]) + more


def _without_names(problem: Problem, text: str) -> str:
    """A text without the file and the case that it is about.

    A name without a letter, or of one letter, may as well be a figure or a word of the text.
    """
    for name in (PurePath(problem.value or "").name, problem.case or ""):
        if len(name) > 1 and any(map(str.isalpha, name)):
            whole = rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])"
            text = re.sub(rf"\S*{whole}\S*", "…", text)
    return re.sub(r"^…:? | \(\d+ voxels\)", "", text)

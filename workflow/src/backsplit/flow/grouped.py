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


def lines(problems: Sequence[Problem], cases: int, table: str) -> Iterator[str]:
    """A line for each kind of problem.

    What is the same but for the names of files is one line; of what differs in more (sizes,
    distances) the first are whole and the others counted.

    Parameters
    ----------
    problems : of single cases
    cases : how many there are
    table : where every case's problems are named
    """
    kinds: dict[tuple[str, str | None], dict[str, list[Problem]]] = {}
    for problem in problems:
        kind = kinds.setdefault((problem.code, problem.column), {})
        kind.setdefault(_without_names(problem, problem.what), []).append(problem)
    for (code, column), groups in kinds.items():
        same = list(groups.values())
        for group in same[:MOST_OF_A_KIND]:
            yield str(group[0]) if len(group) == 1 else _line(group, cases)
        if rest := [problem for group in same[MOST_OF_A_KIND:] for problem in group]:
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
    names = list(dict.fromkeys(str(problem.case) for problem in problems))
    more = f", … {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _without_names(problem: Problem, text: str) -> str:
    """A text without the file and the case that it is about."""
    for name in filter(None, (PurePath(problem.value or "").name, problem.case)):
        text = re.sub(rf"\S*{re.escape(name)}\S*", "…", text)
    return re.sub(r"^…:? | \(\d+ voxels\)", "", text)

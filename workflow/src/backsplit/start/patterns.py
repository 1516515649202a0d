"""Any other layout, by patterns: `{case}/ct.nii.gz` for images, `{case}/gtv.nii.gz` for lesions."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import translate
from pathlib import Path

from backsplit.config.base import RESERVED_NAMES
from backsplit.config.lesion_words import is_lesion
from backsplit.errors import Code, RunError
from backsplit.start.found import Found, FoundCase, Given
from backsplit.start.names import few, is_config_name, name_of, unlike

FIELD = re.compile(r"\{(case|patient|name)\}")
PIECES = re.compile(r"(\{case\}|\{patient\}|\{name\}|\*\*/|\*|\?|\[!?+\]?+[^\]/]*\])")

COLUMN = "anatomy"
"""Column of the table for what stands before `{name}` in the path of a case's anatomy."""

Key = tuple[str, str]
"""Patient (empty where a pattern does not name it) and case."""

Binaries = Mapping[Key, Mapping[str, Path]]
"""Case to a file for each name."""


@dataclass(frozen=True)
class Patterns:
    """Patterns of files, whose paths start at the folder.

    `{case}` and `{patient}` stand for parts of a name, `*`, `?` and `[…]` are as in a shell.

    Attributes
    ----------
    images : channel to pattern
    lesion : of label files, which may hold several targets and anatomy; with `{name}` of one
        binary file for each structure, lesions among them
    lesions : target to the pattern of its own files
    anatomy : segmenter name to pattern of anatomy that somebody drew; with `{name}` of one binary
        file for each structure
    labels : name to value; names of anatomy are those of `anatomy`, where it is in one file
    """

    images: Mapping[str, str]
    lesion: str = ""
    lesions: Mapping[str, str] = field(default_factory=dict)
    anatomy: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)


def find_by_patterns(root: Path, patterns: Patterns) -> Found:
    """Find cases whose paths from `root` fit patterns.

    Raises
    ------
    RunError
        LAYOUT_UNKNOWN when a pattern names no case, or two files fit for one case.
    """
    named = "{name}" in patterns.lesion
    binaries = {name: p for name, p in patterns.anatomy.items() if "{name}" in p}
    if named:
        binaries[unlike("given", patterns.anatomy)] = patterns.lesion
    images = {channel: _single(root, pattern) for channel, pattern in patterns.images.items()}
    lesion = _single(root, patterns.lesion) if patterns.lesion and not named else {}
    lesions = {target: _single(root, pattern) for target, pattern in patterns.lesions.items()}
    taken = {path for table in (*images.values(), *lesions.values()) for path in table.values()}
    by_name = {segmenter: _by_name(root, p, taken) for segmenter, p in binaries.items()}
    if named:
        lesions |= _lesions_among(list(by_name.values())[-1])
    columns = {
        f"{COLUMN}_{name}": _heads(by_name[name], binaries[name])
        if name in by_name
        else _single(root, pattern)
        for name, pattern in {**patterns.anatomy, **binaries}.items()
    }
    keys = _joined([*images.values(), lesion, *lesions.values(), *columns.values()])
    ids = _ids(keys.values())
    cases = []
    for key in sorted(ids):
        mine = [k for k, joined in keys.items() if joined == key]
        cases.append(
            FoundCase(
                ids[key],
                _of(images, mine),
                next((lesion[k] for k in mine if k in lesion), None),
                key[0],
                _of(lesions, mine),
                columns=_of(columns, mine),
            )
        )
    labels, given = _given(patterns, by_name, binaries)
    decide = _incomplete(cases, patterns)
    return Found("patterns", cases, list(images), labels, given=given, decide=decide)


def with_anatomy(
    root: Path, found: Found, anatomy: Mapping[str, str], labels: Mapping[str, int]
) -> Found:
    """Add anatomy that somebody drew to the cases of a layout, by patterns as `Patterns` has them.

    `{case}` stands for the name that the layout gives a case.

    Raises
    ------
    RunError
        LAYOUT_UNKNOWN when a pattern matches no file of any case, or two for one.
    """
    binaries = {name: pattern for name, pattern in anatomy.items() if "{name}" in pattern}
    taken = {
        path for case in found.cases for path in (*case.images.values(), *case.lesions.values())
    }
    taken |= {case.lesion for case in found.cases if case.lesion is not None}
    by_name = {name: _by_name(root, pattern, taken) for name, pattern in binaries.items()}
    columns: dict[str, dict[str, Path]] = {}
    for name, pattern in anatomy.items():
        single = _heads(by_name[name], pattern) if name in by_name else _single(root, pattern)
        columns[f"{COLUMN}_{name}"] = files = {case: path for (_, case), path in single.items()}
        if not files.keys() & {case.id for case in found.cases}:
            names = few([case.id for case in found.cases])
            raise _wrong(
                f"--labels {name}: {pattern!r} matches no file of any case ({names})",
                "put {case} in place of the case's name",
            )
    cases = [
        replace(
            case,
            columns={
                **case.columns,
                **{column: files[case.id] for column, files in columns.items() if case.id in files},
            },
        )
        for case in found.cases
    ]
    _, given = _given(Patterns({}, anatomy=anatomy, labels=labels), by_name, binaries)
    return replace(found, cases=cases, given={**found.given, **given})


def _of(tables: Mapping[str, Mapping[Key, Path]], keys: Sequence[Key]) -> dict[str, Path]:
    """What belongs to a case, by the names of the tables."""
    return {name: table[key] for name, table in tables.items() for key in keys if key in table}


def _given(
    patterns: Patterns, by_name: Mapping[str, Binaries], binaries: Mapping[str, str]
) -> tuple[dict[str, int], dict[str, Given]]:
    """Labels of the lesion files, and the segmenters of anatomy in files of its own.

    Where anatomy is in one file, the names that are no lesion's are its labels.
    """
    whole = [name for name in patterns.anatomy if name not in binaries]
    labels = {n: v for n, v in patterns.labels.items() if not whole or is_lesion(n)}
    others = {n: v for n, v in patterns.labels.items() if n not in labels}
    given = {name: Given(f"{{{COLUMN}_{name}}}", list(others), others) for name in whole}
    for name, files in by_name.items():
        if organs := _organs(files):
            other = organs if any(organ != file for organ, file in organs.items()) else {}
            given[name] = Given(_files_path(name, binaries[name]), list(organs), files=other)
    return labels, given


def _incomplete(cases: Sequence[FoundCase], patterns: Patterns) -> list[str]:
    """Cases that some pattern finds no file for."""
    decide = []
    for channel, pattern in patterns.images.items():
        without = [case.id for case in cases if channel not in case.images]
        if without:
            decide.append(
                f"{len(without)} of {len(cases)} cases match no image {pattern!r}: {few(without)}"
            )
    lesions = list(dict.fromkeys(target for case in cases for target in case.lesions))
    for target in lesions:
        without = [case.id for case in cases if target not in case.lesions]
        if without:
            decide.append(
                f"{len(without)} of {len(cases)} cases have no file of {target} "
                f"({few(without)}): write `none` in the column lesion_{target} where the patient "
                "has none"
            )
    return decide


def _joined(tables: Sequence[Mapping[Key, object]]) -> dict[Key, Key]:
    """Each key to the one of its case: a pattern without a patient joins those with one.

    Raises
    ------
    RunError
        LAYOUT_UNKNOWN where it could join several patients.
    """
    keys = list(dict.fromkeys(key for table in tables for key in table))
    patients: dict[str, set[str]] = {}
    for patient, case in keys:
        patients.setdefault(case, set()).update({patient} - {""})
    joined: dict[Key, Key] = {}
    for patient, case in keys:
        known = patients[case]
        if not patient and len(known) > 1:
            raise RunError(
                Code.LAYOUT_UNKNOWN,
                f"the case {case} belongs to the patients {' and '.join(sorted(known))}, and a "
                "pattern names no patient",
                "put {patient} into every pattern, or make them narrower",
            )
        joined[(patient, case)] = (patient or next(iter(known), ""), case)
    return joined


def _ids(keys: Iterable[Key]) -> dict[Key, str]:
    """A case's name, with its patient's before it where several patients have such a case."""
    every = list(dict.fromkeys(keys))
    names = [case for _, case in every]
    return {(p, c): f"{p}_{c}" if names.count(c) > 1 and p else c for p, c in every}


def _single(root: Path, pattern: str) -> dict[Key, Path]:
    """Key to its one file."""
    found: dict[Key, Path] = {}
    for path, fields in _matching(root, pattern):
        key = (fields.get("patient", ""), fields["case"])
        if key in found:
            raise RunError(
                Code.LAYOUT_UNKNOWN,
                f"{path} and {found[key]} both fit {pattern!r} for the case {key[1]}",
                "make the pattern narrower, or name the patient in it by {patient}",
            )
        found[key] = path
    return found


def _by_name(root: Path, pattern: str, taken: Collection[Path]) -> dict[Key, dict[str, Path]]:
    """Key to a file for each name, without files that are taken for something else."""
    tail = pattern.partition("{name}")[2]
    if not re.fullmatch(r"[^{}*?\[\]/]*", tail):
        raise _wrong(f"what follows {{name}} in {pattern!r} is not fixed", "end it with .nii.gz")
    found: dict[Key, dict[str, Path]] = {}
    for path, fields in _matching(root, pattern):
        key = (fields.get("patient", ""), fields["case"])
        if path in taken:
            continue
        if fields["name"] in found.setdefault(key, {}):
            raise _wrong(f"two files fit {pattern!r} for {key[1]}: {path}", "make it narrower")
        found[key][fields["name"]] = path
    return found


def _organs(files: Binaries) -> dict[str, str]:
    """Names of anatomy that the configuration can have, and what their files are called."""
    called = sorted({name for found in files.values() for name in found if not is_lesion(name)})
    organs = {name: name for name in called if is_config_name(name)}
    for name in called:
        if name not in organs and name not in RESERVED_NAMES:  # `01 Liver (whole)`
            organs[unlike(name_of(re.sub(r"^[\W\d_]+", "", name)), organs)] = name
    return organs


def _lesions_among(files: Binaries) -> dict[str, dict[Key, Path]]:
    """Lesion to its files, among those of all structures."""
    names = sorted({name for found in files.values() for name in found if is_lesion(name)})
    return {n: {key: found[n] for key, found in files.items() if n in found} for n in names}


def _heads(files: Binaries, pattern: str) -> dict[Key, Path]:
    """What stands before `{name}` in the paths of a case: its folder, or more."""
    tail = pattern.partition("{name}")[2]
    return {
        key: Path(path.as_posix()[: -len(name + tail)])
        for key, found in files.items()
        for name, path in found.items()
    }


def _files_path(segmenter: str, pattern: str) -> str:
    """Path of the segmenter's files, from the column."""
    head, _, tail = pattern.partition("{name}")
    slash = "/" if head.endswith("/") or not head else ""
    return f"{{{COLUMN}_{segmenter}}}{slash}{{name}}{tail}"


def _matching(root: Path, pattern: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """Paths that fit, with what its fields stand for; one expression says both."""
    if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
        raise _wrong(f"the pattern {pattern!r} does not start at {root}", "leave that out")
    if "case" not in FIELD.findall(pattern):
        raise _wrong(
            f"the pattern {pattern!r} names no case",
            "put {case} in place of the case's name, as in {case}/ct.nii.gz",
        )
    expression = re.compile(as_expression(pattern))
    for path in sorted(root.glob(FIELD.sub("*", pattern))):
        match = expression.fullmatch(path.relative_to(root).as_posix())
        if match is not None and not path.name.startswith("._"):
            yield path, {name: value or "" for name, value in match.groupdict().items()}


def as_expression(pattern: str) -> str:
    """Regular expression of a pattern; a field that comes again must be the same.

    Wildcards are those of a shell: `*` and `?` within a name, `[abc]`, `[a-c]` and `[!a]` one
    character, `**/` any folders.
    """
    seen: set[str] = set()
    return "".join(_expression(part, seen) for part in PIECES.split(pattern))


def _expression(part: str, seen: set[str]) -> str:
    if field_ := FIELD.fullmatch(part):
        name = field_[1]
        if name in seen:
            return f"(?P={name})"
        seen.add(name)
        return f"(?P<{name}>[^/]+?)"
    if part in ("*", "?", "**/"):
        return {"*": "[^/]*", "?": "[^/]", "**/": "(?:.*/)?"}[part]
    if PIECES.fullmatch(part):  # as `fnmatch` has it: an expression between `(?s:` and `)\\Z`
        return f"(?!/){translate(part).removeprefix('(?s:')[:-3]}"
    return re.escape(part)


def _wrong(what: str, remedy: str) -> RunError:
    return RunError(Code.LAYOUT_UNKNOWN, what, remedy)

"""Which target each value of a lesion file is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from backsplit.cases.table import LESION, Case, lesion_column
from backsplit.config.base import IGNORE, LabelValue, TargetValue
from backsplit.config.slices import LesionValues
from backsplit.errors import CaseError, Code, shown
from backsplit.scheme.scheme import Claims
from backsplit.volume import LabelMap

MASK = (1,)
"""The value of a target that has files of its own: they are masks."""


@dataclass(frozen=True)
class FileValues:
    """What the lesion files of one column may hold.

    Attributes
    ----------
    column : of the case table
    targets : id of each target that is read from them to its values
    names : id to name, `ignore` included
    anatomy : values that segmenters read from them, with their names
    ignore : id of `ignore`, and the values that become it
    elsewhere : values of targets that have columns of their own, with their names; only for the
        column of the others
    """

    column: str
    targets: Mapping[int, TargetValue]
    names: Mapping[int, str]
    anatomy: Mapping[LabelValue, str]
    ignore: tuple[int, tuple[LabelValue, ...]]
    elsewhere: Mapping[LabelValue, str]

    @property
    def is_own(self) -> bool:
        """Whether the files are of one target alone by their column."""
        return self.column != LESION

    @property
    def mask_of(self) -> int | None:
        """The target that every value but 0 is, where a file has only one; None for none."""
        if len(self.targets) != 1 or self.anatomy:
            return None
        ((target, values),) = self.targets.items()
        single = len(values) == 1 and isinstance(values[0], int)
        return target if single and (self.is_own or values == MASK) else None

    @property
    def asked(self) -> dict[int, tuple[LabelValue, ...]]:
        """Id to the values that become it; of equal ones the first counts."""
        label, values = self.ignore
        return {**self.targets, **({label: values} if values else {})}

    @property
    def wanted(self) -> list[LabelValue]:
        """Values and names that are looked for in a file."""
        return [value for values in self.asked.values() for value in values]

    @property
    def declared(self) -> dict[LabelValue, str]:
        """Every value that may occur, with who declares it."""
        mine = {v: self.names[label] for label, values in self.asked.items() for v in values}
        return {0: "background", **self.anatomy, **mine}

    @property
    def has_instances(self) -> bool:
        """Whether the values tell single lesions apart."""
        return any(
            len(values) > 1 or any(isinstance(value, str) and "*" in value for value in values)
            for values in self.targets.values()
        )


def file_values(case: Case, column: str, values: LesionValues) -> FileValues:
    """What a column of lesion files may hold, in the table of a case."""
    names = dict(enumerate(values.targets, start=1))
    columns = {label: lesion_column(name) for label, name in names.items()}
    own = {label: c if c in case.lesions else LESION for label, c in columns.items()}
    others = [name for label, name in names.items() if own[label] != column]
    return FileValues(
        column,
        {label: values.targets[name] for label, name in names.items() if own[label] == column},
        {**names, values.ignore_id: IGNORE},
        values.anatomy.get(column, {}),
        (values.ignore_id, values.ignore),
        {} if column != LESION else {v: name for name in others for v in values.targets[name]},
    )


def target_claims(path: Path, labels: LabelMap, values: FileValues) -> Claims:
    """Which target, or `ignore`, each value of a lesion file is.

    Values that a `files` segmenter reads from the lesion file are declared, and claim nothing
    here. In DICOM other segments and regions are common and are left aside.

    Raises
    ------
    CaseError
        LABEL_UNDECLARED: a value that nobody declares, several values in the file of one target,
        or no segment of any target's name.
    """
    present = [value for value in labels.values if value not in labels.overlaps]
    single = _single(labels, present, values)
    if labels.names and not single:
        wanted = ", ".join(str(value) for value in values.wanted)
        raise CaseError(
            Code.LABEL_UNDECLARED,
            f"{path} has none of the targets {shown(wanted)}; it has "
            f"{shown(', '.join(f'{v} {n!r}' for n, v in labels.names.items()))}",
            "correct targets",
        )
    if not labels.names:
        _require_declared(path, labels, present, single, values)
    claims: dict[int, tuple[int, ...]] = {value: (label,) for value, label in single.items()}
    for value, members in labels.overlaps.items():
        found = sorted({single[member] for member in members if member in single})
        if found:
            claims[value] = tuple(found)
    return claims


def _single(labels: LabelMap, present: Sequence[int], values: FileValues) -> dict[int, int]:
    """Value of the file to the id that it becomes, overlaps left aside."""
    single: dict[int, int] = {}
    declared = {**values.declared, **values.elsewhere}
    for label, given in values.asked.items():
        for value in given:
            hits = labels.values_of(value)
            if value == "*" and not labels.names:
                hits = [v for v in present if v not in declared]
            for hit in hits:
                single.setdefault(hit, label)
    target = values.mask_of
    if target is None:
        return single
    ignored = {value for value, label in single.items() if label != target}
    if labels.names:  # a single segment is the target, whatever its number
        only = list(labels.names.values()) if len(labels.names) == 1 and values.is_own else []
    else:
        only = [value for value in present if value not in ignored]
    if len(only) == 1 and only[0] not in values.elsewhere:
        single = {**{v: label for v, label in single.items() if v in ignored}, only[0]: target}
    return single


def _require_declared(
    path: Path,
    labels: LabelMap,
    present: Sequence[int],
    single: Mapping[int, int],
    values: FileValues,
) -> None:
    known = set(single) | {v for v in values.declared if isinstance(v, int)}
    if values.is_own:  # the number of a target says nothing in a file of its own
        known = set(single) | {v for v in values.anatomy if isinstance(v, int)}
    if values.mask_of is not None and values.is_own:
        told = [v for v in present if single.get(v) in (None, values.mask_of)]
        if len(told) > 1:
            name = values.names[values.mask_of]
            raise CaseError(
                Code.LABEL_UNDECLARED,
                f"{path} holds the values {shown(', '.join(map(str, told)))}; in the column "
                f"{values.column} every voxel that is not 0 is {name}, and one value is expected",
                f'write `targets: {{{name}: "*"}}` if each value is a lesion, or `ignore: VALUE` '
                "for unannotated voxels; otherwise give the file of this target alone",
            )
    unknown = [value for value in present if value not in known]
    if not unknown:
        return
    value = unknown[0]
    voxels = int((labels.array == value).sum())
    if value in values.elsewhere:
        name = values.elsewhere[value]
        raise CaseError(
            Code.LABEL_UNDECLARED,
            f"{path} holds the value {value} ({voxels} voxels), which is {name}, and {name} has "
            f"the column {lesion_column(name)} of its own",
            f"remove the value from the file, or the column {lesion_column(name)}",
        )
    declared = ", ".join(f"{value} {name}" for value, name in values.declared.items())
    raise CaseError(
        Code.LABEL_UNDECLARED,
        f"{path} holds the value {value} ({voxels} voxels); declared values: {shown(declared)}",
        f"add it to targets, to the labels of a `files` segmenter that reads {{{values.column}}}, "
        "or to `ignore`",
    )

"""Names and ids: wildcards to classes, lookup tables, the label table that comes out."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backsplit.config import Config
from backsplit.errors import Code, Problem

Classes = Mapping[str, int]
"""What a segmenter can label: class name to the id in its label maps."""


@dataclass(frozen=True)
class Scheme:
    """The resolved naming of one data set.

    Attributes
    ----------
    targets : target name to its value in the lesion file
    names : structure and target names by id; index 0 is background
    sources : segmenter to {class name: structure name}
    ignore_id : the highest id, for voxels whose anatomy is unknown
    """

    targets: Mapping[str, int]
    names: tuple[str, ...]
    sources: Mapping[str, Mapping[str, str]]

    @property
    def ignore_id(self) -> int:
        """Id of voxels whose label is unknown: the highest, as nnU-Net wants it."""
        return len(self.names)

    @property
    def ids(self) -> dict[str, int]:
        """Name to id: background 0, targets 1..T, structures after them, ignore last."""
        return {**{name: i for i, name in enumerate(self.names)}, "ignore": self.ignore_id}

    @property
    def structures(self) -> tuple[str, ...]:
        """Auxiliary classes in order of their ids."""
        return self.names[1 + len(self.targets) :]

    @property
    def dtype(self) -> type[np.uint8] | type[np.uint16]:
        """Smallest integer type that holds every id."""
        return np.uint8 if self.ignore_id <= np.iinfo(np.uint8).max else np.uint16

    def lesion_table(self) -> NDArray[Any]:
        """Lookup table from value in the lesion file to target id; 65536 long."""
        return self._table({value: self.ids[name] for name, value in self.targets.items()})

    def layer_table(self, segmenter: str, classes: Classes) -> NDArray[Any]:
        """Lookup table from a segmenter's id to the id in the label map; 0 for unused classes."""
        wanted = self.sources.get(segmenter, {})
        ids = self.ids
        return self._table({classes[name]: ids[wanted[name]] for name in wanted})

    def _table(self, mapping: Mapping[int, int]) -> NDArray[Any]:
        table = np.zeros(65536, dtype=self.dtype)
        for value, label in mapping.items():
            table[value] = label
        return table

    def to_json(self) -> str:
        """The text of `labels.json`."""
        return json.dumps(self.ids, indent=1) + "\n"


def resolve(
    config: Config, classes: Mapping[str, Classes], file: Path
) -> tuple[Scheme, list[Problem]]:
    """Match the patterns of `structures` against what the segmenters can label.

    Parameters
    ----------
    config : the configuration
    classes : what each used segmenter can label
    file : the configuration file, for messages

    Returns
    -------
    scheme, problems
        With problems the scheme is incomplete and must not be used.
    """
    problems: list[Problem] = []
    sources: dict[str, dict[str, str]] = {name: {} for name in config.used_segmenters}
    for structure, patterns in config.structures.items():
        for pattern in patterns:
            segmenter, _, wanted = pattern.partition("/")
            if segmenter not in classes:
                continue  # its own problem is reported already
            hits = [name for name in classes[segmenter] if fnmatchcase(name, wanted)]
            if not hits:
                problems.append(_unmatched(file, structure, pattern, classes[segmenter]))
            for name in hits:
                owner = sources[segmenter].setdefault(name, structure)
                if owner != structure:
                    problems.append(
                        Problem(
                            Code.CLASS_AMBIGUOUS,
                            str(file),
                            f"{segmenter}/{name} goes to {owner!r} and to {structure!r}",
                            "give each class to one structure",
                            column=f"structures.{structure}",
                            value=pattern,
                        )
                    )
    names = ("background", *config.targets, *config.structures)
    if len(names) > np.iinfo(np.uint16).max:
        problems.append(
            Problem(
                Code.CONFIG_INVALID, str(file), f"{len(names)} labels", "65534 are the most", None
            )
        )
    return Scheme(dict(config.targets), names, sources), problems


def _unmatched(file: Path, structure: str, pattern: str, classes: Classes) -> Problem:
    segmenter, _, wanted = pattern.partition("/")
    near = difflib.get_close_matches(wanted.replace("*", ""), list(classes), n=4, cutoff=0.5)
    shown = near or sorted(classes)[:6]
    more = "" if near or len(classes) <= 6 else f", … ({len(classes)} in all)"
    return Problem(
        Code.PATTERN_UNMATCHED,
        str(file),
        f"matches no class of segmenter {segmenter!r}; "
        f"{'near names' if near else 'it has'}: {', '.join(shown)}{more}",
        f"choose one of `backsplit labels {segmenter}`",
        column=f"structures.{structure}",
        value=pattern,
    )

"""What the ids of a label map mean on a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from backsplit.config.base import IGNORE
from backsplit.scheme.colours import Colour, is_outlined, label_colours


@dataclass(frozen=True)
class Key:
    """What the ids mean: names and colours by id."""

    names: Sequence[str]
    target_count: int
    colours: Sequence[Colour]
    ignore_id: int | None

    @classmethod
    def of(cls, names: Sequence[str], target_count: int) -> Key:
        """Key of a label map; the last of its names may be `ignore`."""
        ignore_id = len(names) - 1 if names[-1] == IGNORE else None
        return cls(names, target_count, label_colours(names, target_count), ignore_id)

    def kind(self, label: int) -> str:
        """How a label is drawn: as target, ignore, outline or structure."""
        if label == self.ignore_id:
            return "ignore"
        if label <= self.target_count:
            return "target"
        return "outline" if is_outlined(self.names[label]) else "structure"

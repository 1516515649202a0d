"""The section `segmenters`: who labels anatomy, one model a kind.

A new kind is a model in the union at the end, and the module `segment/<kind>.py`.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from backsplit.config.base import TISSUE_ABOVE_HU, LabelValue, Name, OneOrMore
from backsplit.config.command import Command
from backsplit.config.kind import PATH_FIELD, LabelPath, Licensed, SegmenterSection


class TotalSegmentator(Licensed):
    """A task of the installed TotalSegmentator."""

    is_network: ClassVar[bool] = True
    places: ClassVar[tuple[str, ...]] = ("weights",)

    kind: Literal["totalsegmentator"]
    task: str = Field(default="total", description="Task name as `TotalSegmentator --task` has it.")
    fast: bool = Field(default=False, description="The 3 mm network of the task.")
    fastest: bool = Field(default=False, description="The 6 mm network of the task.")
    channel: str | None = Field(default=None, description="Channel to label. Default: the first.")
    weights: str | None = Field(
        default=None,
        description="Folder that holds the Dataset… folders; `demo` for the phantom network that "
        "ships with backsplit. Default: where `backsplit weights get` puts them.",
    )

    @model_validator(mode="after")
    def _one_speed(self) -> Self:
        if self.fast and self.fastest:
            raise ValueError("fast and fastest exclude each other; keep one")
        return self

    def input_channels(self, channels: tuple[str, ...]) -> tuple[str, ...]:
        """The channel to label."""
        return _one_of(channels, self.channel)


class NnUNet(Licensed):
    """Any trained nnU-Net v2 model."""

    is_network: ClassVar[bool] = True
    places: ClassVar[tuple[str, ...]] = ("model",)

    kind: Literal["nnunet"]
    model: Path = Field(
        description="Trained-model folder (Trainer__Plans__Configuration) with dataset.json, "
        "plans.json and fold_*."
    )
    folds: tuple[int | Literal["all"], ...] = Field(
        default=(0,), min_length=1, description="Folds to average."
    )
    checkpoint: str = Field(default="checkpoint_final.pth", description="File name in each fold.")
    mirroring: bool = Field(
        default=True, description="Test-time mirroring, where the checkpoint allows it."
    )
    step_size: float = Field(
        default=0.5, gt=0, le=1, description="Step of the sliding window as a share of the patch."
    )
    channel: OneOrMore | None = Field(
        default=None, description="Channel or channels, in the model's order."
    )

    def input_channels(self, channels: tuple[str, ...]) -> tuple[str, ...]:
        """The model's channels, in its order."""
        return channels[:1] if self.channel is None else self.channel


class MonaiBundle(Licensed):
    """A MONAI bundle."""

    is_network: ClassVar[bool] = True
    places: ClassVar[tuple[str, ...]] = ("bundle",)

    kind: Literal["monai_bundle"]
    bundle: Path = Field(
        description="Folder of the bundle, with configs/metadata.json and models/model.pt or .ts."
    )
    config: str = Field(
        default="configs/inference.json",
        pattern=r"^[^/.][^/]*/[^/.][^/]*\.(json|yaml|yml)$",
        description="The bundle's inference configuration, relative to its folder.",
    )
    checkpoint: str | None = Field(
        default=None,
        pattern=r"^[^/.][^/]*/[^/]+\.(pt|ts)$",
        description="Its weights, relative to its folder. Default: models/model.pt, else "
        "models/model.ts.",
    )
    channel: OneOrMore | None = Field(
        default=None, description="Channel or channels, in the model's order."
    )

    def input_channels(self, channels: tuple[str, ...]) -> tuple[str, ...]:
        """The model's channels, in its order."""
        return channels[:1] if self.channel is None else self.channel


class Files(Licensed):
    """Existing label files."""

    kind: Literal["files"]
    path: str = Field(
        description="Path with {case}, {column} of the table, and {name} for one binary file per "
        "structure. Columns hold paths relative to the table; the rest is relative to where you "
        "start."
    )
    labels: dict[Name, LabelValue] | tuple[Name, ...] = Field(
        description="{name: value} for one multilabel file (DICOM: the segment's number or name); "
        "with {name} in `path`, [names] or {name: file name} for one binary file each."
    )
    missing: Literal["unknown", "absent"] = Field(
        default="unknown",
        description="What a missing binary file means, or voxels outside a file on a smaller grid: "
        "the structure was not looked for (unknown), or is not in the patient (absent).",
    )

    @model_validator(mode="after")
    def _pattern_fits_labels(self) -> Self:
        if not self.labels:
            raise ValueError("labels is empty; name at least one structure")
        for _, name, layout, conversion in string.Formatter().parse(self.path):
            if layout or conversion or (name is not None and not PATH_FIELD.fullmatch(name)):
                raise ValueError("path may only contain {case}, {name} and {column}, unformatted")
        if "*" in self.path or "?" in self.path:
            raise ValueError("path cannot have * or ?; add a column to the table, and use {column}")
        if isinstance(self.labels, dict):
            values = list(self.labels.values())
            if len(set(values)) != len(values):
                raise ValueError("two names share a label value or file name")
            if self._is_binary and not all(isinstance(value, str) for value in values):
                raise ValueError(
                    "path has {name}, so labels must be a list of names, or {name: file name}"
                )
        elif not self._is_binary:
            raise ValueError("labels is a list of names, so path needs {name}")
        elif len(set(self.labels)) != len(self.labels):
            raise ValueError("a name is listed twice")
        return self

    @property
    def _is_binary(self) -> bool:
        """Whether each structure has a file of its own."""
        return "{name}" in self.path

    @property
    def label_paths(self) -> Mapping[str, LabelPath]:
        """One multilabel file, `labels`, or a binary file by the name of each structure."""
        if not self._is_binary:
            return {"labels": LabelPath(self.path)}
        files = self.labels if isinstance(self.labels, dict) else {n: n for n in self.labels}
        return {name: LabelPath(self.path, {"name": str(file)}) for name, file in files.items()}

    @property
    def label_values(self) -> Mapping[str, LabelValue]:
        """Its labels, where they are in one file."""
        return {} if self._is_binary or not isinstance(self.labels, dict) else self.labels

    @property
    def lesion_values(self) -> Mapping[LabelValue, str]:
        """Its labels, where it reads the lesion file (KiTS: the kidney beside the tumour)."""
        if self.lesion_column is None:
            return {}
        return {value: name for name, value in self.label_values.items()}


class Threshold(SegmenterSection):
    """Intensity bands inside the body; needs no weights."""

    is_anatomy: ClassVar[bool] = False

    kind: Literal["threshold"]
    channel: str | None = Field(default=None, description="Channel to label. Default: the first.")
    bands: dict[Name, tuple[float | None, float | None]] = Field(
        min_length=1,
        description="{name: [low, high]}: low <= intensity < high; null leaves a side open.",
    )
    within: Literal["body", "image"] = Field(
        default="body", description="Label only inside the body mask, or everywhere."
    )
    body_above: float | Literal["otsu"] = Field(
        default=TISSUE_ABOVE_HU,
        description=f"Intensity above which a voxel may be body. {TISSUE_ABOVE_HU:g} HU lies "
        "halfway between air and water; `otsu` finds it from the image (MR, PET).",
    )

    @model_validator(mode="after")
    def _bands_make_sense(self) -> Self:
        bounds = []
        for name, (low, high) in self.bands.items():
            lower = float("-inf") if low is None else low
            upper = float("inf") if high is None else high
            if not lower < upper:
                raise ValueError(f"band {name!r} is empty: {low} is not below {high}")
            bounds.append((lower, upper, name))
        bounds.sort()
        for (_, upper, first), (lower, _, second) in pairwise(bounds):
            if lower < upper:
                raise ValueError(f"bands {first!r} and {second!r} overlap")
        return self

    def input_channels(self, channels: tuple[str, ...]) -> tuple[str, ...]:
        """The channel to label."""
        return _one_of(channels, self.channel)


def _one_of(channels: tuple[str, ...], chosen: str | None) -> tuple[str, ...]:
    """The channel that was chosen, else the first."""
    return channels[:1] if chosen is None else (chosen,)


SegmenterConfig = Annotated[
    TotalSegmentator | NnUNet | MonaiBundle | Files | Command | Threshold,
    Field(discriminator="kind"),
]

"""The configuration as frozen models: unknown keys are errors, the JSON schema is generated."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from backsplit.config.base import (
    BACKGROUND,
    RESERVED_NAMES,
    MisfitError,
    Name,
    OneOrMore,
    Section,
    TargetValue,
)
from backsplit.config.compose import Compose
from backsplit.config.export import Export
from backsplit.config.quality import Quality
from backsplit.config.segmenters import SegmenterConfig
from backsplit.config.structures import StructureConfig
from backsplit.config.study import Study
from backsplit.store.results import Results


class Dataset(Section):
    """Which images and lesions there are."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")] = Field(
        description="Name of the data set; becomes DatasetNNN_NAME for nnU-Net."
    )
    id: int = Field(ge=1, le=999, description="nnU-Net data set id, 1 to 999.")
    cases: Path = Field(
        description="Case table (.tsv or .csv) with the columns case, image_<channel> and lesion, "
        "or lesion_<target> for a lesion file of each target. Paths in it are relative to the "
        "table."
    )
    channels: OneOrMore = Field(
        default=("ct",),
        description="Image channels in order; the table has a column image_<channel> for each.",
    )
    grid: str | None = Field(
        default=None,
        description="Channel whose grid the label maps are on. Default: the first channel.",
    )

    other_grids: Literal["refuse", "channels", "any"] = Field(
        default="channels",
        description="Label files on another grid than the image: `channels` resamples those "
        "drawn on another channel of the case, `any` those that overlap enough, `refuse` none. "
        "Files on the image's own voxels are always read exactly.",
    )

    @property
    def grid_channel(self) -> str:
        """The channel whose grid the label maps are on."""
        return self.grid or self.channels[0]

    @model_validator(mode="after")
    def _channels_make_sense(self) -> Self:
        for channel in self.channels:
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", channel):
                raise ValueError(f"channel {channel!r} is not a name of letters, digits and _")
        if len(set(self.channels)) != len(self.channels):
            raise ValueError("a channel is listed twice")
        if self.grid is not None and self.grid not in self.channels:
            raise MisfitError(("grid",), f"is not one of the channels {', '.join(self.channels)}")
        return self


class Run(Section):
    """How the work is done; nothing here changes a label."""

    results: Path = Field(default=Path("results"), description="Folder of all outputs.")
    batch_size: int = Field(
        default=16, ge=1, description="Cases per job; networks load once a job."
    )
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="auto, cpu, cuda, cuda:N or mps.",
    )
    case_minutes: float = Field(
        default=60.0,
        gt=0,
        description="A case whose network runs longer than this fails (TIME_LIMIT).",
    )
    pictures: bool = Field(
        default=True,
        description="Draw a picture of every case for the report (a few tenths of a second and "
        "0.1 MB each).",
    )
    pages: Literal["review", "all", "none"] = Field(
        default="review",
        description="Cases that get a page with a viewer (a few seconds and about 1 MB each): "
        "those to review or rejected, all, or none.",
    )
    on_bad_case: Literal["quarantine", "stop"] = Field(
        default="quarantine", description="Set a bad case aside with its code, or stop the run."
    )


class Config(Section):
    """A BackSplit data set: what goes in, who labels, what comes out."""

    dataset: Dataset
    targets: dict[Name, TargetValue] = Field(
        min_length=1,
        description="{name: value in the lesion file}; ids 1..T in the output. A list of values, "
        "or `*` for all, makes each value an instance of the target. In DICOM a value is a "
        "segment's number or its name. In its own file (column lesion_<target>) a target is "
        "every voxel that is not 0.",
    )
    ignore: TargetValue | None = Field(
        default=None,
        description="Values of the lesion files for unannotated voxels (nnU-Net's ignore label): "
        "their voxels are `ignore` in the label map.",
    )
    segmenters: dict[Name, SegmenterConfig] = Field(
        min_length=1, description="{name: what labels anatomy}."
    )
    structures: dict[Name, StructureConfig] = Field(
        min_length=1,
        description="{name: segmenter/class, or a list, or {of, by, disagree}; * and ? are "
        "wildcards}; ids after the targets, in this order.",
    )
    compose: Compose = Compose()
    qc: Quality = Quality()
    export: Export = Export()
    run: Run = Run()
    study: Study | None = Field(
        default=None,
        description="Tests whether splitting the background helps; `snakemake study` runs it.",
    )

    @field_validator("targets", "segmenters", "structures")
    @classmethod
    def _names_free(cls, named: dict[str, Any]) -> dict[str, Any]:
        taken = sorted(RESERVED_NAMES & set(named))
        if taken:
            raise MisfitError((taken[0],), "is a reserved name; choose another one")
        return named

    @model_validator(mode="after")
    def _values_fit(self) -> Self:
        for name, given in self.targets.items():
            if len(set(given)) != len(given):
                raise MisfitError(("targets", name), "lists a value twice")
            if shared := set(given) & set(self.ignore or ()):
                value = min(shared, key=str)
                raise MisfitError(
                    ("ignore",), f"{value!r} is also a value of target {name!r}; remove one"
                )
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        both = sorted(set(self.targets) & set(self.structures))
        if both:
            raise MisfitError(("structures", both[0]), "is also a target; rename one")
        for name, structure in self.structures.items():
            for pattern in structure.of:
                segmenter, slash, label = pattern.partition("/")
                if not slash or not label or segmenter not in self.segmenters:
                    raise MisfitError(
                        ("structures", name),
                        f"{pattern!r} is not SEGMENTER/CLASS; the segmenters are "
                        f"{', '.join(sorted(self.segmenters))}",
                    )
        for name, section in self.segmenters.items():
            channels = self.dataset.channels
            wrong = set(section.input_channels(channels)) - set(channels)
            if wrong:
                raise MisfitError(
                    ("segmenters", name, "channel"),
                    f"{sorted(wrong)[0]!r} is not one of the channels {', '.join(channels)}",
                )
        if self.compose.nested and self.dataset.id + len(self.compose.nested) + 1 > 999:
            raise MisfitError(
                ("compose", "nested"),
                "nested label sets take the data set ids after dataset.id, up to 999",
            )
        self.export.check_channels(self.dataset.channels)
        if self.study is not None:
            self.study.check_structures(tuple(self.structures))
        unlisted = sorted(set(self.compose.nested) - set(self.structures))
        if unlisted:
            raise MisfitError(("compose", "nested"), f"{unlisted[0]!r} is not a structure")
        if self.compose.order is not None:
            expected = {"targets", *self.used_segmenters}
            if set(self.compose.order) != expected or len(self.compose.order) != len(expected):
                raise MisfitError(
                    ("compose", "order"),
                    f"must name each of {', '.join(sorted(expected))} once, but names "
                    f"{', '.join(self.compose.order)}",
                )
            if self.compose.order[0] != "targets":
                raise MisfitError(("compose", "order"), "must begin with targets: lesions win")
        return self

    @property
    def ignore_id(self) -> int:
        """Id of `ignore`, after background, targets and structures."""
        return 1 + len(self.targets) + len(self.structures)

    @property
    def unrestricted_id(self) -> int:
        """The next data set id that is free, after those of nested label sets."""
        nested = self.compose.nested
        return self.dataset.id + 1 + (len(nested) + 1 if nested else 0)

    @property
    def unrestricted_name(self) -> str:
        """Name of the data set without restricted segmenters."""
        return f"{self.dataset.name}_unrestricted"

    @property
    def results(self) -> Results:
        """Where the results lie."""
        return Results(self.run.results)

    @property
    def decisions_path(self) -> Path:
        """Where a person's own verdicts lie."""
        return self.qc.decisions or self.results.decisions

    @property
    def used_segmenters(self) -> tuple[str, ...]:
        """Segmenters that a structure, or `ignore`, asks for, in the order of the file."""
        asked = {s for structure in self.structures.values() for s in structure.segmenters}
        rules = self.compose.segmenter_lesions.items()
        asked |= {p.partition("/")[0] for p, label in rules if label != BACKGROUND}
        return tuple(name for name in self.segmenters if name in asked)

    @property
    def layers(self) -> tuple[str, ...]:
        """Segmenters by precedence, the first wins (targets stand above all of them)."""
        if self.compose.order is not None:
            return self.compose.order[1:]
        return self.used_segmenters

"""The section of the kind `command`: a program, its arguments, files and container."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from backsplit.config.base import LabelValue, Name, OneOrMore, Section
from backsplit.config.kind import Licensed

IMAGES, OUTPUTS = "images", "outputs"
"""Folders of the working folder: what a program is given, and where it may write."""

OF_A_CASE = ("case", "image", "output")
"""Fields of arguments that one case has; a run over a folder of cases has none of them."""

WILDCARDS = re.compile(r"[*?]")


class Container(Section):
    """An image that the program runs in, with no network."""

    image: str = Field(
        min_length=1,
        pattern=r"^[^-]",
        description="A .sif file or a sandbox folder for Apptainer; for Docker and Podman the name "
        "of an image on this machine: nothing is pulled.",
    )
    engine: Literal["apptainer", "singularity", "docker", "podman"] | None = Field(
        default=None,
        description="Container engine. Default: apptainer for a file or folder, docker for a name.",
    )

    @property
    def runs_files(self) -> bool:
        """Whether the image is a file or folder, whose contents tell what it is."""
        if self.engine is None:
            return self.image.endswith(".sif") or Path(self.image).exists()
        return self.engine in ("apptainer", "singularity")

    @property
    def program(self) -> str:
        """The engine's command."""
        return self.engine or ("apptainer" if self.runs_files else "docker")


class Command(Licensed):
    """A program that reads images and writes labels."""

    is_network: ClassVar[bool] = True

    kind: Literal["command"]
    command: tuple[str, ...] = Field(
        min_length=1,
        description="The program and its arguments, as a list; no shell reads them. {image} and "
        "{output} are files of the case, {images} and {outputs} folders; {image_CHANNEL} is the "
        "image of a channel, {case} the id, {device} the device.",
    )
    labels: dict[Name, LabelValue] | tuple[Name, ...] | str = Field(
        description="{name: value}; with {name} in `output` {name: file name} or [names]; or the "
        "path of a table that the program ships (JSON, ITK-SNAP, CSV, TSV)."
    )
    channel: OneOrMore | None = Field(
        default=None, description="Channel or channels given to it. Default: the first."
    )
    input: str = Field(
        default="{case}.nii.gz",
        description="Name of each image in the folder `images`, with {case}, and {channel} or "
        "{number} (0000, 0001, …) for several channels.",
    )
    output: str = Field(
        default=f"{OUTPUTS}/{{case}}.nii.gz",
        description="Path of its labels in its working folder (which has `images` and "
        "`outputs`), with {case}, {name} for one file per class, * and ?.",
    )
    batch: Literal["case", "folder"] = Field(
        default="case",
        description="Run once for each case, or once for a folder of cases, so that a "
        "network is loaded only once.",
    )
    devices: dict[Literal["cpu", "cuda", "mps"], str | tuple[str, ...]] = Field(
        default={},
        description="What replaces {device} if the program does not call it cpu, cuda or mps: "
        "{cuda: gpu}; a list gives several arguments, or none.",
    )
    missing: Literal["unknown", "absent"] = Field(
        default="unknown",
        description="What a missing file of a class means, and voxels outside a file on a smaller "
        "grid: the class was not looked for there (unknown), or is not there (absent).",
    )
    version_command: tuple[str, ...] = Field(
        default=(),
        description="Prints the program's version, part of the fingerprint.",
    )
    depends_on: tuple[Path, ...] = Field(
        default=(),
        description="Other files and folders that its labels depend on (weights): they are hashed.",
    )
    container: Container | None = Field(
        default=None, description="Container that the program runs in. Default: none."
    )
    timeout_minutes: float | None = Field(
        default=None,
        gt=0,
        description="A case that takes longer fails (TIME_LIMIT). Default: run.case_minutes.",
    )

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        channels = self.channel or ("",)
        allowed = ["images", "outputs", "device", *OF_A_CASE]
        allowed += [f"image_{channel}" for channel in self.channel or ()]
        used = {f for part in self.command for f in _require_fields(part, allowed, "command")}
        of_a_case = {f for f in used if f.startswith("image_")} | used & {*OF_A_CASE}
        if not any(field.startswith("image") for field in used):
            raise ValueError("command names neither {image} nor {images}, so it would get no image")
        if self.batch == "folder" and of_a_case:
            raise ValueError(
                f"batch is folder, so command cannot name {{{min(of_a_case)}}}; use {{images}} "
                "and {outputs}"
            )
        in_input = _require_fields(self.input, ("case", "channel", "number"), "input")
        if len(channels) > 1 and not {"channel", "number"} & set(in_input):
            raise ValueError("input needs {channel} or {number}: there are several channels")
        in_output = _require_fields(self.output, ("case", "name"), "output")
        if self.batch == "folder" and not ("case" in in_input and "case" in in_output):
            raise ValueError("batch is folder, so input and output need {case}")
        for path, what in ((self.input, "input"), (self.output, "output")):
            _require_inside(path, what)
        if not self.input.endswith(".nii.gz"):
            raise ValueError("input must end with .nii.gz, the format of the images")
        if "output" in used and ("name" in in_output or WILDCARDS.search(self.output)):
            raise ValueError("output is more than one file name; give the program {outputs}")
        self._check_labels("name" in in_output)
        return self

    def _check_labels(self, in_files: bool) -> None:
        if not self.labels:
            raise ValueError("labels is empty; name at least one structure")
        if isinstance(self.labels, str):
            if in_files:
                raise ValueError("output has {name}, so labels must be names, not a table")
        elif isinstance(self.labels, dict):
            values = list(self.labels.values())
            if len(set(values)) != len(values):
                raise ValueError("two names share a label value or file name")
            if in_files and not all(isinstance(value, str) for value in values):
                raise ValueError("output has {name}, so labels must be {name: file name} or a list")
            for value in values if in_files else ():
                _require_inside(str(value), "labels")
        elif not in_files:
            raise ValueError("labels is a list of names, so output needs {name}")
        elif len(set(self.labels)) != len(self.labels):
            raise ValueError("a name is listed twice")

    def input_channels(self, channels: tuple[str, ...]) -> tuple[str, ...]:
        """The channels that it is given, in order."""
        return channels[:1] if self.channel is None else self.channel

    def what_labels(self) -> dict[str, Any]:
        """The part of the section that its labels depend on: not how long it may take."""
        aside = {*Licensed.model_fields, "timeout_minutes"}
        return self.model_dump(mode="json", exclude=aside)


def _fields_of(text: str) -> list[str]:
    """Names in braces.

    Raises
    ------
    ValueError
        Braces hold more than a name, or are not closed.
    """
    found = []
    for _, name, layout, conversion in string.Formatter().parse(text):
        if name is None:
            continue
        if layout or conversion or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError(
                f"{text!r}: braces hold one name; write {{{{ and }}}} for literal braces"
            )
        found.append(name)
    return found


def _require_fields(text: str, allowed: Iterable[str], what: str) -> list[str]:
    """Names in braces, all of which are allowed.

    Raises
    ------
    ValueError
        One is not.
    """
    names = [*allowed]
    found = _fields_of(text)
    for name in found:
        if name not in names:
            there = ", ".join(f"{{{known}}}" for known in names)
            raise ValueError(f"{what} {text!r}: {{{name}}} is not a placeholder here; use {there}")
    return found


def _require_inside(path: str, what: str) -> None:
    """Refuse a path that leads out of the program's working folder.

    Raises
    ------
    ValueError
        It is absolute or goes up.
    """
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts:
        raise ValueError(f"{what} {path!r} must be a path inside the program's working folder")

"""The section `export`: which trainers to write for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, JsonValue, model_validator

from backsplit.config.base import Section

BIDS_MRI = ("T1w", "T2w", "PDw", "T2starw", "FLAIR", "angio", "T1map", "T2map", "UNIT1")
"""Suffixes of the Brain Imaging Data Structure for volumes of MRI, in its folder `anat`."""

BIDS_TYPES = {**dict.fromkeys(BIDS_MRI, "anat"), "ct": "ct", "pet": "pet"}
"""Suffix to data type, which is a folder. Of CT BIDS knows nothing yet; `ct` is what people use."""

BIDS_SUFFIX = re.compile(r"(?=.{1,60}$)([a-z]+-[A-Za-z0-9]+_)*[A-Za-z][A-Za-z0-9]*")
"""Entities that tell images of one suffix apart (`ce-gd_T1w`), and the suffix; not longer than
the name of a file has room for beside subject and session."""

BIDS_OWN_FIELDS = ("Name", "BIDSVersion", "DatasetType", "GeneratedBy", "DatasetLinks")
"""Fields of dataset_description.json that are written here."""


class NnUNetExport(Section):
    """nnU-Net v2 raw layout."""

    mode: Literal["symlink", "copy"] = Field(
        default="symlink", description="Link the images or copy them."
    )
    channel_names: dict[str, str] = Field(
        default_factory=dict,
        description="{channel: name in dataset.json}, by which nnU-Net chooses how it normalises: "
        "{pet: CT}. Default: `CT` for the channel ct, the channel's own name for others.",
    )

    def channel_name(self, channel: str) -> str:
        """Name of a channel in dataset.json.

        nnU-Net normalises the channel called CT by Hounsfield units and any other by z-score.
        """
        return self.channel_names.get(channel, "CT" if channel.lower() == "ct" else channel)


class MonaiExport(Section):
    """A data list over the images and label maps of the nnU-Net data set; nothing is copied."""


class BidsExport(Section):
    """A BIDS data set: images as raw data, label maps as derivatives."""

    mode: Literal["symlink", "copy"] = Field(
        default="symlink",
        description="Link to the files of the nnU-Net data set, or copy them for a "
        "self-contained data set.",
    )
    suffixes: dict[str, str] = Field(
        default_factory=dict,
        description="{channel: suffix}, with entities before it where needed: "
        "{t1ce: ce-gd_T1w}. Default: BIDS's own suffix of the channel's name (t2 is T2w), else "
        "the name.",
    )
    description: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="Further fields of dataset_description.json: Authors, License, Funding, …",
    )

    @model_validator(mode="after")
    def _fields_fit(self) -> Self:
        for channel, suffix in self.suffixes.items():
            if not BIDS_SUFFIX.fullmatch(suffix):
                raise ValueError(f"suffix {suffix!r} of {channel!r} is not like T2w or ce-gd_T1w")
        for name in BIDS_OWN_FIELDS:
            if name in self.description:
                raise ValueError(f"description: {name} is written by the export; leave it out")
        return self

    def suffix(self, channel: str) -> str:
        """Suffix of a channel's images."""
        known = {name.casefold().removesuffix("w"): name for name in BIDS_TYPES}
        plain = re.sub(r"[^A-Za-z0-9]", "", channel)[:60]
        return self.suffixes.get(channel) or known.get(plain.casefold().removesuffix("w"), plain)


Segmentations = Literal["seg_nrrd", "dicom_seg"]


def _as_tuple(value: object) -> object:
    return () if value is None else (value,) if isinstance(value, str) else value


class Export(Section):
    """Which trainers to write for."""

    nnunet: NnUNetExport = NnUNetExport()
    monai: MonaiExport | None = Field(
        default=MonaiExport(), description="A data list for MONAI; null for none."
    )
    bids: BidsExport | None = Field(
        default=None, description="A BIDS data set; null for none, {} for one with the defaults."
    )
    segmentations: Annotated[
        tuple[Segmentations, ...],
        BeforeValidator(
            _as_tuple, json_schema_input_type=Segmentations | tuple[Segmentations, ...] | None
        ),
    ] = Field(
        default=(),
        description="Also write label maps as segmentations with names and colours: `seg_nrrd` "
        "(.seg.nrrd for 3D Slicer), `dicom_seg` (DICOM-SEG with SNOMED CT codes, for cases whose "
        "image is DICOM; needs highdicom), or a list of both.",
    )
    only_unrestricted: bool = Field(
        default=False,
        description="Write DatasetNNN_NAME_unrestricted, composed without the segmenters whose "
        "labels are not known to be free for commercial use, instead of the data set with all.",
    )

    def check_channels(self, channels: Sequence[str]) -> None:
        """Hold what is said of channels against those that there are.

        Raises
        ------
        ValueError
            A channel is named that there is not, or two would have the same files.
        """
        unknown = sorted(set(self.nnunet.channel_names) - set(channels))
        if unknown:
            raise ValueError(f"export.nnunet.channel_names: {unknown[0]!r} is not a channel")
        if self.bids is None:
            return
        strange = sorted(set(self.bids.suffixes) - set(channels))
        if strange:
            raise ValueError(f"export.bids.suffixes: {strange[0]!r} is not a channel")
        alike: dict[str, list[str]] = {}
        for channel in channels:
            alike.setdefault(self.bids.suffix(channel).casefold(), []).append(channel)
        for same in alike.values():
            if len(same) > 1:
                raise ValueError(
                    f"export.bids: {' and '.join(same)} have the suffix "
                    f"{self.bids.suffix(same[0])!r}; tell them apart in export.bids.suffixes"
                )

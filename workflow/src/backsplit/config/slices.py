"""What a stage reads of the configuration: its slice.

A stage is given its slice and not the configuration, and the fingerprint of its results holds the
whole slice (`store.provenance.plain`). A key that a stage begins to read is part of what its
results are made from, without anybody having to think of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from backsplit.config.base import LabelValue, TargetValue
from backsplit.config.compose import Repair
from backsplit.config.kind import LabelPath
from backsplit.config.model import Config


@dataclass(frozen=True)
class Placing:
    """How label files get onto the grid of their image.

    Attributes
    ----------
    grid_channel : the channel whose grid the label maps are on
    other_grids : which other grids a label file may be on
    """

    grid_channel: str
    other_grids: Literal["refuse", "channels", "any"] = "channels"


@dataclass(frozen=True)
class LesionValues:
    """What the values of lesion files mean.

    Attributes
    ----------
    targets : target to its values
    placing : how the files get onto the image's grid
    anatomy : column of lesion files to the values that segmenters read from it, with their names
    ignore : values where nobody looked
    ignore_id : what they become; 0 where there are none
    """

    targets: Mapping[str, TargetValue]
    placing: Placing
    anatomy: Mapping[str, Mapping[LabelValue, str]] = field(default_factory=dict)
    ignore: tuple[LabelValue, ...] = ()
    ignore_id: int = 0


@dataclass(frozen=True)
class Checking:
    """What the check of a case reads.

    Attributes
    ----------
    lesions : what is asked of lesion files
    labels : segmenter to its label files, but for lesion files
    named : segmenter to its classes, and the value or name that each has in its file
    structures : names that the column `exclude` may hold
    """

    lesions: LesionValues
    labels: Mapping[str, Mapping[str, LabelPath]]
    named: Mapping[str, Mapping[str, LabelValue]]
    structures: tuple[str, ...]


@dataclass(frozen=True)
class Labelling:
    """What a segmenter reads beside its own section.

    Attributes
    ----------
    channels : those that it reads; their files are inputs
    placing : how its label files get onto the image's grid
    """

    channels: tuple[str, ...]
    placing: Placing


@dataclass(frozen=True)
class Merging:
    """How layers become one label map, beside names and exceptions.

    Attributes
    ----------
    layers : segmenters by precedence
    unknown : what is written where a structure could be that nobody labelled
    repair : what the host of a lesion gets; `over` holds names of structures, no patterns
    bands : segmenters that label no anatomy but bands of intensity
    """

    layers: tuple[str, ...]
    unknown: Literal["ignore", "background", "drop"] = "ignore"
    repair: Repair = field(default_factory=Repair)
    bands: tuple[str, ...] = ()


def placing(config: Config) -> Placing:
    """How label files get onto the grid of their image."""
    return Placing(config.dataset.grid_channel, config.dataset.other_grids)


def lesion_values(config: Config) -> LesionValues:
    """What the values of lesion files mean: targets, and what segmenters read from them."""
    anatomy: dict[str, dict[LabelValue, str]] = {}
    for section in config.segmenters.values():
        if section.lesion_column is not None and section.lesion_values:
            anatomy.setdefault(section.lesion_column, {}).update(section.lesion_values)
    ignore = config.ignore or ()
    ignore_id = config.ignore_id if ignore else 0  # else files do not depend on it
    return LesionValues(config.targets, placing(config), anatomy, ignore, ignore_id)


def checking(config: Config, *, with_names: bool = True) -> Checking:
    """What the check of cases reads; the names only where a case excludes some."""
    sections = config.segmenters.items()
    # the lesion file is checked as such
    labels = {name: s.label_paths for name, s in sections if not s.lesion_values}
    named = {name: s.label_values for name, s in sections if name in labels}
    names = tuple(config.structures) if with_names else ()
    return Checking(lesion_values(config), labels, named, names)


def labelling(config: Config, segmenter: str) -> Labelling:
    """What a segmenter reads beside its own section."""
    section = config.segmenters[segmenter]
    return Labelling(section.input_channels(config.dataset.channels), placing(config))


def merging(config: Config) -> Merging:
    """How layers become one label map."""
    compose = config.compose
    over = compose.named(compose.repair.over, config.structures)
    repair = compose.repair.model_copy(update={"over": over})
    bands = tuple(name for name in config.layers if not config.segmenters[name].is_anatomy)
    return Merging(config.layers, compose.unknown, repair, bands)

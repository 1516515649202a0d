"""What is found in a folder: cases, channels, what labels mean, and what was not used."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from backsplit.config.base import LabelValue

Labelling = LabelValue | tuple[LabelValue, ...]
"""Value of a label, or several."""


@dataclass(frozen=True)
class FoundCase:
    """One image with its lesion files.

    Attributes
    ----------
    id : as the folder names it
    images : channel to file
    lesion : the label file, which may hold anatomy too; None where no file was found: that is not
        known to be a patient without lesions
    patient : where cases of one patient can be told
    lesions : target to a binary file of its own, where there is no single label file
    fold : the fold that validates the case, where the data set has folds
    columns : further columns of the table that hold paths
    """

    id: str
    images: Mapping[str, Path]
    lesion: Path | None
    patient: str = ""
    lesions: Mapping[str, Path] = field(default_factory=dict)
    fold: int | None = None
    columns: Mapping[str, Path] = field(default_factory=dict)

    @property
    def has_lesion(self) -> bool:
        """Whether any lesion file was found."""
        return self.lesion is not None or bool(self.lesions)


@dataclass(frozen=True)
class Given:
    """Anatomy that label files of its own hold.

    Attributes
    ----------
    path : as a `files` segmenter has it, with `{name}` where each structure has a binary file
    names : of the structures
    values : name to value, where they are in one file
    files : name to what stands for `{name}` in its file's path, where that is not the name
    """

    path: str
    names: Sequence[str]
    values: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """What a folder holds.

    Attributes
    ----------
    layout : whose way of laying out it is
    cases : by id
    channels : in order
    labels : name to value in the lesion files (in DICOM a name or wildcard), background left out;
        empty where nothing says
    notes : what was found, for the user
    decide : what the user has to decide
    unused : (pattern of paths from the root, why files that fit are not used), the first fits
    lesions : names of labels that are lesions whatever they are called
    ignore : value that means `nobody looked`
    regions : region of labels to the names that it is made of
    channel_names : channel to its name for nnU-Net, where that means something else
    suffixes : channel to its suffix in BIDS, where its name does not say it
    part : of the body, as `start.region` has them, where the layout is a known data set's
    given : segmenter name to anatomy in files of its own
    title : what the data set is called
    patients_known : whether each case is known to be a patient of its own
    licence : of the labels, where it is known
    kind : RTSTRUCT or SEG, where lesions are in files of DICOM
    """

    layout: str
    cases: Sequence[FoundCase]
    channels: Sequence[str]
    labels: Mapping[str, Labelling] = field(default_factory=dict)
    notes: Sequence[str] = ()
    decide: Sequence[str] = ()
    unused: Sequence[tuple[str, str]] = ()
    lesions: Collection[str] = ()
    ignore: int | None = None
    regions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    channel_names: Mapping[str, str] = field(default_factory=dict)
    suffixes: Mapping[str, str] = field(default_factory=dict)
    part: str = ""
    given: Mapping[str, Given] = field(default_factory=dict)
    title: str = ""
    patients_known: bool = False
    licence: str = ""
    kind: str = ""

    @property
    def own_files(self) -> Sequence[str]:
        """Targets that have binary files of their own, in order."""
        return list(dict.fromkeys(target for case in self.cases for target in case.lesions))

"""A methods text: what was done, with which versions, weights and licences, for a paper."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from backsplit.config.base import BACKGROUND, IGNORE
from backsplit.config.command import Command
from backsplit.config.compose import HOLES_WITHIN_MM, Repair
from backsplit.config.kind import SegmenterSection
from backsplit.config.model import Config
from backsplit.config.segmenters import (
    Files,
    MonaiBundle,
    NnUNet,
    Threshold,
    TotalSegmentator,
)
from backsplit.report.facts import ReportFacts
from backsplit.segment.licences import licences

BACKSPLIT, NNUNET, SNAKEMAKE = "backsplit", "nnunet", "snakemake"
TOTALSEGMENTATOR, TOTALSEGMENTATOR_MRI = "totalsegmentator", "totalsegmentator_mri"
"""Keys of `references.bib`."""

COMBINED: Mapping[str, str] = {
    "first": "was taken from the first of {} that could label it in the case",
    "union": "is the union of what {} labelled",
    "intersection": "is what all of {} labelled",
    "majority": "is what the majority of {} labelled",
    "staple": "was combined from {} by STAPLE",
}
"""What the key `by` of a structure of several segmenters says."""

HASH_LENGTH = 12
"""Hexadecimal digits of a checkpoint's SHA-256 that stand in the text."""


@dataclass(frozen=True)
class Methods:
    r"""The text, and the works that it cites as \cite{key}.

    Attributes
    ----------
    paragraphs : plain text
    bibtex : an entry for each cited work
    """

    paragraphs: tuple[str, ...]
    bibtex: str


def methods(config: Config, facts: ReportFacts) -> Methods:
    """Say what was done.

    Parameters
    ----------
    config : the configuration
    facts : what came out; versions and weights are those that labels were made with
    """
    every = (
        _data(config, facts),
        " ".join(_segmenters(config, facts)),
        " ".join(_composing(config, facts)),
        _quality(config, facts),
        _licences(config),
    )
    paragraphs = tuple(filter(None, every))
    cited = re.findall(r"\\cite\{(\w+)\}", " ".join(paragraphs))
    return Methods(paragraphs, _bibtex(dict.fromkeys(cited)))


def _bibtex(keys: Iterable[str]) -> str:
    text = (resources.files("backsplit.report") / "references.bib").read_text("utf-8")
    entries = {re.match(r"@\w+\{(\w+),", e)[1]: e for e in text.strip().split("\n\n")}  # type: ignore[index]
    return "\n\n".join(entries[key] for key in keys) + "\n"


def _data(config: Config, facts: ReportFacts) -> str:
    version = facts.provenance.made_with["backsplit"]
    measured = sum(case.measured for case in facts.cases)
    return (
        f"Following BackSplit {_cite(BACKSPLIT)}, the background of {_counted(measured, 'case')} "
        f"with labels of {_listed(config.targets)} was divided into "
        f"{_counted(len(config.structures), 'anatomical structure')}. Label maps were made with "
        f"backsplit {version}, a Snakemake {_cite(SNAKEMAKE)} workflow."
    )


def _segmenters(config: Config, facts: ReportFacts) -> Iterator[str]:
    """A sentence for each source of labels."""
    for name in config.used_segmenters:
        section = config.segmenters[name]
        own = [
            structure.name
            for structure in facts.structures
            if structure.is_anatomy
            and any(source.split("/")[0] == name for source in structure.sources)
        ]
        versions: dict[str, list[str]] = {}
        for segmenter, package, version, _ in facts.provenance.segmenters:
            if segmenter == name:
                versions.setdefault(package, []).append(version)
        hashes = [
            w.sha256
            for w in facts.provenance.weights
            if w.segmenter == name and w.file.endswith(".pth")
        ]
        yield f"{_who(name, section, versions, hashes)} {_listed(own)}."


def _who(
    name: str,
    section: SegmenterSection,
    versions: Mapping[str, Sequence[str]],
    hashes: Sequence[str],
) -> str:
    """Who labelled, up to the names of the structures."""
    if isinstance(section, TotalSegmentator):
        mri = "_mr" in section.task or section.task.endswith("mri")
        speed = ", 3 mm" if section.fast else ", 6 mm" if section.fastest else ""
        key = TOTALSEGMENTATOR_MRI if mri else TOTALSEGMENTATOR
        return (
            f"TotalSegmentator{_version(versions, 'TotalSegmentator')} {_cite(key)} (task "
            f"{section.task}{speed}), which uses nnU-Net{_version(versions, 'nnunetv2')} "
            f"{_cite(NNUNET)}, labelled"
        )
    if isinstance(section, NnUNet):
        of = f", checkpoint SHA-256 {_listed(h[:HASH_LENGTH] for h in hashes)}" if hashes else ""
        folds = _listed(map(str, section.folds))
        return (
            f"The trained model {'/'.join(section.model.parts[-2:])} of nnU-Net"
            f"{_version(versions, 'nnunetv2')} {_cite(NNUNET)} "
            f"(fold{'s' if len(section.folds) > 1 else ''} {folds}{of}) labelled"
        )
    if isinstance(section, Files):
        return f"Existing label files ({name}) provided"
    if isinstance(section, Threshold):
        bands = "; ".join(
            f"{band} {_range(low, high)}" for band, (low, high) in section.bands.items()
        )
        inside = "inside the body" if section.within == "body" else "in the whole image"
        return f"Intensity thresholds {inside} ({bands}) provided"
    if isinstance(section, Command):
        told = [version for found in versions.values() for version in found]
        return f"The program {name}{f' ({_listed(told)})' if told else ''} labelled"
    what = f"The segmenter {name} ({section.kind}"  # type: ignore[attr-defined]
    if isinstance(section, MonaiBundle):
        what = f"The MONAI bundle {section.bundle.name} (MONAI{_version(versions, 'monai')}"
    return f"{what}) labelled"


def _range(low: float | None, high: float | None) -> str:
    if low is None:
        return f"below {high:g}"
    return f"from {low:g}" if high is None else f"{low:g} to {high:g}"


def _composing(config: Config, facts: ReportFacts) -> Iterator[str]:
    layers = list(config.layers)
    yield (
        "Where labels overlapped, lesions had precedence over all anatomy"
        + (
            f", then the sources in the order {_listed(layers, 'and then')}"
            if len(layers) > 1
            else ""
        )
        + "; each written label map was compared with the lesions on its image's grid, voxel by "
        "voxel."
    )
    for name, structure in config.structures.items():
        if len(structure.segmenters) > 1:
            said = COMBINED[structure.by or "first"].format(_listed(structure.segmenters))
            left = "; voxels on which they disagreed were set to an ignore label"
            yield f"{name} {said}{left if structure.disagree == 'ignore' else ''}."
    for rule in config.compose.except_:
        yield f"As an exception, {rule.winner} had precedence over {rule.loser}."
    yield from _lesion_classes(config)
    yield from _repair(config.compose.repair)
    unknown = [structure.name for structure in facts.structures if structure.unknown]
    if unknown:
        said = {
            "ignore": "voxels that could belong to it were set to an ignore label",
            "background": "its voxels were left as background",
            "drop": "the case was left out",
        }[config.compose.unknown]
        yield f"Where a structure could not be labelled ({_listed(unknown)}), {said}."


def _lesion_classes(config: Config) -> Iterator[str]:
    """What became of lesions that segmenters label themselves."""
    goals: dict[str, list[str]] = {}
    for pattern, goal in config.compose.segmenter_lesions.items():
        if pattern.split("/")[0] in config.used_segmenters:
            goals.setdefault(goal, []).append(pattern)
    became = {IGNORE: "set to an ignore label", BACKGROUND: "left as background"}
    said = [f"{became.get(g, f'assigned to {g}')} ({_listed(of)})" for g, of in goals.items()]
    if said:
        yield f"Lesions that segmenters label themselves were {_listed(said)}."


def _repair(repair: Repair) -> Iterator[str]:
    """What the hosts of lesions got around them."""
    voxels = f"voxels that were {_listed(['unlabelled', *repair.over], 'or')}"
    if repair.rim_mm:
        yield (
            f"V{voxels[1:]}, within {repair.rim_mm:g} mm of both a lesion and the organ "
            "that it lies in, were assigned to that organ."
        )
    if repair.holes:
        within = repair.rim_mm or HOLES_WITHIN_MM
        yield (
            f"Cavities of {voxels}, within {within:g} mm of a lesion and enclosed by it and the "
            "organ that it lies in, were assigned to that organ."
        )


def _quality(config: Config, facts: ReportFacts) -> str:
    counts = [
        f"{number} {'was' if number == 1 else 'were'} {what}"
        for number, what in (
            (facts.count("accept"), "accepted"),
            (facts.count("review"), "marked for review"),
            (facts.count("reject"), "rejected or could not be processed"),
            (facts.refused, "refused because of their files"),
        )
        if number
    ]
    decided = sum(case.decided for case in facts.cases)
    by = f" The verdict on {_counted(decided, 'case')} was set by hand." if decided else ""
    export = config.export
    wanted = {
        "MONAI": export.monai,
        "BIDS": export.bids,
        "3D Slicer": "seg_nrrd" in export.segmentations,
        "DICOM-SEG": "dicom_seg" in export.segmentations,
    }
    also = [name for name, asked in wanted.items() if asked]
    return (
        "Label maps were checked by rules of anatomy and against each other: of "
        f"{_counted(len(facts.cases), 'case')}, {_listed(counts)}.{by} "
        f"{_counted(facts.exported, 'case')} {'was' if facts.exported == 1 else 'were'} exported "
        f"for {_listed(['nnU-Net v2', *also])}."
    )


def _licences(config: Config) -> str:
    told = [
        f"{name}: {licence.name} (commercial use: {licence.commercial})"
        for name, licence in licences(config).items()
        if not isinstance(config.segmenters[name], Threshold)  # whose labels have no licence
    ]
    return f"Licences of the labels: {'; '.join(told)}." if told else ""


def _cite(key: str) -> str:
    return f"\\cite{{{key}}}"


def _version(versions: Mapping[str, Sequence[str]], package: str) -> str:
    found = versions.get(package, ())
    return f" {_listed(found)}" if found else ""


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _listed(names: Iterable[str], last: str = "and") -> str:
    """Names as a sentence has them."""
    several = list(names)
    if len(several) < 2:
        return "".join(several) or "nothing"
    return f"{', '.join(several[:-1])} {last} {several[-1]}"

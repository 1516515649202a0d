"""What the report says, ready to be laid out: nothing here reads or formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from backsplit.config.quality import Severity
from backsplit.store.status import Status

NOT_JUDGED = "not judged"
"""Stands for the verdict of a case before `backsplit judge` has run."""


@dataclass(frozen=True)
class Flag:
    """One row of `flags.tsv`; `example`: the case that shows a fault of the data set best."""

    case: str
    subject: str
    rule: str
    severity: Severity
    value: str
    expected: str
    message: str
    example: str = ""

    @property
    def words(self) -> str:
        """The message without its subject, which is shown beside it."""
        return self.message.removeprefix(f"{self.subject}: ")


def led(flags: Sequence[Flag], reason: str) -> tuple[list[Flag], list[Flag]]:
    """Part the flags of a case into the one that leads, and the rest by severity.

    Parameters
    ----------
    flags : of one case
    reason : message of the one that leads, as `verdicts.tsv` has it; empty: the worst leads

    Returns
    -------
    leading, rest
        Notes (`info`) lead nothing.
    """
    order = (Severity.REJECT, Severity.REVIEW, Severity.WARN, Severity.INFO)
    worst = sorted(flags, key=lambda flag: (flag.message != reason, order.index(flag.severity)))
    count = int(bool(worst) and worst[0].severity is not Severity.INFO)
    rest = sorted(worst[count:], key=lambda flag: order.index(flag.severity))
    return worst[:count], rest


@dataclass(frozen=True)
class LesionFacts:
    """One lesion; `host` is empty where it lies in no organ, numbers are NaN where unknown.

    Attributes
    ----------
    centroid_mm : (x, y, z), LPS
    """

    case: str
    instance: int
    target: str
    centroid_mm: tuple[float, float, float]
    volume_ml: float
    max_diameter_mm: float
    host: str
    inside_fraction: float
    contrast: float
    touches_border: bool


@dataclass(frozen=True)
class Overruled:
    """Voxels that one layer claimed and another got, summed over cases."""

    loser_layer: str
    loser: str
    winner_layer: str
    winner: str
    voxels: int
    volume_ml: float
    cases: int


@dataclass(frozen=True)
class LayerSum:
    """What became of a layer's voxels, summed over cases."""

    layer: str
    claimed: int
    kept: int
    agreed: int
    overruled: int
    set_aside: int


@dataclass(frozen=True)
class Unused:
    """A class that a segmenter found and no structure takes."""

    segmenter: str
    name: str
    voxels: int
    cases: int


@dataclass(frozen=True)
class CaseFacts:
    """One row of the case table and what became of it.

    Attributes
    ----------
    status, code, message : as `check` wrote them
    verdict : accept, review, reject or `NOT_JUDGED`
    decided : a person gave the verdict, not the rules
    note : what the person wrote to it
    flags : of severity review and reject, and whatever else was noted
    columns : the row of the case table
    volumes : structure to volume, ml; empty where the case was not measured
    targets_ml : target to volume, ml
    overruled_voxels, ignored_voxels : None where the case was not composed
    failed_segmenters : segmenter to what went wrong
    picture : PNG file, None where there is none
    page : address of the case's own page from `index.html`; empty where it has none
    page_problem : why the case has no page though it should
    rank : place in the order in which cases are best looked at, from 1; 0 before they are judged
    score : -log10 of the chance that an ordinary case is as odd
    reason : message of the flag that leads
    """

    id: str
    status: Status
    code: str
    message: str
    verdict: str
    decided: bool
    note: str
    flags: tuple[Flag, ...]
    absent: tuple[str, ...]
    columns: Mapping[str, str]
    volumes: Mapping[str, float]
    targets_ml: Mapping[str, float]
    overruled_voxels: int | None
    ignored_voxels: int | None
    failed_segmenters: Mapping[str, str]
    exported: bool
    picture: Path | None
    page: str
    page_problem: str
    rank: int = 0
    score: float = 0.0
    reason: str = ""

    @property
    def weight(self) -> int:
        """Flags that led to the verdict."""
        return sum(flag.severity is not Severity.INFO for flag in self.flags)

    @property
    def leading(self) -> list[Flag]:
        """The flag that leads, if any."""
        return led(self.flags, self.reason)[0]

    @property
    def folded(self) -> list[Flag]:
        """All other flags, the worst first."""
        return led(self.flags, self.reason)[1]

    @property
    def lesion_ml(self) -> float:
        """Volume of all targets, ml."""
        return sum(self.targets_ml.values())

    @property
    def measured(self) -> bool:
        """Whether there are measures of the case."""
        return bool(self.volumes)

    @property
    def link(self) -> str:
        """Where the report says most of the case: its own page, or its place in `index.html`."""
        return self.page or f"#case-{self.id}"

    @property
    def failed(self) -> bool:
        """Whether a stage failed on the case as a whole."""
        return any(
            flag.severity is Severity.REJECT and flag.value == Status.FAILED for flag in self.flags
        )

    @property
    def structures(self) -> int:
        """Number of structures with at least one voxel, targets not among them."""
        others = {"ignore", *self.targets_ml}
        return sum(volume > 0 for name, volume in self.volumes.items() if name not in others)


@dataclass(frozen=True)
class StructureFacts:
    """One label over all measured cases; NaN where no case has a voxel of it.

    Attributes
    ----------
    kind : target, structure, outline (a structure that is drawn as a line) or ignore
    sources : who labels it, as `segmenter/class`
    cases : cases with at least one voxel
    unknown : cases in which it could not be labelled, so that its voxels are `ignore`
    volume_ml : median, smallest and largest over these cases
    mean, sd : medians of the intensity's mean and standard deviation over these cases
    """

    id: int
    name: str
    kind: str
    colour: str
    sources: tuple[str, ...]
    cases: int
    unknown: int
    volume_ml: tuple[float, float, float]
    mean: float
    sd: float

    @property
    def is_anatomy(self) -> bool:
        """Whether it is a structure, however it is drawn."""
        return self.kind in ("structure", "outline")


@dataclass(frozen=True)
class Spread:
    """How a value is spread over the cases: percentiles 5, 25, 50, 75 and 95."""

    p05: float
    p25: float
    p50: float
    p75: float
    p95: float


@dataclass(frozen=True)
class Outlier:
    """A case with a flag about a structure; `intensity` is its median there."""

    case: str
    link: str
    severity: Severity
    volume_ml: float
    intensity: float
    words: str


@dataclass(frozen=True)
class Distribution:
    """One structure over all cases that hold it.

    Attributes
    ----------
    volume_ml, intensity : spread of volumes and of median intensities
    outliers : the worst flagged cases, and `more`, how many others there are
    """

    name: str
    colour: str
    cases: int
    volume_ml: Spread
    intensity: Spread
    outliers: tuple[Outlier, ...]
    more: int


@dataclass(frozen=True)
class Agreement:
    """Two segmenters on one structure; NaN where neither, or one of them, found it anywhere.

    Attributes
    ----------
    cases : in which at least one of them found it
    dice, lowest_dice : median and smallest
    surface_mm : median of the mean distance between the surfaces
    worst, link : the case with the smallest Dice
    """

    structure: str
    first: str
    second: str
    cases: int
    dice: float
    lowest_dice: float
    surface_mm: float
    worst: str
    link: str


@dataclass(frozen=True)
class WeightFile:
    """A file that labels were made with, and in how many cases."""

    segmenter: str
    file: str
    sha256: str
    cases: int


@dataclass(frozen=True)
class Provenance:
    """What the labels and this page were made with.

    Attributes
    ----------
    made_with : package to version, of the program that wrote the page
    segmenters : segmenter, package, version and in how many cases
    """

    made_with: Mapping[str, str]
    segmenters: tuple[tuple[str, str, str, int], ...]
    weights: tuple[WeightFile, ...]
    config: str


@dataclass(frozen=True)
class ReportFacts:
    """Everything on the page; cases in the order in which they are shown."""

    name: str
    dataset_id: int
    cases: tuple[CaseFacts, ...]
    structures: tuple[StructureFacts, ...]
    distributions: tuple[Distribution, ...]
    agreement: tuple[Agreement, ...]
    lesions: tuple[LesionFacts, ...]
    layers: tuple[LayerSum, ...]
    overruled: tuple[Overruled, ...]
    unused: tuple[Unused, ...]
    flags: tuple[Flag, ...]
    was_exported: bool
    provenance: Provenance

    @property
    def structure_count(self) -> int:
        """Number of structures of the scheme."""
        return sum(s.is_anatomy for s in self.structures)

    def count(self, verdict: str) -> int:
        """Cases with a verdict that `check` did not refuse."""
        return sum(c.verdict == verdict and c.status is Status.OK for c in self.cases)

    @property
    def below(self) -> int:
        """Accepted cases that have flags, but rank below those to review."""
        return sum(
            case.verdict == "accept"
            and not case.decided
            and any(flag.severity is Severity.WARN for flag in case.flags)
            for case in self.cases
        )

    @property
    def refused(self) -> int:
        """Rows of the table that `check` refused."""
        return sum(c.status is not Status.OK for c in self.cases)

    @property
    def failed(self) -> int:
        """Cases on which a stage failed."""
        return sum(c.failed and c.status is Status.OK for c in self.cases)

    @property
    def exported(self) -> int:
        """Cases in the exported data set."""
        return sum(c.exported for c in self.cases)

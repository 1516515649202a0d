"""The section `qc`: anatomy rules as data, and when a case stands out."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from pydantic import Field, model_validator

from backsplit.config.base import OneOrMore, Section


class Severity(StrEnum):
    """How much a finding weighs: one of `reject` or `review` decides, those of `warn` rank."""

    INFO = "info"
    WARN = "warn"
    REVIEW = "review"
    REJECT = "reject"

    @property
    def weight(self) -> int:
        """0 for what weighs least."""
        return WEIGHTS[self]


WEIGHTS = {severity: number for number, severity in enumerate(Severity)}


class Rule(Section):
    """What every rule has."""

    source: str = Field(description="Where the numbers come from.")
    severity: Severity = Field(
        default=Severity.REVIEW,
        description="What a breach leads to: `review` always sends the case to review, `warn` "
        "counts in its rank.",
    )


class RangeRule(Rule):
    """Volume (ml) or median intensity (HU) lies between two limits."""

    of: OneOrMore = Field(description="Names or wildcards.")
    low: float = Field(description="Smallest value that is not flagged.")
    high: float = Field(description="Largest value that is not flagged.")


class SidesRule(Rule):
    """The first lies further to the patient's left; `*` stands for the same in both."""

    left: str = Field(description="What lies further to the left.")
    right: str = Field(description="What lies further to the right.")


class SizesRule(SidesRule):
    """Volumes of both sides differ by no more than a factor."""

    factor: float = Field(gt=1, description="Largest ratio of the volumes that is not flagged.")


class OrderRule(Rule):
    """From head to feet, by centroid; each entry is one or more names."""

    names: tuple[OneOrMore, ...] = Field(description="From head to feet.")


class ChainRule(Rule):
    """In this order from head to feet, with none missing between the first and the last."""

    names: tuple[str, ...] = Field(description="From head to feet.")
    first_touches: str | None = Field(
        default=None, description="Structure next to the first of the chain."
    )
    last_touches: str | None = Field(
        default=None, description="Structure next to the last of the chain."
    )


class NearRule(Rule):
    """Bounding boxes lie no further apart than this."""

    of: str = Field(description="Name or wildcard.")
    to: str = Field(description="Name or wildcard.")
    within_mm: float = Field(gt=0, description="Largest distance that is not flagged.")


class MostRule(Rule):
    """At most this many large components, or this share of holes."""

    of: OneOrMore = Field(description="Names or wildcards.")
    most: float = Field(ge=0, description="Largest value that is not flagged.")


class NamesRule(Rule):
    """What is true of a structure by its name."""

    of: OneOrMore = Field(description="Names or wildcards.")


class AnatomyRules(Section):
    """All rules by kind."""

    volume: tuple[RangeRule, ...] = ()
    intensity: tuple[RangeRule, ...] = ()
    side: tuple[SidesRule, ...] = ()
    pair: tuple[SizesRule, ...] = ()
    order: tuple[OrderRule, ...] = ()
    chain: tuple[ChainRule, ...] = ()
    near: tuple[NearRule, ...] = ()
    components: tuple[MostRule, ...] = ()
    holes: tuple[MostRule, ...] = ()
    several: tuple[NamesRule, ...] = Field(
        default=(), description="Names of structures with any number of separate parts."
    )
    paired: tuple[NamesRule, ...] = Field(
        default=(), description="Names of structures that lie on both sides."
    )
    uneven: tuple[NamesRule, ...] = Field(
        default=(), description="Structures that may have parts on one side only."
    )
    midline: tuple[NamesRule, ...] = Field(default=(), description="Structures in the midline.")
    sexed: tuple[NamesRule, ...] = Field(
        default=(), description="Organs of one sex: their absence is not flagged."
    )
    removable: tuple[NamesRule, ...] = Field(
        default=(), description="Organs that may have been removed: their absence only ranks."
    )

    def with_first(self, own: AnatomyRules) -> AnatomyRules:
        """These rules after a user's own; of several that name a structure the first counts."""
        kinds = type(self).model_fields
        return AnatomyRules(**{kind: getattr(own, kind) + getattr(self, kind) for kind in kinds})


REVIEW = 0.05
"""Share of the cases that go to review, by default."""


class Cohort(Section):
    """When cases are compared with each other."""

    fewest: int = Field(
        default=10, ge=5, description="Minimum number of cases for cohort statistics."
    )


class Quality(Section):
    """How cases are checked."""

    rules: AnatomyRules = Field(
        default=AnatomyRules(),
        description="Your own rules of anatomy; for a structure, they override the built-in ones.",
    )
    off: tuple[str, ...] = Field(
        default=(),
        description="Rules to leave out: `rule` or `rule:structure`, * and ? are wildcards.",
    )
    review: float = Field(
        default=REVIEW,
        ge=0,
        le=1,
        description="Share of the cases that you are willing to review. Cases that break a rule "
        "of severity `review` always come first; the rest of the share goes to the cases that are "
        "most improbable, given the others.",
    )
    cohort: Cohort = Cohort()
    groups: tuple[str, ...] = Field(
        default=(),
        description="Columns of the case table (scanner, site, …): cases are also compared within "
        "each of their values, and a fault of one of them is reported once.",
    )
    least_dice: float = Field(
        default=0.7,
        ge=0,
        le=1,
        description="A structure is flagged if the Dice of two segmenters on it is below this.",
    )
    decisions: Path | None = Field(
        default=None,
        description="Your own decisions: case, decision (accept, review, reject), note. They "
        "override the rules. Default: qc/decisions.tsv in the results.",
    )

    @model_validator(mode="before")
    @classmethod
    def _off_as_yaml_reads_it(cls, given: object) -> object:
        """Take the key `off`, which YAML 1.1 reads as false, for what it is."""
        if not isinstance(given, Mapping):
            return given
        return {"off" if key is False else key: value for key, value in given.items()}

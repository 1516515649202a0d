"""The section `qc`: anatomy rules as data, and when a case stands out."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import Field

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
        return list(Severity).index(self)


class Rule(Section):
    """What every rule has."""

    source: str = Field(description="Where the number, or the statement, comes from.")
    severity: Severity = Field(default=Severity.REVIEW, description="How much a breach weighs.")


class RangeRule(Rule):
    """Volume (ml) or median intensity (HU) lies between two limits."""

    of: OneOrMore = Field(description="Names or wildcards.")
    low: float
    high: float


class SidesRule(Rule):
    """The first lies further to the patient's left; `*` stands for the same in both."""

    left: str
    right: str


class SizesRule(SidesRule):
    """Volumes of both sides differ by no more than a factor."""

    factor: float = Field(gt=1)


class OrderRule(Rule):
    """From head to feet, by centroid; each entry is one or more names."""

    names: tuple[OneOrMore, ...]


class ChainRule(Rule):
    """In this order from head to feet, and none left out between the first and the last."""

    names: tuple[str, ...]
    first_touches: str | None = Field(default=None, description="What the first lies next to.")
    last_touches: str | None = Field(default=None, description="What the last lies next to.")


class NearRule(Rule):
    """Boxes lie no further apart than this."""

    of: str
    to: str
    within_mm: float = Field(gt=0)


class MostRule(Rule):
    """At most so many large components, or so large a share of holes."""

    of: OneOrMore
    most: float = Field(ge=0)


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
        default=(), description="Names that stand for any number of parts far apart."
    )
    paired: tuple[NamesRule, ...] = Field(
        default=(), description="Names that stand for something on both sides."
    )
    uneven: tuple[NamesRule, ...] = Field(
        default=(), description="What may have parts on one side that the other side lacks."
    )
    midline: tuple[NamesRule, ...] = Field(
        default=(), description="What lies in the middle between left and right."
    )
    sexed: tuple[NamesRule, ...] = Field(
        default=(), description="What only men, or only women, have: its absence is no fault."
    )
    removable: tuple[NamesRule, ...] = Field(
        default=(), description="What surgeons remove: its absence may be no fault."
    )

    def with_first(self, own: AnatomyRules) -> AnatomyRules:
        """These rules after a user's own; of several that name a structure the first counts."""
        kinds = type(self).model_fields
        return AnatomyRules(**{kind: getattr(own, kind) + getattr(self, kind) for kind in kinds})


REVIEW = 0.05
"""Share of the cases that a person is ready to look at, if nothing else is said."""


class Cohort(Section):
    """When cases are compared with each other."""

    fewest: int = Field(
        default=10, ge=5, description="Minimum number of cases for cohort statistics."
    )


class Quality(Section):
    """What is looked at before labels are trusted."""

    rules: AnatomyRules = Field(
        default=AnatomyRules(),
        description="Your own anatomy rules; of several that name a structure yours counts.",
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
        description="Two segmenters that agree less than this on a structure are flagged.",
    )
    decisions: Path | None = Field(
        default=None,
        description="Your own verdicts: case, decision (accept, review, reject), note. They win. "
        "Default: qc/decisions.tsv in the results.",
    )

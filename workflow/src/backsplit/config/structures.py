"""The section `structures`: what each is made of, and who decides where sources differ."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from backsplit.config.base import OneOrMore, Section

By = Literal["first", "union", "intersection", "majority", "staple"]

FEWEST_VOTERS = 3
"""Of two who differ neither is in the majority."""


class Structure(Section):
    """A structure, from one segmenter or from several that may differ."""

    of: OneOrMore = Field(description="segmenter/class, or a list; * and ? are wildcards.")
    by: By | None = Field(
        default=None,
        description="How to combine several segmenters: `first` (the first of the list that "
        "knows the structure in the case), `union`, `intersection`, `majority` or `staple` "
        "(SimpleITK's; both need three). Default: first. Classes of one segmenter are always "
        "joined.",
    )
    disagree: Literal["first", "ignore"] = Field(
        default="first",
        description="Voxels on which segmenters disagree: `first` labels them as `by` says, and "
        "as the first of the list in a tie; `ignore` leaves them out of the loss.",
    )

    @property
    def segmenters(self) -> tuple[str, ...]:
        """Segmenters that label it, in the order of the list."""
        return tuple(dict.fromkeys(pattern.partition("/")[0] for pattern in self.of))

    @model_validator(mode="after")
    def _enough_sources(self) -> Self:
        several = len(self.segmenters)
        if self.by in ("majority", "staple") and several < FEWEST_VOTERS:
            raise ValueError(
                f"by: {self.by} needs {FEWEST_VOTERS} segmenters, but `of` names {several}"
            )
        if several < 2 and (self.by == "intersection" or self.disagree == "ignore"):
            raise ValueError("there is only one segmenter to agree; name another in `of`")
        return self


def _as_structure(value: object) -> object:
    """A pattern, or a list of them, is what a structure is `of`."""
    return {"of": value} if isinstance(value, str | list | tuple) else value


StructureConfig = Annotated[
    Structure,
    BeforeValidator(_as_structure, json_schema_input_type=str | tuple[str, ...] | Structure),
]

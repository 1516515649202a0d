"""The section `study`: arms that are trained and compared, and what all of them share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from backsplit.config.base import Name, OneOrMore, Section

Share = Annotated[float, Field(gt=0, le=1)]
Paper = Literal[
    "kits23",
    "kits23-interactive",
    "panther",
    "nsclc",
    "autopet",
    "autopet-abdomenatlas",
    "autopet-vibesegmentator",
    "mswal",
]
Millimetres = Annotated[float, Field(gt=0)]


class Budget(Section):
    """How long each network is trained; the same for every arm."""

    epochs: int = Field(default=1000, ge=1)
    iterations: int = Field(default=250, ge=1, description="Steps of an epoch.")
    validation_iterations: int = Field(default=50, ge=1)


class SmallNetwork(Section):
    """A network smaller than nnU-Net would plan. Axes are x, y, z, as a viewer shows them."""

    spacing_mm: tuple[Millimetres, Millimetres, Millimetres] = Field(
        description="Spacing that images are resampled to: x, y, z."
    )
    patch: tuple[int, int, int] = Field(description="Voxels of a patch: x, y, z.")
    features: tuple[int, ...] = Field(
        min_length=3,
        description="Feature maps of each stage, the finest first. nnU-Net gives the coarsest "
        "output no weight in the loss: of two stages none would be left.",
    )
    batch_size: int = Field(default=2, ge=1)

    @model_validator(mode="after")
    def _patch_is_large_enough(self) -> Self:
        if min(self.patch) < 8:
            raise ValueError("a side of the patch is below 8 voxels")
        if min(self.features) < 1:
            raise ValueError("a stage has no feature map")
        return self


class NoiseSection(Section):
    """What is done to the auxiliary labels of an arm: one of the kinds, in mm."""

    grow_mm: Millimetres | None = Field(default=None, description="Structures grow by so much.")
    shrink_mm: Millimetres | None = Field(default=None, description="They shrink by so much.")
    shift_mm: Millimetres | None = Field(
        default=None, description="Each is moved by so much, in a direction of its own."
    )
    jitter_mm: Millimetres | None = Field(
        default=None, description="Their boundary is moved; standard deviation."
    )
    elastic_mm: Millimetres | None = Field(
        default=None, description="All are deformed together; root mean square of the displacement."
    )
    drop: Share | None = Field(default=None, description="Share of structures that is left out.")
    swap: tuple[tuple[str, str], ...] | None = Field(
        default=None, min_length=1, description="Pairs of structures that are exchanged."
    )
    seed: int = Field(default=0, ge=0)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that are given."""
        return tuple(
            name
            for name in NoiseSection.model_fields
            if name != "seed" and getattr(self, name) is not None
        )

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        if len(self.kinds) != 1:
            every = [name for name in NoiseSection.model_fields if name != "seed"]
            raise ValueError(f"give one of {', '.join(every)}; found {len(self.kinds)}")
        return self


class ArmSection(Section):
    """One way to label the background."""

    structures: Literal["all"] | tuple[str, ...] = Field(
        default="all", description="Auxiliary labels; []: lesions alone."
    )
    nested: bool = Field(
        default=False,
        description="Several arms, with the first 0, 1, 2, … structures of compose.nested (else "
        "of `structures`).",
    )
    leave_one_out: OneOrMore | None = Field(
        default=None, description="Several arms, each without one of these structures."
    )
    share: Share = Field(
        default=1.0, description="Share of the patients whose anatomy is known; drawn once."
    )
    complete: bool = Field(
        default=False,
        description="Train only on cases in which every structure of the configuration is known.",
    )
    unknown: Literal["marginal", "ignore", "background"] = Field(
        default="marginal",
        description="Voxels of unknown anatomy are one of the structures unknown in the case or "
        "background (marginal), left out of the loss (ignore), or background.",
    )
    noise: NoiseSection | None = None
    control: Literal["shuffled", "blobs"] | None = Field(
        default=None,
        description="Labels without information: structures of another patient, or random shapes.",
    )
    start: Name | None = Field(
        default=None,
        alias="from",
        description="Arm whose trained network this one starts from (backsplit train extend).",
    )
    network: Literal["plans", "segresnet"] = "plans"
    twin: int = Field(
        default=0,
        ge=0,
        description="Other seeds and nothing else: arms that differ by it differ by chance.",
    )

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        if self.nested and self.leave_one_out:
            raise ValueError("`nested` and `leave_one_out` exclude each other")
        if self.noise is not None and self.control is not None:
            raise ValueError("`noise` and `control` exclude each other")
        if self.structures == () and (self.noise or self.control or self.nested):
            raise ValueError("an arm without structures has no noise, control or nested sets")
        if self.start is not None and self.network != "plans":
            raise ValueError("`from` continues a network of the plans; leave `network` out")
        return self


class Study(Section):
    """Networks that differ in their labels alone, trained and compared (target `study`)."""

    configuration: str = Field(
        default="3d_fullres",
        pattern=r"^[A-Za-z0-9_]+$",
        description="Configuration of nnU-Net.",
    )
    planner: str = Field(
        default="default",
        pattern=r"^[A-Za-z0-9_]+$",
        description="default, ResEncM, ResEncL, ResEncXL, or a planner's class.",
    )
    small: SmallNetwork | None = Field(
        default=None, description="A network smaller than nnU-Net would plan."
    )
    folds: tuple[int, ...] = Field(default=(0, 1, 2, 3, 4), min_length=1)
    seeds: int = Field(default=1, ge=1, le=100, description="Trainings of each arm and fold.")
    budget: Budget = Budget()
    training: dict[str, bool | int | float | None] = Field(
        default={},
        description="Further settings of the trainer (docs/training.md), the same for every arm.",
    )
    decisions: tuple[Literal["argmax"] | Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=("argmax",),
        min_length=1,
        description="How a voxel becomes a target: no class is more probable, or its probability "
        "is above a threshold. Each is scored.",
    )
    tolerance_mm: float = Field(default=2.0, ge=0, description="Of NSD.")
    augmenters: int = Field(
        default=4,
        ge=0,
        description="Processes that make patches, each with random numbers of its own. 0: the "
        "training's own; then all arms of a seed see the same patches, and the same configuration "
        "gives the same network on a CPU.",
    )
    reference: Name | None = Field(
        default=None,
        description="Arm that the others are compared with. Default: the first without structures.",
    )
    paper: Paper | None = Field(
        default=None,
        description="Data set, and source of anatomy, of the paper whose figures are put beside "
        "those of this study.",
    )
    trained: Path | None = Field(
        default=None,
        description="Folder of the trained networks; studies that share it share networks that "
        "would be the same. Default: study/trained in the results.",
    )
    arms: dict[Name, ArmSection] = Field(min_length=1, description="{name: how to label}.")

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if len(set(self.folds)) != len(self.folds) or min(self.folds) < 0:
            raise ValueError("folds: numbers from 0 on, each once")
        for name, arm in self.arms.items():
            if arm.start is None:
                continue
            other = self.arms.get(arm.start)
            if other is None or other.start is not None or other.nested or other.leave_one_out:
                raise ValueError(
                    f"arm {name!r}: `from` must name a single arm that starts from nothing itself, "
                    f"found {arm.start!r}"
                )
        return self

    def check_structures(self, structures: tuple[str, ...]) -> None:
        """Hold names of structures against those that there are.

        Raises
        ------
        ValueError
            An arm names one that there is not.
        """
        for name, arm in self.arms.items():
            asked = {*(() if arm.structures == "all" else arm.structures)}
            asked |= {*(arm.leave_one_out or ())}
            asked |= {one for pair in (arm.noise and arm.noise.swap) or () for one in pair}
            if unknown := sorted(asked - set(structures)):
                raise ValueError(f"study.arms.{name}: {unknown[0]!r} is no structure")

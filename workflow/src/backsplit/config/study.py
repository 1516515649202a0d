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

    epochs: int = Field(default=1000, ge=1, description="Epochs per training.")
    iterations: int = Field(default=250, ge=1, description="Steps per epoch.")
    validation_iterations: int = Field(default=50, ge=1, description="Validation steps per epoch.")


class SmallNetwork(Section):
    """A network smaller than nnU-Net would plan. Axes are x, y, z, as a viewer shows them."""

    spacing_mm: tuple[Millimetres, Millimetres, Millimetres] = Field(
        description="Spacing to which images are resampled: x, y, z."
    )
    patch: tuple[int, int, int] = Field(description="Size of a patch in voxels: x, y, z.")
    features: tuple[int, ...] = Field(
        min_length=3,
        description="Feature maps of each stage, finest first. nnU-Net gives the coarsest output "
        "no weight in the loss, so at least three stages are needed.",
    )
    batch_size: int = Field(default=2, ge=1, description="Patches per step.")

    @model_validator(mode="after")
    def _patch_is_large_enough(self) -> Self:
        if min(self.patch) < 8:
            raise ValueError("each side of the patch must be at least 8 voxels")
        if min(self.features) < 1:
            raise ValueError("each stage needs at least one feature map")
        return self


class NoiseSection(Section):
    """A change of the auxiliary labels of an arm: one of these kinds, in mm."""

    grow_mm: Millimetres | None = Field(default=None, description="Structures grow by this much.")
    shrink_mm: Millimetres | None = Field(
        default=None, description="Structures shrink by this much."
    )
    shift_mm: Millimetres | None = Field(
        default=None, description="Each structure is shifted by this much, in a random direction."
    )
    jitter_mm: Millimetres | None = Field(
        default=None, description="Standard deviation of a random shift of the boundaries."
    )
    elastic_mm: Millimetres | None = Field(
        default=None,
        description="Root mean square of a smooth displacement of all structures.",
    )
    drop: Share | None = Field(default=None, description="Share of structures that are removed.")
    swap: tuple[tuple[str, str], ...] | None = Field(
        default=None, min_length=1, description="Pairs of structures whose labels are swapped."
    )
    seed: int = Field(default=0, ge=0, description="Seed of the random changes.")

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
        default="all", description="Auxiliary labels; []: lesions only."
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
        default=1.0,
        description="Share of a fold's training patients whose anatomy is known, drawn at random, "
        "rounded up.",
    )
    complete: bool = Field(
        default=False,
        description="Train only on cases in which every structure of the configuration is known.",
    )
    unknown: Literal["marginal", "ignore", "background"] = Field(
        default="marginal",
        description="Voxels of unknown anatomy count as any of the structures unknown in the "
        "case or background (marginal), are left out of the loss (ignore), or are background.",
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
    network: Literal["plans", "segresnet"] = Field(
        default="plans", description="nnU-Net's own network, or MONAI's SegResNet."
    )
    twin: int = Field(
        default=0,
        ge=0,
        description="Changes the seeds only: arms that differ only in it differ by chance.",
    )

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        if self.nested and self.leave_one_out:
            raise ValueError("`nested` and `leave_one_out` cannot be combined")
        if self.noise is not None and self.control is not None:
            raise ValueError("`noise` and `control` cannot be combined")
        if self.structures == () and (self.noise or self.control or self.nested):
            raise ValueError("an arm without structures cannot have noise, control or nested")
        if self.start is not None and self.network != "plans":
            raise ValueError("`from` continues a network of the plans; leave `network` out")
        return self


class Study(Section):
    """Networks that differ in their labels alone, trained and compared (`snakemake study`)."""

    configuration: str = Field(
        default="3d_fullres",
        pattern=r"^[A-Za-z0-9_]+$",
        description="nnU-Net configuration.",
    )
    planner: str = Field(
        default="default",
        pattern=r"^[A-Za-z0-9_]+$",
        description="nnU-Net planner: default, ResEncM, ResEncL, ResEncXL, or the name of a "
        "planner's class.",
    )
    small: SmallNetwork | None = Field(
        default=None, description="A network smaller than nnU-Net would plan."
    )
    folds: tuple[int, ...] = Field(
        default=(0, 1, 2, 3, 4), min_length=1, description="Folds on which each arm is trained."
    )
    seeds: int = Field(default=1, ge=1, le=100, description="Trainings per arm and fold.")
    budget: Budget = Budget()
    training: dict[str, bool | int | float | None] = Field(
        default={},
        description="Further settings of the trainer (docs/training.md), the same for every arm.",
    )
    decisions: tuple[Literal["argmax"] | Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=("argmax",),
        min_length=1,
        description="When a voxel is labelled as a target: no class is more probable (argmax), or "
        "its probability exceeds a threshold. Each is scored.",
    )
    tolerance_mm: float = Field(
        default=2.0, ge=0, description="Tolerance of NSD (normalised surface Dice), mm."
    )
    augmenters: int = Field(
        default=4,
        ge=0,
        description="Processes that make patches, each with its own random numbers. 0: the "
        "training process makes them; then all arms of a seed see the same patches, and the same "
        "configuration gives the same network on a CPU.",
    )
    reference: Name | None = Field(
        default=None,
        description="Arm to which the others are compared. Default: the first without structures.",
    )
    paper: Paper | None = Field(
        default=None,
        description="Data set of the paper, and source of anatomy, whose results the page shows "
        "beside those of this study.",
    )
    trained: Path | None = Field(
        default=None,
        description="Folder of the trained networks; studies with the same folder share "
        "identical networks. Default: study/trained in the results.",
    )
    arms: dict[Name, ArmSection] = Field(
        min_length=1, description="{name: how the background is labelled}."
    )

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if len(set(self.folds)) != len(self.folds) or min(self.folds) < 0:
            raise ValueError("folds must be numbers from 0 on, each listed once")
        for name, arm in self.arms.items():
            if arm.start is None:
                continue
            other = self.arms.get(arm.start)
            if other is None or other.start is not None or other.nested or other.leave_one_out:
                raise ValueError(
                    f"arm {name!r}: `from` must name a single arm that has no `from` itself, "
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
                raise ValueError(f"study.arms.{name}: {unknown[0]!r} is not a structure")

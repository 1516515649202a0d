"""Arms of a study: which labels a network is trained on, and where it starts from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

from backsplit.config.study import ArmSection, NoiseSection, Study

Unknown = Literal["marginal", "ignore", "background"]
"""What voxels of unknown anatomy are in training: one of the structures unknown there or background
(`marginal`), left out of the loss (`ignore`), or background."""

NoiseKind = Literal["grow", "shrink", "shift", "jitter", "elastic", "drop", "swap"]
ControlKind = Literal["shuffled", "blobs"]

NOISE_REVISION = 1
"""Of what noise and controls make of labels. Raise it when that changes: sets of labels that have
any are made again, and their networks trained again (tests/unit/test_study_noise.py reminds)."""


@dataclass(frozen=True)
class Noise:
    """What is done to the auxiliary labels; lesions and ignored voxels are laid on top again.

    Attributes
    ----------
    kind : grow, shrink, shift (each structure in a direction of its own), jitter (the boundary),
        elastic, drop, swap
    amount : mm: distance of grow, shrink, shift; standard deviation of jitter; root mean square of
        the displacement of elastic. Of drop the share of a case's structures; swap takes none
    pairs : of structures, by name, that swap exchanges
    seed : with the case's name it decides every draw
    """

    kind: NoiseKind
    amount: float = 0.0
    pairs: tuple[tuple[str, str], ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class Control:
    """Auxiliary labels of plausible shape that say nothing of the image.

    Attributes
    ----------
    kind : shuffled (the structures of another patient), blobs (random shapes of the structures'
        volumes)
    seed : with the case's name it decides every draw
    """

    kind: ControlKind
    seed: int = 0


@dataclass(frozen=True)
class Arm:
    """One way to label the background.

    Attributes
    ----------
    name : of the arm, unique in the study; of an arm that stands for several (`nested`,
        `leave_one_out`) with what it is after an underscore: `nested_2`, `without_liver`
    structures : auxiliary labels, in the order of their ids; none: the lesions alone
    share : of a fold's training patients whose anatomy is known; in the others every structure is
        unknown
    complete : train only on cases in which every structure of the configuration is known
    unknown : what voxels of unknown anatomy are
    noise, control : what is done to the auxiliary labels
    start : arm whose trained network this one starts from, its background split (key `from`)
    network : plans (nnU-Net's own) or segresnet
    twin : changes nothing but the seeds: two arms that differ by it alone differ by chance
    """

    name: str
    structures: tuple[str, ...]
    share: float = 1.0
    complete: bool = False
    unknown: Unknown = "marginal"
    noise: Noise | None = None
    control: Control | None = None
    start: str | None = None
    network: Literal["plans", "segresnet"] = "plans"
    twin: int = 0


def arms_of(study: Study, structures: Sequence[str], nested: Sequence[str]) -> tuple[Arm, ...]:
    """Every arm of a study, those that stand for several spelled out.

    Parameters
    ----------
    study : the section of the configuration
    structures : every structure, in the order of the ids
    nested : `compose.nested`, the order in which an arm with `nested` takes structures
    """
    return tuple(
        arm
        for name, section in study.arms.items()
        for arm in _several(_single(name, section, structures), section, nested)
    )


def reference_arm(study: Study, arms: Sequence[Arm]) -> str:
    """Name of the arm that the others are compared with."""
    if study.reference is not None:
        return study.reference
    plain = (arm.name for arm in arms if not arm.structures)
    return next(plain, arms[0].name)


def _single(name: str, section: ArmSection, structures: Sequence[str]) -> Arm:
    asked = structures if section.structures == "all" else section.structures
    return Arm(
        name=name,
        structures=tuple(one for one in structures if one in asked),
        share=section.share,
        complete=section.complete,
        unknown=section.unknown,
        noise=None if section.noise is None else _noise(section.noise),
        control=None if section.control is None else Control(section.control),
        start=section.start,
        network=section.network,
        twin=section.twin,
    )


def _noise(section: NoiseSection) -> Noise:
    (given,) = section.kinds
    kind = cast(NoiseKind, given.removesuffix("_mm"))
    value = getattr(section, given)
    if kind == "swap":
        return Noise(kind, pairs=value, seed=section.seed)
    return Noise(kind, amount=value, seed=section.seed)


def _several(arm: Arm, section: ArmSection, nested: Sequence[str]) -> Iterator[Arm]:
    if section.nested:
        order = [one for one in nested or arm.structures if one in arm.structures]
        for count in range(len(order) + 1):
            kept = tuple(one for one in arm.structures if one in order[:count])
            yield replace(arm, name=f"{arm.name}_{count}", structures=kept)
    elif section.leave_one_out:
        for left_out in section.leave_one_out:
            kept = tuple(one for one in arm.structures if one != left_out)
            yield replace(arm, name=f"{arm.name}_{left_out}", structures=kept)
    else:
        yield arm

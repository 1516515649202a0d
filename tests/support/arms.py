"""Arms of a study, as its section of the configuration gives them."""

from __future__ import annotations

from backsplit.config.study import Study
from backsplit.study.arms import Arm, arms_of

ORGANS = ("liver", "kidney_left", "kidney_right")


def study(**arms: object) -> Study:
    return Study.model_validate({"arms": arms})


def arms(given: Study, nested: tuple[str, ...] = ()) -> dict[str, Arm]:
    return {arm.name: arm for arm in arms_of(given, ORGANS, nested)}

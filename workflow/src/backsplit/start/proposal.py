"""A first configuration for what was found: valid, commented, and to be read by a person."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from backsplit.config.base import BACKGROUND
from backsplit.start.found import Found, lesions_and_anatomy

MR = re.compile(r"(^|_)(mri?|t1|t2|pd|flair|dwi|adc|dce)", re.IGNORECASE)

ORGANS: Mapping[str, Sequence[str]] = {
    "lungs": ("lung_*",),
    "liver": ("liver",),
    "spleen": ("spleen",),
    "kidneys": ("kidney_right", "kidney_left"),
    "pancreas": ("pancreas",),
    "stomach": ("stomach",),
    "bowel": ("small_bowel", "duodenum", "colon"),
    "bladder": ("urinary_bladder",),
    "heart": ("heart",),
    "aorta": ("aorta",),
    "vertebrae": ("vertebrae*",),
    "muscles": ("autochthon_*", "iliopsoas_*", "gluteus_*"),
}
"""Structures that TotalSegmentator labels on CT and MR, few enough to be learnt."""

SINGULAR = {"lung": "lungs", "kidney": "kidneys", "urinary_bladder": "bladder"}

PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./*-]*")

LONG_LINE = 100_000

WORDS = {"y", "n", "yes", "no", "true", "false", "on", "off", "null"}
"""What YAML takes for something else than text."""


def config_text(found: Found, name: str, number: int, cases: str, results: str) -> str:
    """The configuration as YAML.

    Parameters
    ----------
    found : what the folder holds
    name, number : of the data set
    cases, results : paths of the case table, and of the folder for all outputs
    """
    targets, anatomy = lesions_and_anatomy(found.labels)
    mr = [channel for channel in found.channels if MR.search(channel)]
    ct = [channel for channel in found.channels if channel.lower() == "ct"]
    channel = [*ct, *mr, found.channels[0]][0]
    on_mr = channel in mr
    on_ct = channel in ct
    structures = _structures(targets, anatomy)
    if on_ct and "fat" not in {name.lower() for name in (*targets, *structures)}:
        structures["fat"] = ["tissue/fat"]
    environment = Environment(
        loader=PackageLoader("backsplit", "start"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 (YAML: the filter `yaml` quotes)
    )
    environment.filters["yaml"] = _quoted
    environment.filters["comment"] = _commented
    return environment.get_template("config.yaml.j2").render(
        found=found,
        name=name,
        number=number,
        cases=cases,
        results=results,
        targets=targets or {"lesion": 1},
        anatomy=anatomy,
        channel=channel,
        on_mr=on_mr,
        on_ct=on_ct,
        structures=structures,
        cysts={side: _holder(structures, f"organs/kidney_{side}") for side in ("right", "left")},
    )


def _quoted(value: str) -> str:
    """Text as YAML has it, on one line and free of anything but ASCII where it needs quotes."""
    if PLAIN.fullmatch(value) and value.lower() not in WORDS:
        return value
    return yaml.safe_dump(value, default_style='"', width=LONG_LINE).strip()


def _commented(text: str) -> str:
    """Text that stays within a comment."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _holder(structures: Mapping[str, Sequence[str]], source: str) -> str:
    """The structure that a class goes to."""
    return next((name for name, sources in structures.items() if source in sources), BACKGROUND)


def _structures(targets: Mapping[str, int], anatomy: Mapping[str, int]) -> dict[str, list[str]]:
    """Given anatomy first, each with the organ of the same name; then organs that are no target."""
    left = {name: list(classes) for name, classes in ORGANS.items()}

    def take(name: str) -> list[str]:
        """Classes of the same name, as a whole or as one of two sides; nobody else gets them."""
        key = name.lower()
        if (whole := left.pop(SINGULAR.get(key, key), None)) is not None:
            return whole
        sides = [classes for classes in left.values() if key in classes]
        for classes in sides:
            classes.remove(key)
        return [key] if sides else []

    for name in targets:
        take(name)
    given = {name: [f"given/{name}", *(f"organs/{c}" for c in take(name))] for name in anatomy}
    others = {name: [f"organs/{c}" for c in classes] for name, classes in left.items() if classes}
    return {**given, **others}

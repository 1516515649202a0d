"""A data set that may be used commercially: composed anew without the restricted segmenters.

Leaving classes out of finished label maps would not do. Where a restricted segmenter won a voxel,
writing background would be a false label, and writing `ignore` would still show its outline; where
it lost, or was repaired into, it has shaped what others got: overlaps, hosts, rims. Training on
labels that were derived from restricted ones is the very use that is restricted. So the layers are
laid down anew, by the same code and rules, as if those segmenters had never been there: a voxel
that they alone labelled is what the unrestricted segmenters say it is, and the structures that they
alone could label are no labels of this data set. Targets are the user's own, and stay to the voxel.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from backsplit.config.base import BACKGROUND, IGNORE
from backsplit.config.file import parse_config
from backsplit.config.model import Config
from backsplit.config.structures import FEWEST_VOTERS, Structure
from backsplit.errors import Code, RunError
from backsplit.segment.licences import licences, restricted_segmenters

Groups = Mapping[str, Sequence[str]]
"""Name to labels or wildcards."""


def unrestricted(config: Config) -> Config:
    """The same configuration without restricted segmenters, for a data set of its own.

    Raises
    ------
    RunError
        LICENCE_RESTRICTED when no segmenter is left.
    """
    restricted = restricted_segmenters(config)
    if set(restricted) >= set(config.used_segmenters):
        told = ", ".join(f"{n}: {x.name}, {x.terms}" for n, x in licences(config).items())
        raise RunError(
            Code.LICENCE_RESTRICTED,
            f"every segmenter is restricted or of unknown licence ({told}); nothing but lesions "
            "would be left",
            "add an unrestricted one, or set `commercial: true` where that is so",
        )
    data = config.model_dump(mode="json", by_alias=True)
    data["dataset"] |= {"id": config.unrestricted_id, "name": config.unrestricted_name}
    data["export"]["only_unrestricted"] = False
    data["segmenters"] = {n: s for n, s in data["segmenters"].items() if n not in restricted}
    structures = {name: _left(s, restricted) for name, s in config.structures.items()}
    data["structures"] = {name: section for name, section in structures.items() if section["of"]}
    patterns = {name: section["of"] for name, section in data["structures"].items()}
    data["compose"] = _compose(data["compose"], data["segmenters"], data["targets"], patterns)
    return parse_config(data, Path("the configuration without restricted segmenters"))


def _left(structure: Structure, restricted: Collection[str]) -> dict[str, Any]:
    """A structure without the classes of restricted segmenters; who is left decides as before."""
    of = [pattern for pattern in structure.of if pattern.partition("/")[0] not in restricted]
    left = {pattern.partition("/")[0] for pattern in of}
    section: dict[str, Any] = {"of": of}
    if len(left) > 1:
        section["disagree"] = structure.disagree
        if structure.by not in ("majority", "staple") or len(left) >= FEWEST_VOTERS:
            section["by"] = structure.by
    return section


def _compose(
    section: Mapping[str, Any],
    left: Collection[str],
    targets: Iterable[str],
    structures: Mapping[str, Iterable[str]],
) -> dict[str, Any]:
    """The section `compose` without what names a segmenter or label that is gone."""
    labels = [*targets, *structures]

    def there(patterns: Iterable[str], groups: Groups) -> list[str]:
        return [
            pattern
            for pattern in patterns
            if any(fnmatchcase(n, p) for n in labels for p in groups.get(pattern, (pattern,)))
        ]

    def of_each(named: Groups, groups: Groups) -> dict[str, list[str]]:
        found = {name: there(patterns, groups) for name, patterns in named.items()}
        return {name: patterns for name, patterns in found.items() if patterns}

    groups = of_each(section["groups"], {})
    # tissue whose own structure is gone is background, as all of that structure is
    rules = {
        pattern: label if label in (*labels, BACKGROUND, IGNORE) else BACKGROUND
        for pattern, label in section["segmenter_lesions"].items()
        if pattern.partition("/")[0] in left
    }
    wanted = [p for patterns in structures.values() for p in patterns]
    wanted += [pattern for pattern, label in rules.items() if label != BACKGROUND]
    used = {pattern.partition("/")[0] for pattern in wanted}
    order = section["order"]
    return {
        **section,
        "order": None if order is None else [name for name in order if name in {"targets", *used}],
        "groups": groups,
        "except": [
            rule
            for rule in section["except"]
            if all(there([rule[side]], groups) for side in ("winner", "loser"))
        ],
        "segmenter_lesions": {p: v for p, v in rules.items() if p.partition("/")[0] in used},
        "hosts": of_each(section["hosts"], groups),
        "repair": {**section["repair"], "over": there(section["repair"]["over"], groups)},
        "regions": of_each(section["regions"], groups),
        "nested": [],
    }

"""Patterns to names: match what the configuration asks for against what segmenters can label."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from backsplit.config.base import BACKGROUND, IGNORE, MOST_LABEL
from backsplit.config.lesion_words import is_lesion
from backsplit.config.model import Config
from backsplit.errors import Code, Problem
from backsplit.scheme.scheme import Classes, Opinion, Scheme


@dataclass
class _Resolver:
    """Gathers problems while names are resolved."""

    config: Config
    classes: Mapping[str, Classes]
    file: Path
    problems: list[Problem]

    def problem(
        self, code: Code, column: str, value: str | None, message: str, remedy: str
    ) -> None:
        self.problems.append(
            Problem(code, str(self.file), message, remedy, column=column, value=value)
        )

    def hits(self, pattern: str, column: str) -> list[tuple[str, str]]:
        """(segmenter, class) pairs that `segmenter/class` with wildcards names."""
        segmenter, _, wanted = pattern.partition("/")
        if segmenter not in self.classes:
            return []  # its own problem is reported already
        names = self.classes[segmenter]
        hits = [(segmenter, name) for name in names if fnmatchcase(name, wanted)]
        if not hits:
            shown = _near(wanted, list(names))
            self.problem(
                Code.PATTERN_UNMATCHED,
                column,
                pattern,
                f"matches no class of segmenter {segmenter!r}; {shown}",
                f"choose from `backsplit labels {segmenter} -c {shlex.quote(str(self.file))}`",
            )
        return hits

    def labels(self, patterns: Iterable[str], column: str, among: Sequence[str]) -> tuple[str, ...]:
        """Label names that names, groups and wildcards stand for, in the order of the labels."""
        found: set[str] = set()
        for pattern in patterns:
            hits = self.config.compose.named([pattern], among)
            if not hits:
                self.problem(
                    Code.PATTERN_UNMATCHED,
                    column,
                    pattern,
                    f"is not a label, group or wildcard of labels; {_near(pattern, list(among))}",
                    "choose one of targets, structures or compose.groups",
                )
            found |= set(hits)
        return tuple(name for name in among if name in found)


def resolve(
    config: Config, classes: Mapping[str, Classes], file: Path
) -> tuple[Scheme, list[Problem]]:
    """Resolve every name and pattern of a configuration.

    Parameters
    ----------
    config : the configuration
    classes : what each used segmenter can label
    file : the configuration file, for messages

    Returns
    -------
    scheme, problems
        With problems the scheme is incomplete and must not be used.
    """
    problems: list[Problem] = []
    resolver = _Resolver(config, classes, file, problems)
    names = (BACKGROUND, *config.targets, *config.structures)
    if len(names) > MOST_LABEL:  # they count from 0, and `ignore` comes after them
        resolver.problem(
            Code.CONFIG_INVALID, "structures", None, f"{len(names)} labels", f"{MOST_LABEL} fit"
        )
    for name, patterns in config.compose.groups.items():
        resolver.labels(patterns, f"compose.groups.{name}", names[1:])
    scheme = Scheme(
        targets=dict(config.targets),
        names=names,
        sources=_sources(resolver),
        exceptions=_exceptions(resolver, names[1:]),
        hosts=_hosts(resolver),
        regions=_regions(resolver, names[1:]),
        nested=config.compose.nested,
        opinions=_opinions(config),
        lent=_lent(resolver),
    )
    return scheme, problems


def _sources(resolver: _Resolver) -> dict[str, dict[str, str]]:
    """What each class becomes: its structure, or what `segmenter_lesions` says."""
    config = resolver.config
    sources: dict[str, dict[str, str]] = {name: {} for name in config.used_segmenters}
    for (segmenter, name), rule in _lesion_rules(resolver).items():
        if rule != BACKGROUND:
            sources[segmenter][name] = rule
    ruled = set(_lesion_rules(resolver, quiet=True))
    for structure, section in config.structures.items():
        column = f"structures.{structure}"
        for pattern in section.of:
            hits = resolver.hits(pattern, column)
            if hits and ruled.issuperset(hits) and "*" in pattern:
                resolver.problem(
                    Code.PATTERN_UNMATCHED,
                    column,
                    pattern,
                    "has no effect: compose.segmenter_lesions says what becomes of each of its "
                    "classes",
                    "remove it, or name the class without wildcards",
                )
            for segmenter, name in hits:
                named_exactly = pattern == f"{segmenter}/{name}"
                if (segmenter, name) in ruled and not named_exactly:
                    continue  # a wildcard does not catch what has a rule of its own
                owner = sources[segmenter].setdefault(name, structure)
                if owner != structure:
                    resolver.problem(
                        Code.CLASS_AMBIGUOUS,
                        column,
                        pattern,
                        f"{segmenter}/{name} goes to {owner!r} and to {structure!r}",
                        "give each class to one structure",
                    )
    _require_rules_for_lesions(resolver, ruled)
    return sources


def _opinions(config: Config) -> dict[str, Opinion]:
    """Structures that several segmenters label, and who decides."""
    return {
        name: Opinion(structure.segmenters, structure.by or "first", structure.disagree)
        for name, structure in config.structures.items()
        if len(structure.segmenters) > 1
    }


def _lent(resolver: _Resolver) -> dict[str, tuple[str, ...]]:
    """Classes that a structure has by a rule for lesions, and does not name itself."""
    structures = resolver.config.structures
    found: dict[str, tuple[str, ...]] = {}
    for (segmenter, name), label in _lesion_rules(resolver, quiet=True).items():
        if label in structures and f"{segmenter}/{name}" not in structures[label].of:
            found[segmenter] = (*found.get(segmenter, ()), name)
    return found


def _lesion_rules(resolver: _Resolver, *, quiet: bool = False) -> dict[tuple[str, str], str]:
    """(segmenter, class) to the label that `segmenter_lesions` gives it."""
    kept = len(resolver.problems)
    allowed = (*resolver.config.structures, BACKGROUND, IGNORE)
    rules: dict[tuple[str, str], str] = {}
    for pattern, label in resolver.config.compose.segmenter_lesions.items():
        column = "compose.segmenter_lesions"
        if pattern.partition("/")[0] not in resolver.config.segmenters:
            resolver.problem(
                Code.PATTERN_UNMATCHED,
                column,
                pattern,
                "is not segmenter/class",
                f"name one of {', '.join(resolver.config.segmenters)}",
            )
        elif pattern.partition("/")[0] not in resolver.config.used_segmenters:
            resolver.problem(
                Code.PATTERN_UNMATCHED,
                column,
                pattern,
                "has no effect: no structure uses a class of this segmenter, so it is not run",
                "remove it, or add a structure",
            )
        if label not in allowed:
            resolver.problem(
                Code.PATTERN_UNMATCHED,
                column,
                label,
                f"is not a structure; {_near(label, list(allowed))}",
                "give a structure, background or ignore",
            )
            label = BACKGROUND  # noqa: PLW2901 (the problem is noted; go on for the others)
        rules |= dict.fromkeys(resolver.hits(pattern, column), label)
    if quiet:
        del resolver.problems[kept:]
    return rules


def _require_rules_for_lesions(resolver: _Resolver, ruled: set[tuple[str, str]]) -> None:
    """Refuse a segmenter that labels lesions itself when nobody said what becomes of them."""
    exact = {p for structure in resolver.config.structures.values() for p in structure.of}
    for segmenter, names in resolver.classes.items():
        open_ = [
            name
            for name in names
            if is_lesion(name)
            and (segmenter, name) not in ruled
            and f"{segmenter}/{name}" not in exact
        ]
        if open_:
            resolver.problem(
                Code.LESION_CLASS_UNRULED,
                "compose.segmenter_lesions",
                None,
                f"segmenter {segmenter!r} labels lesions itself ({', '.join(open_)}) and no rule "
                "says what becomes of them",
                f"add `segmenter_lesions: {{{segmenter}/{open_[0]}: …}}` with a structure, "
                "`background` or `ignore`",
            )


def _exceptions(resolver: _Resolver, labels: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """(winner, loser) pairs; refuses pairs that contradict each other."""
    pairs: dict[tuple[str, str], None] = {}
    column = "compose.except"
    for rule in resolver.config.compose.except_:
        winners = resolver.labels([rule.winner], column, labels)
        losers = resolver.labels([rule.loser], column, labels)
        pairs |= {(w, loser): None for w in winners for loser in losers if w != loser}
    beats: dict[str, set[str]] = {}
    for winner, loser in pairs:
        beats.setdefault(loser, set()).add(winner)
    try:
        tuple(TopologicalSorter(beats).static_order())
    except CycleError as error:
        circle = " over ".join(error.args[1])
        resolver.problem(
            Code.CONFIG_INVALID, column, None, f"forms a cycle: {circle}", "remove one of them"
        )
    return tuple(pairs)


def _hosts(resolver: _Resolver) -> dict[str, tuple[str, ...]]:
    """Structures that a target's lesions can lie in: given, or all that are not bands alone."""
    config = resolver.config
    bands = {name for name, section in config.segmenters.items() if not section.is_anatomy}
    anatomy = tuple(
        name
        for name, structure in config.structures.items()
        if not bands.issuperset(structure.segmenters)
    )
    column = "compose.hosts"
    unknown = sorted(set(config.compose.hosts) - set(config.targets))
    if unknown:
        resolver.problem(
            Code.CONFIG_INVALID, column, unknown[0], "is not a target", "name one of the targets"
        )
    resolver.labels(config.compose.repair.over, "compose.repair.over", tuple(config.structures))
    return {
        target: resolver.labels(
            config.compose.hosts[target], f"{column}.{target}", tuple(config.structures)
        )
        if target in config.compose.hosts
        else anatomy
        for target in config.targets
    }


def _regions(resolver: _Resolver, labels: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Regions from the largest to the smallest; each has one label that no later one has."""
    compose = resolver.config.compose
    if compose.emit != "regions":
        return {}
    regions = {
        name: resolver.labels(patterns, f"compose.regions.{name}", labels)
        for name, patterns in compose.regions.items()
    }
    ordered = sorted(regions.items(), key=lambda item: -len(item[1]))
    spoken_for: set[str] = set()
    for _, members in reversed(ordered):  # a region's own label: rather an organ than its lesion
        spoken_for |= set(next(([m] for m in reversed(members) if m not in spoken_for), []))
    alone = [label for label in labels if label not in spoken_for and label not in regions]
    ordered += [(label, (label,)) for label in alone]
    try:
        own_labels(dict(ordered))
    except ValueError as error:
        resolver.problem(
            Code.CONFIG_INVALID,
            "compose.regions",
            None,
            str(error),
            "let regions nest, each with one label more than those inside it",
        )
    return dict(ordered)


def own_labels(regions: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """The label that is left of each region when all later regions are painted over it.

    nnU-Net paints regions in order, each with its entry of `regions_class_order`: the label that
    belongs to it and to no later region.

    Raises
    ------
    ValueError
        When a region has no such label, or more than one.
    """
    own: dict[str, str] = {}
    names = list(regions)
    for position, name in enumerate(names):
        later = {label for other in names[position + 1 :] for label in regions[other]}
        left = [label for label in regions[name] if label not in later]
        if len(left) != 1:
            shown = ", ".join(left) or "none"
            raise ValueError(
                f"region {name!r} has {shown} of its own in addition to its inner regions"
            )
        own[name] = left[0]
    return own


def _near(wanted: str, names: Sequence[str]) -> str:
    """Names that are like the wanted one, or the first few."""
    near = difflib.get_close_matches(wanted.replace("*", ""), names, n=4, cutoff=0.5)
    shown = near or sorted(names)[:6]
    more = "" if near or len(names) <= 6 else f", … ({len(names)} in all)"
    return f"{'near names' if near else 'there are'}: {', '.join(shown)}{more}"

"""What readers of layouts share: listing, descriptions, labels, folds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backsplit.config.lesion_words import is_lesion
from backsplit.start.names import is_anatomy_name, name_of, stem, unlike

FOLDS_KEPT = "splits_final.json: its folds are kept"

TEST_IMAGES = ("[Ii]mages[Tt]s/*", "images of the test set, without labels")


@dataclass(frozen=True)
class Labels:
    """What a description says of label values.

    Attributes
    ----------
    values : name to value, background and ignore left out
    ignore : value that means `nobody looked`
    regions : region to the names of its values
    lesions : names that are lesions whatever they are called
    notes : what the user should know
    """

    values: Mapping[str, int]
    ignore: int | None = None
    regions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    lesions: Sequence[str] = ()
    notes: Sequence[str] = ()


def description(root: Path) -> dict[str, Any] | None:
    """Content of dataset.json; None if none can be read."""
    try:
        data = json.loads((root / "dataset.json").read_text("utf-8-sig"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def labels_of(data: Mapping[str, Any]) -> Labels:
    """Labels of a dataset.json: names to values, values to names (version 1), or regions."""
    given = data.get("labels", {})
    if not isinstance(given, Mapping):
        raise TypeError("labels is not a mapping")
    pairs = list(given.items())
    if pairs and all(str(key).isdigit() for key, _ in pairs):
        pairs = [(str(name), int(value)) for value, name in pairs]
    ignore = next((int(v) for n, v in pairs if n.lower() == "ignore"), None)
    plain = [(n, v) for n, v in pairs if n.lower() not in ("ignore", "background")]
    several = {n: [int(v) for v in value] for n, value in plain if isinstance(value, list | tuple)}
    single = {n: int(value) for n, value in plain if n not in several}
    if several:
        return _with_regions(single, several, data.get("regions_class_order"), ignore)
    values: dict[str, int] = {}
    for name, value in single.items():
        if value > 0:
            values[_numbered(name_of(name), value, values)] = value
    return Labels(values, ignore)


def _with_regions(
    single: Mapping[str, int],
    several: Mapping[str, Sequence[int]],
    order: object,
    ignore: int | None,
) -> Labels:
    """A name for each value that regions are made of: its own, else that of its smallest region.

    nnU-Net writes the values of `regions_class_order`, one for each region in their order, the
    smallest region last; that is the order of nesting where two have as many values.
    """
    regions = {**{n: [v] for n, v in single.items() if v > 0}, **several}
    ranks = {name: rank for rank, name in enumerate(regions)}
    names: dict[int, str] = {}
    for value in sorted({v for members in regions.values() for v in members if v > 0}):
        held = [name for name, members in regions.items() if value in members]
        held.sort(key=lambda name: (len(regions[name]), -ranks[name]))
        taken = {n: v for v, n in names.items()}
        names[value] = _numbered(name_of(held[0]), value, taken)
    values = {name: value for value, name in names.items()}
    made = {
        unlike(f"{name_of(name)}_whole", values): [names[v] for v in sorted(members)]
        for name, members in regions.items()
        if len(members) > 1
    }
    said = "; ".join(f"{value} is {name}" for value, name in names.items())
    lesions = [name for name in values if is_lesion(name) or not is_anatomy_name(name)]
    note = (
        f"labels are regions ({', '.join(several)}): each value gets the name of the smallest: "
        f"{said}"
    )
    return Labels(values, ignore, made, lesions, [note])


def _numbered(name: str, value: int, others: Iterable[str]) -> str:
    """The name, with its value where another has it."""
    return f"{name}_{value}" if name in set(others) else name


def folds_of(root: Path) -> tuple[dict[str, int], list[str]]:
    """The fold that validates each case, by nnU-Net's splits_final.json, and what to know of it."""
    path = root / "splits_final.json"
    try:
        splits = json.loads(path.read_text("utf-8"))
        validated = [[str(case) for case in split["val"]] for split in splits]
        trained = [{str(case) for case in split["train"]} for split in splits]
    except FileNotFoundError:
        return {}, []
    except (OSError, ValueError, KeyError, TypeError):
        return {}, [f"{path.name} cannot be read: new folds are made"]
    folds = {case: number for number, split in enumerate(validated) for case in split}
    everyone = set().union(*map(set, validated), *trained)
    if sum(map(len, validated)) != len(folds):
        return {}, [f"{path.name} validates a case in several folds: new folds are made"]
    if any(train != everyone - set(val) for train, val in zip(trained, validated, strict=True)):
        note = f"{path.name} leaves cases out of a fold: only what each fold validates is kept"
        return folds, [note]
    return folds, []


def folder_of(root: Path, name: str) -> Path:
    """A folder whatever the case of its letters: imagesTr, ImagesTr."""
    here = root.iterdir() if root.is_dir() else ()
    found = [path for path in here if path.name.lower() == name.lower() and path.is_dir()]
    return min(found, default=root / name)


def volumes(folder: Path) -> Iterator[tuple[str, Path]]:
    """Volumes of a folder: name without ending, and path."""
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if (name := stem(path.name)) is not None:
                yield name, path


def there(path: Path) -> Path | None:
    """The path, where something is there."""
    return path if path.exists() else None

"""Predictions of a data set against the lesions as they were drawn, case by case."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from backsplit.cases.lesion import Lesion, read_lesion
from backsplit.cases.table import Case
from backsplit.config.slices import LesionValues
from backsplit.errors import CaseError, Code, RunError
from backsplit.store.status import Outcome, Status
from backsplit.train.lesionwise import RULES, LesionWise, Rule, lesion_wise, reference_lesions
from backsplit.train.scores import score
from backsplit.volume import VOLUME_ENDINGS, Array, Grid, read_grid, read_labels, require_same_grid

log = logging.getLogger(__name__)

ANY = "any target"
"""The row of all targets together, where there are several."""

TOLERANCE_MM = 2.0
"""Of NSD unless told otherwise."""


@dataclass(frozen=True)
class Options:
    """How predictions are scored.

    Attributes
    ----------
    tolerance_mm : of NSD
    rule : which lesions count, and what belongs to them
    threads : cases scored at the same time
    """

    tolerance_mm: float = TOLERANCE_MM
    rule: Rule = RULES["plain"]
    threads: int = 2


@dataclass(frozen=True)
class CaseRow:
    """One target of one case. Volumes in ml, distances in mm; NaN where nothing can be said.

    Attributes
    ----------
    dice, nsd, hd95_mm, false_positive_ml, false_negative_ml : as in `train.scores`
    lesions, found, missed : reference lesions that count
    invented : predicted lesions that reach into no reference lesion
    lesion_dice, lesion_hd95_mm : means over lesions, as in `train.lesionwise`
    """

    case: str
    patient: str
    target: str
    reference_ml: float
    predicted_ml: float
    dice: float
    nsd: float
    hd95_mm: float
    false_positive_ml: float
    false_negative_ml: float
    lesions: int
    found: int
    missed: int
    invented: int
    lesion_dice: float
    lesion_hd95_mm: float


@dataclass(frozen=True)
class LesionRow:
    """One lesion: of the reference, or (`invented`) a predicted one that reaches into none.

    Attributes
    ----------
    diameter_mm : of a sphere of the same volume
    covered : share of its voxels that was predicted
    counts : whether it is larger than the smallest that counts
    """

    case: str
    target: str
    kind: str
    number: int
    volume_ml: float
    diameter_mm: float
    found: bool
    covered: float
    dice: float
    hd95_mm: float
    counts: bool


@dataclass(frozen=True)
class Evaluation:
    """What was scored.

    Attributes
    ----------
    cases : a row for each case and target (`CaseRow`)
    lesions : a row for each lesion (`LesionRow`)
    outcomes : what became of each case that has a prediction
    """

    cases: pd.DataFrame
    lesions: pd.DataFrame
    outcomes: Sequence[Outcome]


def predictions_in(folder: Path) -> dict[str, Path]:
    """Label maps of a folder by the name before their ending.

    Raises
    ------
    RunError
        FILE_MISSING if it does not exist.
    """
    found = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        ending = next((e for e in VOLUME_ENDINGS if path.name.lower().endswith(e)), None)
        if ending is not None and not path.name.startswith("."):
            found[path.name[: -len(ending)]] = path
    if not found:
        raise RunError(
            Code.FILE_MISSING,
            f"{folder} has no label map",
            "name the folder that nnUNetv2_predict wrote to",
        )
    return found


def evaluate(
    cases: Sequence[Case],
    values: LesionValues,
    predictions: Mapping[str, Path],
    options: Options,
    progress: Callable[[Outcome], None] = lambda outcome: None,
) -> Evaluation:
    """Score predictions.

    The reference is the lesion file of the table on the grid of its image, not what composing or a
    trainer made of it. In a prediction the ids 1 … T are the targets in the order of the
    configuration; all others are anatomy.

    Parameters
    ----------
    cases : those of the table that have a prediction
    values : what the values of lesion files mean
    predictions : case id to label map, on the grid of the case's image
    options : tolerance and rule
    progress : is told of each case
    """
    rows: list[CaseRow] = []
    lesions: list[LesionRow] = []
    outcomes = []
    work = partial(_evaluate_case, values=values, predictions=predictions, options=options)
    with ThreadPoolExecutor(options.threads) as pool:
        for case, scored in zip(cases, pool.map(partial(_caught, work), cases), strict=True):
            if isinstance(scored, CaseError):
                outcome = Outcome(case.id, Status.FAILED, str(scored.code), str(scored))
            else:
                outcome = Outcome(case.id, Status.DONE)
                for row, mine in scored:
                    rows.append(row)
                    lesions += mine
            outcomes.append(outcome)
            progress(outcome)
    return Evaluation(_table(rows, CaseRow), _table(lesions, LesionRow), outcomes)


Scored = list[tuple[CaseRow, list[LesionRow]]]


def _caught(work: Callable[[Case], Scored], case: Case) -> Scored | CaseError:
    """One bad case does not stop the others."""
    try:
        return work(case)
    except CaseError as error:
        return error
    except Exception as error:  # whatever it is, it is this case's
        log.exception("%s", case.id)
        what = f"could not be scored ({type(error).__name__}: {error})"
        return CaseError(Code.INTERNAL, what, "see the log, and report this as a bug")


def _evaluate_case(
    case: Case, values: LesionValues, predictions: Mapping[str, Path], options: Options
) -> Scored:
    path = predictions[case.id]
    grid = read_grid(case.images[values.placing.grid_channel])
    predicted = read_labels(path)
    require_same_grid(str(path), predicted.grid, grid, "its image")
    lesion = read_lesion(case, values, grid)
    return list(_each_target(case, lesion, predicted.array, grid, values, options))


def _each_target(
    case: Case,
    lesion: Lesion | None,
    predicted: Array,
    grid: Grid,
    values: LesionValues,
    options: Options,
) -> Iterator[tuple[CaseRow, list[LesionRow]]]:
    """Each target, and all of them together where there are several."""
    count = len(values.targets)
    everywhere = np.zeros(grid.shape, bool)
    for target, name in enumerate(values.targets, start=1):
        reference, numbers = _reference(lesion, target, grid, options.rule)
        everywhere |= reference
        yield _score(case, name, reference, numbers, predicted == target, grid, options)
    if count > 1:
        numbers = reference_lesions(everywhere, options.rule)
        lesions = (predicted > 0) & (predicted <= count)
        yield _score(case, ANY, everywhere, numbers, lesions, grid, options)


def _reference(lesion: Lesion | None, target: int, grid: Grid, rule: Rule) -> tuple[Array, Array]:
    """Mask of a target as it was drawn, and the number of each of its lesions."""
    if lesion is None:
        nothing = np.zeros(grid.shape, bool)
        return nothing, nothing.astype(np.uint8)
    drawn = lesion.map.array
    mine = np.zeros(int(drawn.max()) + 1, bool)
    for value, targets in lesion.claims.items():
        if value < len(mine):
            mine[value] = target in targets
    mask: Array = mine[drawn]
    if lesion.numbers is None or rule.dilation:  # BraTS tells lesions apart itself
        return mask, reference_lesions(mask, rule)
    return mask, np.where(mask, lesion.numbers[:, target][drawn], 0)


def _score(
    case: Case,
    target: str,
    reference: Array,
    numbers: Array,
    predicted: Array,
    grid: Grid,
    options: Options,
) -> tuple[CaseRow, list[LesionRow]]:
    scores = score(reference, predicted, grid, options.tolerance_mm)
    found = lesion_wise(numbers, predicted, grid, options.rule)
    counted = found.counted
    hits = sum(lesion.found for lesion in counted)
    row = CaseRow(
        case.id,
        case.patient,
        target,
        **asdict(scores),
        lesions=len(counted),
        found=hits,
        missed=len(counted) - hits,
        invented=len(found.invented_ml),
        lesion_dice=found.dice,
        lesion_hd95_mm=found.hd95_mm,
    )
    return row, list(_lesion_rows(case, target, found))


def _lesion_rows(case: Case, target: str, found: LesionWise) -> Iterator[LesionRow]:
    for x in found.lesions:
        yield LesionRow(
            case.id,
            target,
            "reference",
            x.number,
            x.volume_ml,
            diameter_mm(x.volume_ml),
            x.found,
            x.covered,
            x.dice,
            x.hd95_mm,
            x.counts,
        )
    for number, ml in enumerate(found.invented_ml, start=1):
        size = diameter_mm(ml)
        yield LesionRow(
            case.id, target, "invented", number, ml, size, True, 0.0, 0.0, math.inf, True
        )


def diameter_mm(volume_ml: float) -> float:
    """Diameter of a sphere of a volume."""
    return 2 * math.cbrt(3 * 1000 * volume_ml / (4 * math.pi))


def _table(rows: Sequence[CaseRow] | Sequence[LesionRow], kind: type) -> pd.DataFrame:
    """Rows as a table, with its columns where there is no row."""
    return pd.DataFrame([asdict(row) for row in rows], columns=[f.name for f in fields(kind)])

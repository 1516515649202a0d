"""Flags of lesions: what was drawn, and where it lies.

A lesion has no usual shape, size or place, so that none of these is compared between cases. What is
flagged is what goes wrong with lesion files: another image's, an inverted one, crumbs, cuts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from backsplit.config.quality import Severity
from backsplit.judge.verdicts import FLAG_COLUMNS

MOST_OF_BODY = 0.5
"""A target that is more of the body than this is no lesion but an inverted mask or the body itself.
No data set is behind it: half of the body is far beyond any lesion, and far below both of these."""

MOST_OUTSIDE = 0.5
"""A lesion is taken to be outside the body where more of it than this is: the mask of the body is
coarse, and lesions of the skin reach out of it."""


DUST = 3
"""So many lesions of a single voxel are no slip of the pen."""

FLAT_END = 1.25
"""A lesion that ends this many times as wide as it is on average was cut: half a ball ends 1.5
times as wide, a tube 1 time."""

FLAT_VOXELS = 200
"""Smaller lesions are too coarse for their ends to be judged."""

MOST_OF_HOST = 0.8
"""A lesion that is more of its organ, itself included, than this may be the organ's own mask. No
data set is behind it."""

ONE_SIGN = 0.9
"""Lesions are brighter, or darker, than their hosts where they are in so many of the cases."""

CONTRAST_CASES = 10
LEAST_CONTRAST = 1.0
"""A reversed contrast is one of at least the host's own standard deviation."""


def flag_lesions(
    drawn: pd.DataFrame, lesions: pd.DataFrame, measures: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Flag what is odd about the lesions of a case.

    Parameters
    ----------
    drawn, lesions, measures : the tables of `results/qc`
    """
    rows = [*_empty(drawn), *_odd_value(drawn), *_gaps(drawn), *_covering(drawn)]
    rows += [*_outside(lesions), *_dust(lesions), *_cut(lesions), *_at_border(lesions)]
    rows += [*_reversed(lesions), *_filling(lesions, measures)]
    return pd.DataFrame(rows, columns=FLAG_COLUMNS)


def _empty(drawn: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Files in which there is no lesion: right for some patients, and a slip for others."""
    files = ["case", "column"]
    bare = ~drawn[["parts", "drawn_ml"]].fillna(0).astype(bool).any(axis=1)
    whole = bare.groupby([drawn[name] for name in files]).transform("all").eq(True)
    for (case, column), mine in drawn[whole].groupby(files, sort=False):
        targets = list(mine["target"])
        message = (
            f"the file of column {column} holds no {' or '.join(targets)}: the patient has none, "
            "or it was lost"
        )
        yield _flag(
            case, ", ".join(targets), "lesion_empty", Severity.WARN, "0 ml", "> 0 ml", message
        )


def _odd_value(drawn: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Masks of another value than most: whatever is not 0 is the target, and may be another."""
    masks = drawn[drawn["value"].notna()]
    for (target, _), mine in masks.groupby(["target", "column"], sort=False):
        counts = mine["value"].value_counts()
        usual = counts.index[0]
        if counts.iloc[0] <= len(mine) / 2:
            continue  # no value is usual
        expected = f"{usual:.0f}, as in {counts.iloc[0]} of {len(mine)} cases"
        for row in mine[mine["value"] != usual].to_dict("records"):
            value = f"{row['value']:.0f}"
            message = (
                f"{target} has the value {value} in its file where {usual:.0f} is usual; "
                "every voxel that is not 0 counts as the target, so it may be something else"
            )
            yield _flag(
                row["case"], target, "lesion_value", Severity.WARN, value, expected, message
            )


def _gaps(drawn: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Contours that leave out slices between the first and the last of a target."""
    for row in drawn[(drawn["kind"] == "contours") & (drawn["gaps"] > 0)].to_dict("records"):
        message = (
            f"{row['target']}: {row['gaps']:.0f} slices between its first and last contour have "
            "none: several lesions, or one drawn on some slices only, which nothing fills in"
        )
        value = f"{row['gaps']:.0f} slices"
        yield _flag(
            row["case"], row["target"], "lesion_gaps", Severity.WARN, value, "0 slices", message
        )


def _covering(drawn: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for row in drawn[drawn["body_fraction"] > MOST_OF_BODY].to_dict("records"):
        share = f"{row['body_fraction']:.0%}"
        message = (
            f"{row['target']} has {share} of the body's volume: the mask may be inverted, or of "
            "the body"
        )
        expected = f"at most {MOST_OF_BODY:.0%}"
        yield _flag(
            row["case"], row["target"], "lesion_covers", Severity.REVIEW, share, expected, message
        )


def _outside(lesions: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Lesions outside the body, the worst of each target."""
    off = lesions[lesions["outside_fraction"] > MOST_OUTSIDE]
    for (case, target), mine in off.groupby(["case", "target"], sort=False):
        worst = mine.sort_values("volume_ml").iloc[-1]
        more = f" (and {len(mine) - 1} more)" if len(mine) > 1 else ""
        share = f"{worst['outside_fraction']:.0%}"
        message = (
            f"lesion {worst['instance']} ({target}) is {share} outside the body{more}: "
            "the file may be of another image"
        )
        expected = f"at most {MOST_OUTSIDE:.0%}"
        yield _flag(case, target, "lesion_outside", Severity.WARN, share, expected, message)


def _dust(lesions: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Lesions of a single voxel: crumbs of a resampling, a threshold or a pen."""
    single = lesions["voxels"].eq(1).groupby([lesions["case"], lesions["target"]], sort=False)
    counted = single.agg(["sum", "size"]).reset_index()
    many = counted[counted["sum"] >= DUST]
    for case, target, count, total in many.itertuples(index=False, name=None):
        value = f"{count} of {total} lesions"
        message = f"{target}: {value} are single voxels; the mask may contain debris"
        expected = f"fewer than {DUST}"
        yield _flag(case, target, "lesion_dust", Severity.WARN, value, expected, message)


def _cut(lesions: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Lesions with a flat end within the image, the largest of each target."""
    large = lesions["voxels"].fillna(0) >= FLAT_VOXELS
    for (case, target), mine in lesions[large & (lesions["flat_end"] > FLAT_END)].groupby(
        ["case", "target"], sort=False
    ):
        worst = mine.sort_values("volume_ml").iloc[-1]
        value = f"{worst['flat_end']:.1f} times its mean width"
        message = (
            f"lesion {worst['instance']} ({target}) ends in a flat face, {value}: it may have been "
            "cut off by cropping or by slices that were not drawn"
        )
        expected = f"at most {FLAT_END:g} times"
        yield _flag(case, target, "lesion_cut", Severity.WARN, value, expected, message)


def _at_border(lesions: pd.DataFrame) -> Iterator[dict[str, Any]]:
    touching = lesions[lesions["touches_border"].eq(True)]
    for (case, target), mine in touching.groupby(["case", "target"], sort=False):
        value = f"lesion {mine['instance'].iloc[0]}"
        value += f" and {len(mine) - 1} more" if len(mine) > 1 else ""
        message = f"{target}: {value} touches the image's border, and may extend beyond it"
        yield _flag(case, target, "lesion_border", Severity.WARN, value, "within it", message)


def _reversed(lesions: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Cases whose lesions are darker than their hosts where nearly all others are brighter."""
    known = lesions[lesions["contrast_to_noise"].notna() & (lesions["volume_ml"] > 0)]
    for target, mine in known.groupby("target", sort=False):
        weighted = mine["contrast_to_noise"] * mine["volume_ml"]
        cases = mine["case"]
        contrast = weighted.groupby(cases).sum() / mine["volume_ml"].groupby(cases).sum()
        if len(contrast) < CONTRAST_CASES:
            continue
        for sign, usual, odd in ((1, "brighter", "darker"), (-1, "darker", "brighter")):
            if (sign * contrast > 0).mean() < ONE_SIGN:
                continue
            for case, value in contrast[-sign * contrast > LEAST_CONTRAST].items():
                said = f"{abs(value):.1f} standard deviations {odd}"
                message = (
                    f"{target}: {said} than the organ around it, but {usual} in nearly all other "
                    "cases: the mask may be another image's, or the lesion of another kind"
                )
                yield _flag(case, target, "lesion_contrast", Severity.WARN, said, usual, message)


def _filling(lesions: pd.DataFrame, measures: pd.DataFrame | None) -> Iterator[dict[str, Any]]:
    """Targets that are most of the organ that they lie in."""
    if measures is None or not len(lesions):
        return
    labels = measures[measures["source"] == "labels"]
    organs = labels.set_index(["case", "structure"])["volume_ml"].to_dict()
    hosted = lesions[lesions["host"].notna()]
    taken = hosted.groupby(["case", "host"])["volume_ml"].sum().to_dict()
    volumes = hosted.groupby(["case", "target", "host"])["volume_ml"].sum().reset_index()
    for row in volumes.to_dict(orient="records"):
        case, target, host = str(row["case"]), str(row["target"]), str(row["host"])
        whole = organs.get((case, host), 0.0) + taken[case, host]
        share = row["volume_ml"] / whole if whole else 0.0
        if share > MOST_OF_HOST:
            value = f"{share:.0%} of {host}"
            message = f"{target} is {value}: the mask may be the organ's own"
            expected = f"at most {MOST_OF_HOST:.0%}"
            yield _flag(case, target, "lesion_fills", Severity.WARN, value, expected, message)


def _flag(
    case: object,
    subject: object,
    rule: str,
    severity: Severity,
    value: str,
    expected: str,
    message: str,
) -> dict[str, Any]:
    row = (case, subject, rule, severity, value, expected, message)
    return dict(zip(FLAG_COLUMNS, row, strict=True))

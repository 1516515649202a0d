"""Many measures of a structure at once: how unlike the other cases' it is."""

from __future__ import annotations

import numpy as np
from scipy.special import chdtrc, chdtri, fdtrc, fdtri
from sklearn.covariance import ledoit_wolf_shrinkage

from backsplit.judge.cube import median, quantile, spread
from backsplit.volume import Array

WINSOR = 3.0
"""Where standardised values are clipped before their correlations are taken, so that a faulty case
does not make its own fault look ordinary."""

CALM = 0.75
"""Share of the cases that is taken for ordinary: the distances are scaled so that this quantile is
what theory says, which takes in tails that are heavier than a normal distribution's."""


def distances(values: Array, floors: Array) -> tuple[Array, Array]:
    """Distance of each case from all the others, correlations taken into account.

    Values are standardised by median and MAD. The distance is Mahalanobis' to the other cases: the
    correlation matrix is that of the others alone, shrunk as Ledoit & Wolf (2004) have it, because
    there may be few more cases than measures.

    Parameters
    ----------
    values : (case, measure), all finite
    floors : least standard deviation of each measure that is taken for granted

    Returns
    -------
    squares, standardised
        squared distance of each case, (case,); values in robust standard deviations,
        (case, measure)
    """
    middle = median(values)
    z = (values - middle) / np.maximum(spread(values, middle), floors)
    clipped = np.clip(z, -WINSOR, WINSOR)
    count, width = z.shape
    shrunk = float(ledoit_wolf_shrinkage(clipped, assume_centered=True))
    moments = clipped.T @ clipped
    # a case is taken out of the sum of all by Sherman and Morrison's formula
    part = (1 - shrunk) / (count - 1)
    ridge = shrunk * np.trace(moments) / (count * width)
    inverse = np.linalg.inv(part * moments + max(ridge, 1e-6) * np.eye(width))
    own = np.einsum("ci,ij,cj->c", z, inverse, z)
    cross = np.einsum("ci,ij,cj->c", z, inverse, clipped)
    lever = np.einsum("ci,ij,cj->c", clipped, inverse, clipped)
    return own + part * cross**2 / np.maximum(1 - part * lever, 1e-6), z


def by_chance(squares: Array, width: int) -> Array:
    """Chance that an ordinary case lies as far off as each of these.

    A new case's squared distance from `n` others follows Fisher's F with (measures, n - measures)
    degrees of freedom, but for a factor (Hotelling's T-squared), which is taken from the cases.

    Parameters
    ----------
    squares : squared distance of each case from the others
    width : number of measures
    """
    freedom = max(len(squares) - 1 - width, 1)
    calm = fdtri(width, freedom, CALM)
    with np.errstate(divide="ignore"):  # where most cases are one and the same
        far = np.divide(
            squares, np.quantile(squares, CALM), np.zeros(len(squares)), where=squares > 0
        )
    return np.asarray(fdtrc(width, freedom, far * calm))


def combined(chances: Array) -> Array:
    """Chances, (case, structure, kind), taken together as Fisher (1932) does; NaN are left out.

    Kinds that are not independent make the sum of logarithms vary more: its scale is taken from
    the cases, as above.
    """
    known = np.isfinite(chances)
    kinds = known.sum(axis=2)
    sums = -2 * np.where(known, np.log(np.where(known, chances, 1.0)), 0.0).sum(axis=2)
    # what few kinds say is put on the scale of all of them
    freedom = 2.0 * np.maximum(kinds, 1)
    usual = chdtri(freedom, 1 - CALM)
    sums = np.where(kinds > 0, sums, np.nan)
    ratio = sums / usual
    with np.errstate(invalid="ignore"):
        scale = np.maximum(quantile(ratio, CALM), 1.0)
    return np.asarray(np.where(kinds > 1, chdtrc(freedom, sums / scale), np.nan))

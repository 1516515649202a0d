"""Cases that stand out: held against a plain reading of the rules, with SciPy, on made-up data."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from backsplit.config.quality import Cohort
from backsplit.judge.cohort import limit_of, outliers
from backsplit.judge.cube import Cube
from backsplit.judge.place import Off, off_from_others
from support.cohort import SIDES, absent, changed, cohort, names_of


def found(table, off=None, **settings):
    return list(outliers(Cube.of(table), off, Cohort(**settings)))


def flagged(table, off=None, **settings):
    return {(case, f.rule, f.subject) for case, f in found(table, off, **settings)}


def features(rows):
    """(rule, values, least standard deviation, what is compared from above only) of a structure."""
    there = rows["voxels"] > 0
    whole = there & (rows["touches_border"] == 0)
    sides = [f"border_{side}" for side in ("right", "left", "anterior", "posterior")]
    inside = there & (rows[sides] == 0).all(axis=1)
    if whole.sum() >= 0.8 * len(rows):
        inside &= whole
    across = rows["volume_ml"] * 10 / (rows["box_z_max"] - rows["box_z_min"])
    yield "cohort_volume", np.log(rows["volume_ml"].where(whole)), 0.12, None
    yield "cohort_section", np.log(across.where(inside)), 0.12, None
    yield "cohort_intensity", rows["p50"].where(there), 10.0, None
    yield "cohort_brightest", rows["p95"].where(there), 20.0, None
    yield "cohort_contrast", np.log(rows["sd"].where(there)), 0.15, None
    for side in SIDES:
        yield "cohort_blunt", rows[f"blunt_{side}"].where(whole), 0.08, 1.0
    yield "cohort_parts", rows["stray_fraction"].where(there), 0.03, 0.0
    yield "cohort_holes", (rows["holes_ml"] / rows["volume_ml"]).where(there), 0.0045, 0.0


def obvious(table, limit=4.5, fewest=10):
    said = set()
    structures = table["structure"].nunique()
    for structure, rows in table.groupby("structure"):
        for rule, values, floor, above in features(rows):
            known = values.dropna()
            if len(known) < fewest:
                continue
            sd = max(stats.median_abs_deviation(known) * 1.4826, floor)
            middle = known.median() if above is None else max(known.median(), above)
            away = (known - middle).abs() if above is None else known - middle
            chance = stats.norm.sf(limit) * 120 / structures
            far = away / sd > stats.t.isf(chance, len(known) - 1)
            said |= {(case, rule, structure) for case in rows["case"][far[far].index]}
    return said


def shaken(seed, cases=40):
    """A cohort in which values of many cases are off by little or much."""
    table = cohort(cases, seed)
    rng = np.random.default_rng(100 + seed)
    for column, size in {
        "volume_ml": None, "p50": 60, "p95": 110, "sd": None, "stray_fraction": 0.3,
        "blunt_left": 1.5, "blunt_superior": 1.5, "holes_ml": 6, "box_z_max": 60,
    }.items():  # fmt: skip
        chosen = rng.random(len(table)) < 0.12
        much = rng.random(len(table))
        if size is None:
            table.loc[chosen, column] *= np.exp(2 * much[chosen] - 1)
        else:
            table.loc[chosen, column] += size * much[chosen]
    cut = rng.random(len(table)) < 0.1
    table.loc[cut, "touches_border"] = True
    table.loc[cut, "border_superior"] = 9
    side = rng.random(len(table)) < 0.05
    table.loc[side, "touches_border"] = True
    table.loc[side, "border_left"] = 1
    return table


@pytest.mark.parametrize("cases", [12, 40])
@pytest.mark.parametrize("seed", range(4))
def test_single_values_stand_out_as_in_the_plain_reading(seed, cases):
    table = shaken(seed, cases)
    # a structure that the field of view usually cuts off is compared by what is seen of it
    usually = table["structure"] == "aorta"
    table.loc[usually, "touches_border"] = True
    table.loc[usually, "border_inferior"] = 5
    said = {one for one in flagged(table) if one[1] not in ("cohort_absent", "cohort_truncated")}
    assert said == obvious(table)
    assert len({rule for _, rule, _ in said}) >= (8 if cases == 40 else 1)


def test_nothing_is_said_of_an_ordinary_cohort_nor_of_few_cases():
    assert not flagged(cohort(40))
    table = changed(cohort(9), ["c03"], "liver", {"p50": 900.0})
    assert not flagged(table) and flagged(table, fewest=9)
    few = absent(cohort(20), names_of(11), "liver")
    few = changed(few, ["c19"], "liver", {"p50": 900.0})
    assert not {one for one in flagged(few) if one[1] != "cohort_absent"}
    assert ("c19", "cohort_intensity", "liver") in flagged(few, fewest=9)


@pytest.mark.parametrize(
    ("values", "rule", "severity", "value"),
    [
        ({"volume_ml": 400.0}, "cohort_volume", "review", "400 ml"),
        ({"box_z_min": 0.0, "box_z_max": 20.0, "volume_ml": 1500.0}, "cohort_section", "review",
         "750 cm2 across"),
        ({"p50": 150.0}, "cohort_intensity", "warn", "median 150"),
        ({"p95": 300.0}, "cohort_brightest", "warn", "brightest twentieth from 300"),
        ({"sd": 80.0}, "cohort_contrast", "warn", "standard deviation of intensity 80"),
        ({"blunt_inferior": 2.0}, "cohort_blunt", "review",
         "inferior end 2.00 as wide as the structure is on average"),
        ({"stray_fraction": 0.4}, "cohort_parts", "review",
         "40% of it apart from its largest part"),
        ({"holes_ml": 150.0, "volume_ml": 1500.0}, "cohort_holes", "review", "holes of 10.0%"),
    ],
)  # fmt: skip
def test_an_outlier_is_said_in_words(values, rule, severity, value):
    (finding,) = [
        f for _, f in found(changed(cohort(), ["c07"], "liver", values)) if f.rule == rule
    ]
    assert (finding.subject, finding.severity, finding.value) == ("liver", severity, value)
    assert finding.expected.startswith("about ")
    assert finding.expected.endswith(" as in the other cases")
    assert finding.message.startswith(f"liver: {value}; {finding.expected} (")
    z = float(finding.message.rpartition("(")[2].removesuffix(" standard deviations)"))
    assert z > 4.5


@pytest.mark.parametrize(("cases", "structures"), [(20, 7), (1000, 120), (2, 300), (1, 0)])
def test_the_limit_allows_for_few_cases_and_few_structures(cases, structures):
    chance = min(stats.norm.sf(4.5) * 120 / max(structures, 1), 0.5)
    expected = stats.t.isf(chance, max(cases - 1, 1))
    assert float(limit_of(4.5, np.array(cases), structures)) == pytest.approx(expected)
    if (cases, structures) == (20, 7):
        assert expected == pytest.approx(4.8, abs=0.05)


def test_contrast_is_compared_in_any_unit():
    """The standard deviation of uptake values is far below 1."""
    table = cohort()
    table["sd"] /= 1000
    table = changed(table, ["c07"], "liver", {"sd": 0.0001})
    assert ("c07", "cohort_contrast", "liver") in flagged(table)


def test_a_lower_limit_finds_more():
    table = shaken(1)
    assert flagged(table, limit=6.0) < flagged(table) < flagged(table, limit=3.0)


# place and size among the others


def misplaced(cases, structures, seed=0):
    rng = np.random.default_rng(seed)
    shape = (cases, structures)
    off = Off(rng.normal(0, 4, (*shape, 3)), np.zeros((*shape, 6)), rng.normal(0, 0.2, shape))
    return off, rng


def obvious_places(table, off, limit=4.5):
    said = set()
    cases, structures = table["case"].unique(), table["structure"].unique()
    for rule, values, floor in (
        ("cohort_position", off.centroid_mm, 3.0),
        ("cohort_size", off.size[..., None], 0.15),
    ):
        middle = np.nanmedian(values, axis=0)
        sd = np.maximum(1.4826 * np.nanmedian(np.abs(values - middle), axis=0), floor)
        z = np.nan_to_num(np.abs(values - middle) / sd).max(axis=2)
        known = np.isfinite(values[..., 0]).sum(axis=0)
        most = stats.t.isf(stats.norm.sf(limit) * 120 / len(structures), known - 1)
        for i, j in np.ndindex(z.shape):
            if z[i, j] > most[j] and z[i, j] > 0.5 * z[i].max():
                said.add((cases[i], rule, structures[j]))
    return said


@pytest.mark.parametrize("seed", range(4))
def test_of_what_is_out_of_place_the_worst_are_blamed(seed):
    table = cohort(30, seed)
    off, rng = misplaced(30, 6, seed)
    off.centroid_mm[3, 2] += (0, 60, 0)
    off.centroid_mm[3, 4] += (0, 0, -45)
    off.centroid_mm[3, 5] += (0, 0, 25.5)  # less than half as far off as the worst
    off.size[8, 1] += 2.5
    off.size[8, 0] -= 2.0
    off.centroid_mm[rng.random((30, 6)) < 0.1] = np.nan
    said = {one for one in flagged(table, off) if one[1] in ("cohort_position", "cohort_size")}
    assert said == obvious_places(table, off) and len(said) >= 2


def test_what_is_out_of_place_is_said_in_words():
    table = cohort(30)
    off, _ = misplaced(30, 6)
    off.centroid_mm[:], off.size[:] = 0, 0
    off.centroid_mm[3, 2] = (-30, 0, 40)
    off.centroid_mm[4, 2] = (-40, 0, 3)
    off.centroid_mm[5, 2] = (0, 50, 3)
    off.size[6, 1] = np.log(3)
    said = {
        case: f for case, f in found(table, off) if f.rule in ("cohort_position", "cohort_size")
    }
    assert {case: f.value for case, f in said.items()} == {
        "c03": "50 mm off, to superior", "c04": "40 mm off, to right",
        "c05": "50 mm off, to posterior", "c06": "3 times the size",
    }  # fmt: skip
    assert {f.severity for f in said.values()} == {"review"}
    assert said["c03"].message == (
        "kidney_left: 50 mm off, to superior of what follows from the other structures of the case"
        " (13.3 standard deviations)"
    )


def obvious_off(table, fewest):
    """What each structure's partners say of it, case by case and structure by structure."""
    cases, structures = list(table["case"].unique()), list(table["structure"].unique())
    rows = table.set_index(["case", "structure"])
    ends = [f"box_{a}_{e}" for a in "xyz" for e in ("min", "max")]
    centroids = [f"centroid_{a}" for a in "xyz"]

    def known(case, name):
        row = rows.loc[case, name]
        return row if row["voxels"] > 0 and not row["touches_border"] else None

    result = np.full((len(cases), len(structures), 10), np.nan)
    for j, name in enumerate(structures):
        away = {}
        for other in structures:
            pairs = [(known(c, name), known(c, other)) for c in cases]
            both = [i for i, (a, b) in enumerate(pairs) if a is not None and b is not None]
            if other == name or len(both) < fewest:
                continue
            table_ = np.full((len(cases), 10), np.nan)
            for i in both:
                a, b = pairs[i]
                table_[i, :3] = a[centroids].to_numpy(float) - b[centroids].to_numpy(float)
                sides = np.repeat(b[centroids].to_numpy(float), 2)
                table_[i, 3:9] = a[ends].to_numpy(float) - sides
                table_[i, 9] = np.log(a["volume_ml"] / b["volume_ml"])
            distance = np.nanmedian(np.linalg.norm(table_[:, :3], axis=1))
            table_ -= np.nanmedian(table_, axis=0)
            sd = np.maximum(1.4826 * np.nanmedian(np.abs(table_), axis=0), 1e-3)
            away[other] = (distance, table_, 1 / sd**2)
        nearest = sorted(away.values(), key=lambda one: one[0])[:16]
        if len(nearest) < 2:
            continue
        for i in range(len(cases)):
            mine = [(one[i], w) for _, one, w in nearest if np.isfinite(one[i]).all()]
            if len(mine) >= 2:
                weights = np.array([w for _, w in mine])
                result[i, j] = (weights * [m for m, _ in mine]).sum(axis=0) / weights.sum(axis=0)
    return result


@pytest.mark.parametrize("fewest", [10, 20])
def test_misfits_are_weighted_by_inverse_variance(fewest):
    table = cohort(30, 3)
    rng = np.random.default_rng(1)
    table.loc[rng.random(len(table)) < 0.05, "touches_border"] = True
    table = absent(table, names_of(13), "sacrum")
    table = absent(table, ["c02", "c03"], "liver")
    off = off_from_others(Cube.of(table), fewest)
    expected = obvious_off(table, fewest)
    np.testing.assert_allclose(off.centroid_mm, expected[..., :3], atol=1e-9)
    np.testing.assert_allclose(off.ends_mm, expected[..., 3:9], atol=1e-9)
    np.testing.assert_allclose(off.size, expected[..., 9], atol=1e-9)
    assert np.isfinite(off.size[:, :5]).any(axis=0).all()
    assert np.isfinite(off.size[:, 5]).any() == (fewest == 10)


def test_the_sixteen_nearest_structures_say_where_one_should_be():
    """Twenty spleens in a row, each known from those beside it."""
    base = cohort(12, 0, names=["spleen"])
    rng = np.random.default_rng(0)
    parts = []
    for number in range(20):
        moved = base.assign(structure=f"s{number:02}")
        for axis in "xyz":
            step = 25.0 * number * (axis == "z") + rng.normal(0, 2, len(base))
            for column in (f"centroid_{axis}", f"box_{axis}_min", f"box_{axis}_max"):
                moved[column] = moved[column] + step
        parts.append(moved)
    table = pd.concat(parts, ignore_index=True)
    off = off_from_others(Cube.of(table), 10)
    expected = obvious_off(table, 10)
    np.testing.assert_allclose(off.centroid_mm, expected[..., :3], atol=1e-9)
    np.testing.assert_allclose(off.size, expected[..., 9], atol=1e-9)


def test_too_few_cases_or_structures_say_nothing_of_places():
    assert off_from_others(Cube.of(cohort(9)), 10) is None
    assert off_from_others(Cube.of(cohort(10)), 10) is not None
    assert off_from_others(Cube.of(cohort(20, names=("liver", "spleen"))), 10) is None
    assert off_from_others(Cube.of(cohort(20, names=("liver", "spleen", "aorta"))), 10) is not None


# what most cases have


@pytest.mark.parametrize(("without", "said"), [(4, True), (8, True), (9, False)])
def test_structures_of_four_fifths_of_cases_are_expected_in_all(without, said):
    gone = names_of(without)
    table = absent(cohort(40), gone, "spleen")
    expected = {(case, "cohort_absent", "spleen") for case in gone} if said else set()
    assert flagged(table) == expected
    cut = changed(cohort(40), gone, "spleen", {"touches_border": 1, "border_superior": 3})
    expected = {(case, "cohort_truncated", "spleen") for case in gone} if said else set()
    assert flagged(cut) == expected


def test_what_is_missing_is_said_in_words():
    table = absent(cohort(40), ["c01"], "spleen")
    table = changed(table, ["c02"], "liver", {"touches_border": 1, "border_inferior": 2})
    said = dict(found(table))
    assert (said["c01"].severity, said["c02"].severity) == ("review", "info")
    assert said["c01"].message == "spleen: 0 voxels; expected there, as in most cases"
    assert said["c02"].message == (
        "liver: cut off by the field of view; expected whole, as in most cases"
    )

"""Cases that stand out: held against a plain reading of the rules, with SciPy, on made-up data."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from backsplit.config.quality import AnatomyRules, Cohort
from backsplit.judge.absent import absences
from backsplit.judge.anatomy import anatomy_rules
from backsplit.judge.cohort import single_looks
from backsplit.judge.cube import Cube
from backsplit.judge.looks import eased
from backsplit.judge.place import Off, off_from_others
from support.cohort import SIDES, absent, changed, cohort, names_of


def looks(table, off=None, fewest=10):
    return list(single_looks(Cube.of(table), off, Cohort(fewest=fewest)))


def look(table, rule, off=None):
    return next(one for one in looks(table, off) if one.rule == rule)


def features(rows):
    """(rule, values, least standard deviation, from where on large is unusual), as looks come."""
    there = rows["voxels"] > 0
    whole = there & (rows["touches_border"] == 0)
    sides = [f"border_{side}" for side in ("right", "left", "anterior", "posterior")]
    inside = there & (rows[sides] == 0).all(axis=1)
    if whole.sum() >= 0.8 * len(rows):
        inside &= whole
    across = rows["volume_ml"] * 10 / (rows["box_z_max"] - rows["box_z_min"])
    yield "cohort_volume", np.log(rows["volume_ml"].where(whole)), 0.12, None
    for side in SIDES:
        yield "cohort_blunt", rows[f"blunt_{side}"].where(whole), 0.08, 1.0
    yield "cohort_parts", rows["stray_fraction"].where(there), 0.03, 0.0
    yield "cohort_section", np.log(across.where(inside)), 0.12, None
    yield "cohort_intensity", rows["p50"].where(there), 10.0, None
    yield "cohort_brightest", rows["p95"].where(there), 20.0, None
    yield "cohort_contrast", np.log(rows["sd"].where(there)), 0.15, None
    yield "cohort_holes", (rows["holes_ml"] / rows["volume_ml"]).where(there), 0.0045, 0.0


def plain(rows, floor, values, above, fewest):
    """Chance of each value, by SciPy; nothing is known of what too few have."""
    known = values.dropna()
    if len(known) < fewest:
        return np.full(len(rows), np.nan)
    sd = max(stats.median_abs_deviation(known) * 1.4826, floor)
    if above is None:
        return np.asarray(2 * stats.t.sf((values - known.median()).abs() / sd, len(known) - 1))
    z = (values - max(known.median(), above)) / sd
    return np.where(z > 0, stats.t.sf(z, len(known) - 1), np.where(z.isna(), np.nan, 1.0))


def heavier(chances):
    """Chances by structure, with tails as heavy as its own and, as a hundred cases, all others'."""
    known = [chance[np.isfinite(chance)] for chance in chances]
    own = [
        max(np.quantile(-np.log10(k), 0.85) / -np.log10(0.15), 1.0) if len(k) else np.nan
        for k in known
    ]
    both = [
        (len(k) * heavy + 100 * np.nanmean(own)) / (len(k) + 100) if len(k) else 1.0
        for k, heavy in zip(known, own, strict=True)
    ]
    return [chance ** (1 / heavy) for chance, heavy in zip(chances, both, strict=True)]


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


@pytest.mark.parametrize(("cases", "fewest"), [(12, 12), (40, 10)])
@pytest.mark.parametrize("seed", range(4))
def test_chances_are_those_of_the_plain_reading(seed, cases, fewest):
    table = shaken(seed, cases)
    # a structure that the field of view usually cuts off is compared by what is seen of it
    usually = table["structure"] == "aorta"
    table.loc[usually, "touches_border"] = True
    table.loc[usually, "border_inferior"] = 5
    found = looks(table, fewest=fewest)
    of_each = [list(features(rows)) for _, rows in table.groupby("structure", sort=False)]
    names = [rule for rule, *_ in of_each[0]]
    assert names == [one.rule for one in found]
    least = []
    for number, one in enumerate(found):
        raw = []
        for (_, rows), expected in zip(
            table.groupby("structure", sort=False), of_each, strict=True
        ):
            _, values, floor, above = expected[number]
            raw.append(plain(rows, floor, values, above, fewest))
        for j, chance in enumerate(heavier(raw)):
            np.testing.assert_allclose(one.chance[:, j], chance, rtol=1e-6, err_msg=one.rule)
            least.append(np.nanmin(chance, initial=1))
    assert min(least) < 1e-3


def test_heavy_tails_surprise_less_and_light_ones_no_more():
    """Of a hundred ordinary values the hundredth part is as odd as one in a hundred."""
    rng = np.random.default_rng(0)
    light = 2 * stats.norm.sf(np.abs(rng.normal(size=(400, 1))))
    heavy = 2 * stats.norm.sf(np.abs(rng.standard_t(2, (400, 1))))
    both = eased(np.concatenate([light, heavy], axis=1))
    assert (both[:, 0] < 0.01).mean() < 0.02
    assert (both[:, 1] < 0.01).mean() < 0.6 * (heavy < 0.01).mean()
    assert (both >= np.concatenate([light, heavy], axis=1) - 1e-12).all()


def test_a_tenth_of_faulty_cases_hides_none_of_them():
    table = changed(cohort(50), names_of(5), "liver", {"volume_ml": 500.0})
    volume = look(table, "cohort_volume").chance[:, 0]
    assert volume[:5].max() < 1e-4 < volume[5:].min()


def test_what_too_few_have_is_not_compared():
    few = absent(cohort(20), names_of(11), "liver")
    assert np.isnan(look(few, "cohort_intensity").chance[:, 0]).all()
    assert np.isfinite(looks(few, fewest=9)[-4].chance[11:, 0]).all()


@pytest.mark.parametrize(
    ("values", "rule", "value"),
    [
        ({"volume_ml": 400.0}, "cohort_volume", "volume 400 ml"),
        ({"box_z_min": 0.0, "box_z_max": 20.0, "volume_ml": 1500.0}, "cohort_section",
         "cross-section 750 cm2"),
        ({"p50": 150.0}, "cohort_intensity", "median intensity 150"),
        ({"p95": 300.0}, "cohort_brightest", "95th percentile of intensity 300"),
        ({"sd": 80.0}, "cohort_contrast", "standard deviation of intensity 80"),
        ({"stray_fraction": 0.4}, "cohort_parts", "40% of it apart from its largest part"),
        ({"holes_ml": 150.0, "volume_ml": 1500.0}, "cohort_holes", "holes of 10.0% of its volume"),
    ],
)  # fmt: skip
def test_an_outlier_is_said_in_words(values, rule, value):
    table = changed(cohort(), ["c07"], "liver", values)
    found = look(table, rule)
    assert found.chance[7, 0] == np.nanmin(found.chance) < 1e-3
    said, usual = found.say(7, 0)
    assert said == value
    assert (
        usual.startswith("at most 0") if rule in ("cohort_parts", "cohort_holes") else "to" in usual
    )


# place and size among the others


def misplaced(cases, structures, seed=0):
    rng = np.random.default_rng(seed)
    shape = (cases, structures)
    off = Off(rng.normal(0, 4, (*shape, 3)), np.zeros((*shape, 6)), rng.normal(0, 0.2, shape))
    return off, rng


@pytest.mark.parametrize("seed", range(3))
def test_places_and_sizes_are_compared_as_in_the_plain_reading(seed):
    table = cohort(30, seed)
    off, rng = misplaced(30, 6, seed)
    off.centroid_mm[3, 2] += (0, 60, 0)
    off.size[8, 1] += 2.5
    off.centroid_mm[rng.random((30, 6)) < 0.1] = np.nan
    values = off.centroid_mm
    middle = np.nanmedian(values, axis=0)
    sd = np.maximum(1.4826 * np.nanmedian(np.abs(values - middle), axis=0), 3.0)
    z = (np.abs(values - middle) / sd).max(axis=2)
    chance = np.minimum(6 * stats.t.sf(z, np.isfinite(z).sum(axis=0) - 1), 1)
    found = look(table, "cohort_position", off)
    expected = np.stack(heavier(list(chance.T)), axis=1)
    np.testing.assert_allclose(found.chance, expected, rtol=1e-6)
    assert np.unravel_index(np.nanargmin(found.chance), (30, 6)) == (3, 2)
    size = look(table, "cohort_size", off).chance
    assert np.unravel_index(np.nanargmin(size), (30, 6)) == (8, 1)


def test_what_is_out_of_place_is_said_in_words():
    off, _ = misplaced(30, 6)
    off.centroid_mm[:], off.size[:] = 0, 0
    off.centroid_mm[3, 2] = (-30, 0, 40)
    off.centroid_mm[4, 2] = (-40, 0, 3)
    off.centroid_mm[5, 2] = (0, 50, 3)
    off.size[6, 1] = np.log(3)
    place, size = (look(cohort(30), f"cohort_{what}", off) for what in ("position", "size"))
    words = "mm nearer to the {} than the other structures suggest"
    assert [place.say(i, 2)[0] for i in (3, 4, 5)] == [
        "50 " + words.format("head"), "40 " + words.format("right side"),
        "50 " + words.format("back"),
    ]  # fmt: skip
    assert size.say(6, 1) == (
        "3 times the size that the other structures suggest",
        "1 times to 1 times",
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


def missing(table, field=None, rules=None):
    found = absences(Cube.of(table), field or {}, rules or anatomy_rules(), Cohort())
    return {(case, f.rule, f.subject): str(f.severity) for case, f in found}


@pytest.mark.parametrize(("without", "said"), [(4, True), (8, True), (9, False)])
def test_structures_of_four_fifths_of_cases_are_expected_in_all(without, said):
    gone = names_of(without)
    table = absent(cohort(40), gone, "liver")
    expected = {(case, "cohort_absent", "liver"): "review" for case in gone} if said else {}
    assert missing(table) == expected
    cut = changed(cohort(40), gone, "spleen", {"touches_border": 1, "border_superior": 3})
    expected = {(case, "cohort_truncated", "spleen"): "info" for case in gone} if said else {}
    assert missing(cut) == expected
    assert not missing(absent(cohort(9), ["c01"], "liver"))


@pytest.mark.parametrize(
    ("name", "severity"),
    [("liver", "review"), ("spleen", "warn"), ("prostate", ""), ("uterus", "")],
)
def test_sex_is_no_fault_and_surgery_may_be_none(name, severity):
    table = cohort(40)
    if name != "liver":
        table["structure"] = table["structure"].replace("spleen", name)
    gone = absent(table, ["c03"], name)
    assert missing(gone) == ({("c03", "cohort_absent", name): severity} if severity else {})


def test_what_lies_out_of_view_is_missing_as_information():
    """The sacrum of a scan that ends above it, by where the other structures are."""
    table = absent(cohort(40), ["c03", "c04"], "sacrum")
    middle = table[(table["case"] == "c03") & (table["structure"] == "aorta")]["centroid_z"].iloc[0]
    field = {"c03": (middle - 100, middle + 300), "c04": (middle - 900, middle + 900)}
    assert missing(table, field) == {
        ("c03", "cohort_absent", "sacrum"): "info", ("c04", "cohort_absent", "sacrum"): "review",
    }  # fmt: skip


def test_what_is_missing_is_said_in_words():
    table = absent(cohort(40), ["c01"], "spleen")
    table = changed(table, ["c02"], "liver", {"touches_border": 1, "border_inferior": 2})
    said = dict(absences(Cube.of(table), {}, AnatomyRules(), Cohort()))
    assert said["c01"].message == (
        "spleen: 0 voxels; expected there, as in most cases, and its location is in view"
    )
    assert said["c02"].message == (
        "liver: cut off by the field of view; expected whole, as in most cases"
    )

"""All measures of a structure together, on made-up cohorts, against a plain reading."""

from __future__ import annotations

import numpy as np
import pytest

from backsplit.config.quality import Cohort
from backsplit.judge.cube import Cube
from backsplit.judge.joint import by_chance, combined, distances
from backsplit.judge.likeness import joint_looks
from backsplit.judge.place import off_from_others
from support.cohort import absent, changed, cohort


def looks(table, fewest=10):
    cube = Cube.of(table)
    found = joint_looks(cube, off_from_others(cube, fewest), Cohort(fewest=fewest))
    return {look.rule: look for look in found}


def odd(table, fewest=10):
    """Cases and structures that are as odd as one in a thousand."""
    found = looks(table, fewest).values()
    return {
        (i, j, look.rule) for look in found for i, j in np.argwhere(look.chance < 1e-3).tolist()
    }


def eased(chance):
    """Tails as heavy as the cohort's, with a hundred cases' worth of all structures' mean."""
    known = np.isfinite(chance).sum(axis=0)
    with np.errstate(invalid="ignore"):
        heavy = np.maximum(np.nanquantile(-np.log10(chance), 0.85, axis=0) / -np.log10(0.15), 1)
    return chance ** ((known + 100) / (known * heavy + 100 * np.nanmean(heavy)))


def measures(rows, off):
    """(rule, least standard deviations, values) of one structure."""
    there = rows["voxels"].to_numpy() > 0
    whole = there & (rows["touches_border"].to_numpy() == 0)
    extents = [rows[f"box_{a}_max"] - rows[f"box_{a}_min"] for a in "xyz"]
    axes = [rows[f"axis_{i}_mm"] for i in (1, 2, 3)]
    with np.errstate(invalid="ignore"):
        shape = [np.cbrt(rows["volume_ml"]), *extents, *axes, rows["compactness"]]
        shape = np.log(np.maximum(np.stack(shape, axis=1), 1e-3))
        levels = ["p05", "p25", "p50", "p75", "p95", "edge_inside", "edge_outside"]
        steps = np.log(np.maximum(rows[["sd", "edge_step", "texture"]].to_numpy(float), 1e-3))
    tissue = np.concatenate([rows[levels].to_numpy(float), steps], axis=1)
    shape[~whole], tissue[~there] = np.nan, np.nan
    yield "cohort_shape", np.full(8, 0.05), shape
    yield "cohort_tissue", np.array([10.0] * 7 + [0.15] * 3), tissue
    if off is not None:
        yield "cohort_place", np.full(9, 3.0), off


def plain(table, fewest=10):
    """{rule: chance by case and structure}."""
    cube = Cube.of(table)
    off = off_from_others(cube, fewest)
    where = None if off is None else np.concatenate([off.centroid_mm, off.ends_mm], axis=2)
    count = (len(cube.cases), len(cube.structures))
    chances = {}
    for j, structure in enumerate(cube.structures):
        rows = table[table["structure"] == structure]
        for rule, floors, values in measures(rows, None if where is None else where[:, j]):
            known = np.isfinite(values).all(axis=1)
            chance = chances.setdefault(rule, np.full(count, np.nan))
            if known.sum() >= fewest:
                squares, _ = distances(values[known], floors)
                chance[known, j] = by_chance(squares, len(floors))
    chances = {rule: eased(chance) for rule, chance in chances.items()}
    chances["cohort_together"] = eased(combined(np.stack(list(chances.values()), axis=2)))
    return chances


def shaken(seed, cases):
    table = cohort(cases, seed)
    rng = np.random.default_rng(50 + seed)
    for column in ("volume_ml", "axis_1_mm", "axis_3_mm", "compactness", "sd", "texture"):
        chosen = rng.random(len(table)) < 0.08
        table.loc[chosen, column] *= np.exp(rng.normal(0, 0.6, chosen.sum()))
    for column in ("centroid_x", "box_z_max", "box_y_min", "p05", "p50", "edge_outside"):
        chosen = rng.random(len(table)) < 0.08
        table.loc[chosen, column] += rng.normal(0, 40, chosen.sum())
    table.loc[rng.random(len(table)) < 0.05, "touches_border"] = True
    return absent(table, ["c03", "c05"], "aorta")


@pytest.mark.parametrize("cases", [30, 60])
@pytest.mark.parametrize("seed", range(3))
def test_chances_are_those_of_the_plain_reading(seed, cases):
    table = shaken(seed, cases)
    found, expected = looks(table), plain(table)
    assert found.keys() == expected.keys() and len(found) == 4
    for rule, chance in expected.items():
        np.testing.assert_allclose(found[rule].chance, chance, rtol=1e-6, err_msg=rule)
    least = {rule: np.nanmin(look.chance) for rule, look in found.items()}
    assert max(least.values()) < 1e-2


def test_an_ordinary_cohort_is_like_itself_and_few_cases_say_nothing():
    assert not odd(cohort(40))
    table = changed(cohort(39), ["c07"], "liver", {"volume_ml": 300.0, "compactness": 0.2})
    assert (7, 0, "cohort_shape") in odd(table, fewest=39) and not odd(table, fewest=40)


def test_a_structure_that_too_few_have_is_not_compared():
    strange = {"volume_ml": 300.0, "compactness": 0.2, "p50": 300.0, "p05": 200.0}
    table = changed(cohort(30), ["c00"], "liver", strange)
    few = absent(table, [f"c{n:02}" for n in range(20, 30)], "liver")
    assert {(i, j) for i, j, _ in odd(few, fewest=20)} == {(0, 0)}
    assert not odd(few, fewest=21)


def test_two_structures_leave_places_out():
    table = changed(cohort(40, names=("liver", "spleen")), ["c07"], "liver", {"volume_ml": 200.0})
    assert "cohort_place" not in looks(table) and (7, 0, "cohort_shape") in odd(table)


def test_what_is_furthest_off_is_said_in_words():
    table = changed(cohort(40), ["c07"], "liver", {"axis_1_mm": 90.0})
    found = looks(table)
    said, usual = found["cohort_shape"].say(7, 0)
    assert said == "spread along its longest axis 90 mm"
    low, high = (float(word.removesuffix(" mm")) for word in usual.split(" to "))
    assert 30 < low < 35 < high < 40
    assert found["cohort_together"].say(7, 0) == (said, usual)
    table = changed(cohort(40), ["c07"], "liver", {"box_z_max": 400.0})
    value, usual = looks(table)["cohort_place"].say(7, 0)
    assert value.startswith("upper end +") and "from where the other structures" in value
    assert " to +" in usual
    table = changed(cohort(40), ["c07"], "liver", {"p05": 150.0})
    assert looks(table)["cohort_tissue"].say(7, 0)[0] == "5th percentile of intensity 150"

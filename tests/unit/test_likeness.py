"""All measures of a structure together, on made-up cohorts, against a plain reading."""

from __future__ import annotations

import numpy as np
import pytest

from backsplit.config.quality import Cohort
from backsplit.judge.cube import Cube
from backsplit.judge.joint import by_chance, combined, distances
from backsplit.judge.likeness import unlike
from backsplit.judge.place import off_from_others
from support.cohort import absent, changed, cohort

SHAPE = ("volume", "extent from right to left", "extent from front to back",
         "extent along the body", "length", "width", "thickness", "compactness")  # fmt: skip
TISSUE = ("05th percentile", "25th percentile", "50th percentile", "75th percentile",
          "95th percentile", "intensity just inside", "intensity just outside",
          "standard deviation", "step across the surface", "texture")  # fmt: skip
PLACE = (
    *(f"centroid along {axis}" for axis in "xyz"),
    *(f"{side} end" for side in ("right", "left", "anterior", "posterior", "inferior", "superior")),
)


def found(table, fewest=10):
    cube = Cube.of(table)
    return list(unlike(cube, off_from_others(cube, fewest), Cohort(fewest=fewest)))


def measures(rows, off):
    """(rule, severity, words, least standard deviations, values) of one structure."""
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
    yield "cohort_shape", "review", SHAPE, np.full(8, 0.05), shape
    yield "cohort_tissue", "warn", TISSUE, np.array([10.0] * 7 + [0.15] * 3), tissue
    if off is not None:
        yield "cohort_place", "review", PLACE, np.full(9, 3.0), off


def obvious(table, fewest=10):
    """{(case, rule, structure): (severity, chance, word)}."""
    cube = Cube.of(table)
    off = off_from_others(cube, fewest)
    where = None if off is None else np.concatenate([off.centroid_mm, off.ends_mm], axis=2)
    least = 0.025 / 3 / len(cube.structures)
    count = (len(cube.cases), len(cube.structures))
    chances, words, severities = {}, {}, {"cohort_together": "review"}
    for j, structure in enumerate(cube.structures):
        rows = table[table["structure"] == structure]
        for rule, severity, names, floors, values in measures(
            rows, None if where is None else where[:, j]
        ):
            severities[rule] = severity
            known = np.isfinite(values).all(axis=1)
            chance = chances.setdefault(rule, np.full(count, np.nan))
            word = words.setdefault(rule, np.full(count, "", object))
            if known.sum() >= fewest:
                squares, z = distances(values[known], floors)
                chance[known, j] = by_chance(squares, len(names))
                word[known, j] = np.array(names, object)[np.abs(z).argmax(axis=1)]
    parts = [np.maximum(chance, least) for chance in chances.values()]
    together = combined(np.stack(parts, axis=2))
    together[:, np.isfinite(together).sum(axis=0) < fewest] = np.nan
    chances["cohort_together"] = together
    words["cohort_together"] = np.full(count, "several things", object)
    said = {}
    for rule, chance in chances.items():
        surprise = -np.log(np.maximum(np.nan_to_num(chance, nan=1.0), 1e-300))
        for i, j in np.ndindex(count):
            if surprise[i, j] > max(-np.log(least), 0.5 * surprise[i].max()):
                key = (cube.cases[i], rule, cube.structures[j])
                said[key] = (severities[rule], float(chance[i, j]), words[rule][i, j])
    return said


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
def test_what_is_unlike_the_others_is_as_in_the_plain_reading(seed, cases):
    table = shaken(seed, cases)
    said = {(case, f.rule, f.subject): f for case, f in found(table)}
    expected = obvious(table)
    assert said.keys() == expected.keys()
    assert {rule for _, rule, _ in said} >= {"cohort_shape", "cohort_tissue", "cohort_place"}
    for key, (severity, chance, word) in expected.items():
        finding = said[key]
        assert finding.severity == severity
        assert f", {word} most of all" in finding.value
        assert f"; likelihood {chance:.1g}, expected a likelihood of at least" in finding.message


def test_an_ordinary_cohort_is_like_itself_and_few_cases_say_nothing():
    assert not found(cohort(40))
    table = changed(cohort(39), ["c07"], "liver", {"volume_ml": 300.0, "compactness": 0.2})
    assert found(table, fewest=39) and not found(table, fewest=40)


def test_a_structure_that_too_few_have_is_not_compared():
    strange = {"volume_ml": 300.0, "compactness": 0.2, "p50": 300.0, "p05": 200.0}
    table = changed(cohort(30), ["c00"], "liver", strange)
    few = absent(table, [f"c{n:02}" for n in range(20, 30)], "liver")
    assert {f.subject for _, f in found(few, fewest=20)} == {"liver"}
    assert not found(few, fewest=21)


def test_two_structures_leave_places_out():
    table = changed(cohort(40, names=("liver", "spleen")), ["c07"], "liver", {"volume_ml": 200.0})
    assert {f.rule for _, f in found(table)} >= {"cohort_shape"}
    assert {(c, f.rule, f.subject) for c, f in found(table)} == obvious(table).keys()


def test_unlike_structures_are_described_in_words():
    table = changed(cohort(40), ["c07"], "liver", {"axis_1_mm": 90.0})
    (finding,) = [f for _, f in found(table) if f.rule == "cohort_shape"]
    assert finding.value == "unlike the other cases' in shape, length most of all"
    assert finding.expected == "a likelihood of at least 0.001"
    table = changed(table, ["c07"], "liver", {"p50": 300.0, "box_z_max": 400.0})
    values = {f.rule: f.value for _, f in found(table)}
    together = "unlike the other cases' in shape, place and tissue, several things most of all"
    assert values["cohort_together"] == together

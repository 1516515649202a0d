"""Parts of structures, and sides that are not mapped."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from backsplit.judge.anatomy import anatomy_rules
from backsplit.judge.cube import Cube
from backsplit.judge.symmetry import lopsided
from backsplit.measure.parts import parts
from support.cohort import cohort
from support.composing import grid_of

PLACES = {  # x from the midline, y, z, ml
    "parotid_left": (55, 0, 20, 25), "parotid_right": (-55, 0, 20, 25),
    "submandibular_left": (28, -20, -20, 8), "submandibular_right": (-28, -20, -20, 8),
    "optic_nerve_right": (-16, -60, 70, 0.7),
}  # fmt: skip


def glands(names, cases=20, seed=0, structure="head_things"):
    """Parts of one structure, as people have them; the midline is where the sacrum is."""
    table = cohort(cases)
    middles = table[table["structure"] == "sacrum"].set_index("case")["centroid_x"]
    rng = np.random.default_rng(seed)
    rows = []
    for case, middle in middles.items():
        for number, name in enumerate(names, start=1):
            x, y, z, ml = PLACES[name]
            at = np.array([x + middle, y, z]) + rng.normal(0, 3, 3)
            rows.append((case, structure, number, ml * np.exp(rng.normal(0, 0.15)), *at))
    columns = ["case", "structure", "part", "volume_ml", *(f"centroid_{a}" for a in "xyz")]
    whole = table[table["structure"] == "liver"].assign(structure=structure)
    return pd.DataFrame(rows, columns=columns), Cube.of(pd.concat([table, whole]))


def said(names, **more):
    found = list(lopsided(*glands(names, **more), anatomy_rules()))
    return [(fault.subject, fault.rule, fault.where) for fault in found], found


def test_a_gland_that_is_missing_on_one_side_is_one_fault():
    """Parotids, one submandibular gland and an optic nerve, under a name that says nothing."""
    names = [name for name in PLACES if name != "submandibular_left"]
    keys, (fault,) = said(names)
    assert keys == [("head_things", "lopsided", "20 of 20 cases")]
    assert (
        "of about 8" in fault.message
        and "on the right has no counterpart on the left" in fault.message
    )


@pytest.mark.parametrize(
    "names",
    [
        ["parotid_left", "parotid_right", "submandibular_left", "submandibular_right"],
        ["parotid_left"],  # on one side alone: no paired structure
        ["parotid_left", "submandibular_right"],
    ],
)
def test_what_is_even_or_not_paired_is_no_fault(names):
    assert said(names)[0] == []


def test_what_is_missing_in_few_cases_is_none_of_the_mapping():
    table, cube = glands(
        ["parotid_left", "parotid_right", "submandibular_left", "submandibular_right"]
    )
    few = table["case"].isin([f"c{n:02}" for n in range(8)]) & (table["part"] == 3)
    assert not list(lopsided(table[~few], cube, anatomy_rules()))
    most = table["case"].isin([f"c{n:02}" for n in range(15)]) & (table["part"] == 3)
    (fault,) = lopsided(table[~most], cube, anatomy_rules())
    assert fault.where == "15 of 20 cases" and len(fault.cases) == 15
    several = table.assign(structure="vessels")
    assert not list(lopsided(several[~most], cube, anatomy_rules()))


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.5), (4.0, 4.0, 5.0)])
def test_parts_are_those_that_scipy_finds(spacing):
    rng = np.random.default_rng(0)
    shape = tuple(int(n / s) for n, s in zip((150, 120, 120), spacing[::-1], strict=True))
    labels = np.zeros(shape, np.uint8)
    axes = np.meshgrid(*[np.arange(n) * s for n, s in zip(shape, spacing[::-1], strict=True)],
                       indexing="ij")  # fmt: skip
    for label, count in ((1, 1), (2, 3), (3, 2)):
        for _ in range(count):
            centre, radius = rng.uniform(25, 95, 3), rng.uniform(9, 18)
            ball = sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)) < radius**2
            labels[ball & (labels == 0)] = label
    labels[0, 0, 0] = 2  # a crumb
    grid = grid_of(shape, spacing)
    found = pd.DataFrame(parts(labels, ["background", "a", "b", "c"], grid))
    for label, name in ((1, "a"), (2, "b"), (3, "c")):
        components, _ = ndimage.label(labels == label, np.ones((3, 3, 3)))
        sizes = np.bincount(components.ravel())[1:] * grid.voxel_ml
        sizes = np.sort(sizes[sizes > 0.3])[::-1]
        mine = found[found["structure"] == name]
        assert mine["part"].tolist() == list(range(1, len(sizes) + 1))
        np.testing.assert_allclose(mine["volume_ml"], sizes, rtol=0.15)
    middle = grid.to_mm(np.array([ndimage.center_of_mass(labels == 1)]))[0]
    first = found[found["structure"] == "a"].iloc[0]
    np.testing.assert_allclose([first[f"centroid_{a}"] for a in "xyz"], middle, atol=1.5)
    assert parts(np.zeros((4, 5, 6), np.uint8), ["background", "a"], grid_of((4, 5, 6))) == []

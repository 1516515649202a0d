"""Rows of measures, as `measure` makes them of simple bodies."""

from __future__ import annotations


def row(x=0.0, y=0.0, z=0.0, ml=100.0, half_mm=20.0, **more):
    """Measures of a cube."""
    found = {
        "voxels": int(ml * 1000), "volume_ml": ml, "p50": 50.0, "components_large": 1.0,
        "spread_mm": 0.0, "holes_ml": 0.0, "touches_border": False,
    }  # fmt: skip
    for axis, centre in zip("xyz", (x, y, z), strict=True):
        found |= {f"centroid_{axis}": centre}
        found |= {f"box_{axis}_min": centre - half_mm, f"box_{axis}_max": centre + half_mm}
    return {**found, **more}

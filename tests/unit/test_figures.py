"""Figures: scales, sums and text that does no harm."""

from __future__ import annotations

import math
from xml.etree import ElementTree

from backsplit.report.facts import Distribution, Outlier, Overruled, Spread
from backsplit.report.figures import (
    SHADES,
    draw_matrix,
    draw_strips,
    lay_out_matrix,
    lay_out_strips,
)

EVIL = '<script>alert(1)</script>&"\x01'


def spread(*values: float) -> Spread:
    return Spread(*values)


def distribution(name: str, *outliers: Outlier, more: int = 0) -> Distribution:
    volume, level = spread(80, 90, 100, 110, 120), spread(-20, 0, 20, 40, 60)
    return Distribution(name, "#ff0000", 1000, volume, level, outliers, more)


def outlier(volume: float, level: float, words: str = "") -> Outlier:
    return Outlier("a", "cases/a.html", "review", volume, level, words)


def test_boxes_and_dots_stand_in_order_on_their_scales():
    far = outlier(0.2, 9000.0)
    strips = lay_out_strips([distribution("liver", far, outlier(0.0, math.nan))])
    for strip, axis in zip(strips.rows[0].strips, strips.axes, strict=True):
        places = [strip.whisker[0], strip.box[0], strip.middle, strip.box[1], strip.whisker[1]]
        assert places == sorted(places) and len(set(places)) == 5
        assert all(axis.ends[0] <= at <= axis.ends[1] for at, _ in strip.dots)
        ticks = [at for at, _ in axis.ticks]
        assert ticks == sorted(ticks) and (ticks[0], ticks[-1]) == axis.ends
    volume, intensity = strips.axes
    assert [words for _, words in volume.ticks] == ["0.1", "1", "10", "100", "1000"]
    assert strips.rows[0].strips[1].dots[0][0] == intensity.ends[1]  # beyond: at the end
    assert volume.at(10) == sum(volume.ends) / 2


def test_nothing_measured_is_no_fault():
    assert lay_out_strips([]).rows == ()
    ElementTree.fromstring(draw_strips(lay_out_strips([])))
    assert "No voxel was labelled differently" in draw_matrix(lay_out_matrix([]))


def test_the_matrix_sums_layers_and_keeps_the_whole_volume():
    rows = [
        Overruled("organs", "fat", "targets", "tumor", 10, 1.0, 1),
        Overruled("tissue", "fat", "targets", "tumor", 10, 2.0, 1),
        Overruled("tissue", "fat", "organs", "liver", 99, 64.0, 1),
        Overruled("tissue", "bone", "organs", "liver", 1, 0.0, 1),
    ]
    matrix = lay_out_matrix(rows)
    assert matrix.losers == ("fat", "bone") and matrix.winners == ("liver", "tumor")
    assert matrix.cells == (((64.0, SHADES), (3.0, SHADES - 2)), ((0.0, 1), None))


def test_text_in_drawings_stays_text():
    strips = lay_out_strips([distribution(EVIL, outlier(5, 5, EVIL))])
    matrix = lay_out_matrix([Overruled("a", EVIL, "b", EVIL, 1, 1.0, 1)])
    for drawn in (draw_strips(strips), draw_matrix(matrix)):
        root = ElementTree.fromstring(drawn)
        assert not [e for e in root.iter() if e.tag.endswith(("script", "}a"))]
        assert any("<script>alert(1)" in (e.text or "") for e in root.iter())


def test_a_hundred_structures_of_a_thousand_cases_stay_small():
    many = [distribution(f"s{i}", *[outlier(50, 5, "x" * 60)] * 40) for i in range(117)]
    assert len(draw_strips(lay_out_strips(many))) < 3_000_000

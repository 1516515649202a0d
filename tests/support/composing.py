"""A small scheme, grids, lesions and rules to compose with."""

from __future__ import annotations

from backsplit.cases.lesion import Lesion
from backsplit.compose.case import Rules
from backsplit.config.compose import Compose
from backsplit.config.slices import Merging
from backsplit.scheme.scheme import Scheme
from backsplit.volume import Grid, LabelMap

SHAPE = (3, 4, 5)
SCHEME = Scheme(
    {"tumor": 7, "cyst": 9},
    ("background", "tumor", "cyst", "liver", "fat"),
    {"organs": {"liver": "liver"}, "tissue": {"fat": "fat"}},
    hosts={"tumor": ("liver",), "cyst": ("liver",)},
)


def grid_of(shape, spacing=(1.0, 1.0, 1.0)):
    return Grid(shape[::-1], spacing, (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))


def lesion_of(values, grid, claims=None):
    return Lesion(LabelMap(values, grid), claims or {7: (1,), 9: (2,)})


def rules_of(scheme=SCHEME, **settings_):
    settings = Compose.model_validate(settings_)
    over = settings.named(settings.repair.over, scheme.structures)
    repair = settings.repair.model_copy(update={"over": over})
    return Rules(scheme, Merging(("organs", "tissue"), settings.unknown, repair, ("tissue",)))

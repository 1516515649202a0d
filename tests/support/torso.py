"""Torsos of ellipsoids, boxes and tubes, as varied as patients are, for the fault bench."""

from __future__ import annotations

import numpy as np

SPACING = (4.0, 3.0, 3.0)
SHAPE = (110, 80, 110)
VERTEBRAE = ("T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5")
NAMES = (
    "background", "liver", "spleen", "kidney_left", "kidney_right", "heart", "lung_left",
    "lung_right", "urinary_bladder", "aorta", "sacrum",
    *(f"vertebrae_{name}" for name in VERTEBRAE),
)  # fmt: skip

ORGANS = {
    # centre (z, y, x) and half axes, mm from the middle of the volume; +z up, +y back, +x left
    "heart": ((90, -25, 15), (50, 45, 48)),
    "lung_left": ((120, 0, 70), (68, 60, 45)),
    "lung_right": ((120, 0, -70), (68, 60, 48)),
    "liver": ((25, -10, -65), (50, 62, 65)),
    "spleen": ((20, 40, 88), (40, 28, 24)),
    "kidney_left": ((-35, 45, 62), (50, 24, 26)),
    "kidney_right": ((-45, 45, -62), (50, 24, 26)),
    "urinary_bladder": ((-190, -30, 0), (28, 32, 36)),
    "sacrum": ((-168, 62, 0), (28, 20, 42)),
}
LEVELS = {
    "background": -1000, "tissue": 20, "liver": 60, "spleen": 55, "kidney_left": 35,
    "kidney_right": 35, "heart": 45, "lung_left": -800, "lung_right": -800,
    "urinary_bladder": 5, "aorta": 45, "sacrum": 300,
}  # fmt: skip


def make_torso(seed: int) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
    """One torso.

    Returns
    -------
    image, labels, spacing
        HU and ids of `NAMES`, (z, y, x), and mm, (z, y, x). Organs differ in volume by about a
        fifth and in place by some millimetres, as they do between adults of one size.
    """
    rng = np.random.default_rng(seed)
    axes = [(np.arange(n) - n / 2) * s for n, s in zip(SHAPE, SPACING, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    size = rng.normal(1, 0.04)
    labels = np.zeros(SHAPE, np.uint8)
    body = (y / (115 * size)) ** 2 + (x / (158 * size)) ** 2 < 1
    body = np.broadcast_to(body, SHAPE)

    def draw(name: str, mask: np.ndarray) -> None:
        labels[mask & (labels == 0)] = NAMES.index(name)

    for name, (centre, half) in ORGANS.items():
        at = [c * size + rng.normal(0, 3) for c in centre]
        radii = [h * size * np.exp(rng.normal(0, 0.05)) for h in half]
        away = [((a - c) / r) ** 2 for a, c, r in zip((z, y, x), at, radii, strict=True)]
        draw(name, sum(away) < 1)
    height = 30 * size
    for number, level in enumerate(reversed(VERTEBRAE)):
        bottom = -140 * size + number * height
        inside = (z >= bottom) & (z < bottom + 0.86 * height)
        round_ = ((y - 66 * size) / 17) ** 2 + (x / 22) ** 2 < 1
        draw(f"vertebrae_{level}", inside & round_)
    draw("aorta", ((y - 38 * size) ** 2 + (x - 8) ** 2 < 11**2) & (z > -110) & (z < 130))
    image = np.where(body, LEVELS["tissue"], LEVELS["background"]).astype(np.float32)
    for value, name in enumerate(NAMES[1:], start=1):
        level = LEVELS.get(name, 280)
        image[labels == value] = level + rng.normal(0, 5 if level > -200 else 25)
    image += rng.normal(0, 12, SHAPE)
    return image.astype(np.int16), labels, SPACING

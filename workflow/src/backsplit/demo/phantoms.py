"""CT-like phantoms of chest and abdomen, made by code: anatomy with known labels, and lesions.

Shapes are implicit functions of mm coordinates: x to the patient's left, y to posterior, z to
superior, the origin between the kidneys' upper poles and the heart. A random pose, size and
smooth warp per seed moves the coordinates, not the shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from backsplit.store.disk import atomic_path
from backsplit.store.provenance import file_sha256
from backsplit.volume import Array, Grid, write_labels

FIELD_OF_VIEW_MM = (350.0, 260.0, 330.0)
LESION_NAMES = {"kidney_tumor": 1, "liver_tumor": 2}
VERTEBRAE = ("L4", "L3", "L2", "L1", "T12", "T11", "T10", "T9", "T8", "T7", "T6")
"""From below; L1 lies at the height of the kidneys' upper poles."""
VERTEBRA_PITCH_MM = 30.0

DEMO_CASES: Mapping[str, tuple[int, tuple[str, ...]]] = {
    "phantom_01": (101, ("kidney",)),
    "phantom_02": (102, ("liver",)),
    "phantom_03": (103, ("kidney_border",)),
    "phantom_04": (104, ("kidney", "liver")),
    "phantom_05": (105, ()),
    "phantom_06": (106, ("liver_border", "liver")),
}
"""Case id to seed and lesions; `_border` lesions cross the border of their organ."""


@dataclass(frozen=True)
class Phantom:
    """A phantom with its truth.

    Attributes
    ----------
    image : int16 HU, (z, y, x)
    anatomy : uint8 (z, y, x), class ids of TotalSegmentator's task `total`; an organ's lesion
        is part of it
    lesion : uint8 (z, y, x), 1 kidney tumour, 2 liver tumour
    grid : LPS, axes along the patient's
    """

    image: Array
    anatomy: Array
    lesion: Array
    grid: Grid


class Canvas:
    """Image and label map in the making, over warped coordinates."""

    def __init__(self, seed: int, spacing: tuple[float, float, float]) -> None:
        from totalsegmentator.registry import get_task_classes

        self.random = np.random.default_rng(seed)
        self.spacing = spacing
        x, y, z = (round(f / s) for f, s in zip(FIELD_OF_VIEW_MM, spacing, strict=True))
        self.size = (x, y, z)
        self.ids = {name: value for value, name in get_task_classes("total").items()}
        self.x, self.y, self.z = self._coordinates()
        self.hu = np.full((z, y, x), -1000.0, np.float32)
        self.anatomy = np.zeros((z, y, x), np.uint8)

    def _coordinates(self) -> list[Array]:
        """Millimetres of each voxel in the frame of the shapes: turned, scaled, warped."""
        axes = [
            (np.arange(n) - (n - 1) / 2) * s for n, s in zip(self.size, self.spacing, strict=True)
        ]
        z, y, x = np.meshgrid(axes[2], axes[1], axes[0], indexing="ij")
        points = np.stack([x, y, z]).astype(np.float32)
        turn = sitk.Euler3DTransform((0, 0, 0), *self.random.normal(0, 0.03, 3))
        matrix = np.reshape(turn.GetMatrix(), (3, 3)) / self.random.uniform(0.94, 1.06)
        points = np.einsum("ij,j...->i...", matrix, points)
        warped = points + self.random.uniform(-6, 6, 3)[:, None, None, None]
        for axis in range(3):
            for _ in range(3):
                wave = self.random.normal(0, 1, 3) / 55.0
                phase = self.random.uniform(0, 2 * np.pi)
                warped[axis] += 2.0 * np.sin(np.einsum("i,i...->...", wave, points) + phase)
        return list(warped.astype(np.float32))

    def jitter(self, *mean: float, by: float = 0.08) -> tuple[float, ...]:
        """Sizes that differ from phantom to phantom."""
        return tuple(m * self.random.uniform(1 - by, 1 + by) for m in mean)

    def ellipsoid(
        self, centre: tuple[float, float, float], radii: tuple[float, ...], power: float = 2.0
    ) -> Array:
        """Implicit (super-)ellipsoid: below 1 inside."""
        cx, cy, cz = (c + self.random.uniform(-4, 4) for c in centre)
        rx, ry, rz = self.jitter(*radii)
        return (
            np.abs((self.x - cx) / rx) ** power
            + np.abs((self.y - cy) / ry) ** power
            + np.abs((self.z - cz) / rz) ** power
        )

    def paint(self, mask: Array, hu: float, name: str | None = None) -> None:
        """Fill a mask; without a name what was labelled there becomes unlabelled."""
        self.hu[mask] = hu
        self.anatomy[mask] = self.ids[name] if name else 0

    def smooth_noise(self, sigma_mm: float) -> Array:
        """Smooth random field of mean 0 and standard deviation 1."""
        noise = self.random.standard_normal(self.hu.shape).astype(np.float32)
        sigma = [sigma_mm / s for s in reversed(self.spacing)]
        field = ndimage.gaussian_filter(noise, sigma, mode="wrap")
        return np.asarray(field / field.std())


def make_phantom(
    seed: int,
    lesions: tuple[str, ...] = (),
    spacing: tuple[float, float, float] = (3.0, 3.0, 4.0),
) -> Phantom:
    """Make a phantom.

    Parameters
    ----------
    seed : the same seed gives the same phantom
    lesions : kinds among `kidney`, `kidney_border`, `liver`, `liver_border`
    spacing : (x, y, z) in mm

    Returns
    -------
    phantom
        About 350 x 260 x 330 mm.
    """
    canvas = Canvas(seed, spacing)
    cavity, dome = body_wall(canvas)
    chest(canvas, cavity, dome)
    _abdomen(canvas, cavity, dome)
    spine(canvas)
    lesion = np.zeros(canvas.hu.shape, np.uint8)
    for kind in lesions:
        _lesion(canvas, lesion, kind)
    origin = tuple(-(n - 1) / 2 * s for n, s in zip(canvas.size, spacing, strict=True))
    grid = Grid(canvas.size, spacing, (origin[0], origin[1], origin[2]), tuple(np.eye(3).ravel()))
    return Phantom(scan(canvas), canvas.anatomy, lesion, grid)


def write_demo(folder: Path) -> list[Path]:
    """Write the demo's phantoms: `<case>/ct.nii.gz` and `<case>/lesion.nii.gz`.

    A file that is there with the right content keeps its time, so that nothing is due again.
    """
    folders = []
    for case, (seed, lesions) in DEMO_CASES.items():
        target = folder / case
        target.mkdir(parents=True, exist_ok=True)
        phantom = make_phantom(seed, lesions)
        image = sitk.GetImageFromArray(phantom.image)
        image.SetSpacing(phantom.grid.spacing)
        image.SetOrigin(phantom.grid.origin)
        ct, lesion = target / "ct.nii.gz", target / "lesion.nii.gz"
        with atomic_path(target / "new-ct.nii.gz") as temporary:
            sitk.WriteImage(image, str(temporary), useCompression=True)
        keep_if_same(target / "new-ct.nii.gz", ct)
        write_labels(target / "new-lesion.nii.gz", phantom.lesion, phantom.grid, like=ct)
        keep_if_same(target / "new-lesion.nii.gz", lesion)
        folders.append(target)
    return folders


def keep_if_same(new: Path, old: Path) -> None:
    """Replace a file, unless the new one is the same: then the old one keeps its time."""
    if old.exists() and file_sha256(new) == file_sha256(old):
        new.unlink()
    else:
        new.replace(old)


def body_wall(c: Canvas) -> tuple[Array, Array]:
    """Paint skin, fat, muscle and ribs; give the cavity inside and the diaphragm's height."""
    wide, deep = c.jitter(158, 112)
    outer = np.abs(c.x / wide) ** 2.4 + np.abs(c.y / deep) ** 2.4
    c.paint(outer < 1, 30)  # skin
    thick = c.random.uniform(10, 24)
    shells = []
    for depth in (3, thick, thick + 13, thick + 20):
        shells.append(np.abs(c.x / (wide - depth)) ** 2.4 + np.abs(c.y / (deep - depth)) ** 2.4 < 1)
    c.paint(shells[0], -100)
    c.paint(shells[1], 55)
    ribs = (np.cos(2 * np.pi * (c.z + 0.55 * c.y) / 31) > 0.55) & (c.z > -75 + 0.3 * c.y)
    c.paint(shells[2] & ~shells[3] & ribs & (c.y < 85), 320)
    cavity = shells[3]
    c.paint(cavity, -95)
    dome = 18 + 30 * (1 - ((np.abs(c.x) - 65) / 90) ** 2 - (c.y / 110) ** 2)
    return cavity, dome


def chest(c: Canvas, cavity: Array, dome: Array) -> None:
    """Lungs in five lobes, mediastinum, heart."""
    chest = cavity & (c.z > dome)
    c.paint(chest, -20)
    lung = chest & (c.z > dome + 4) & (np.abs(c.x - 4) > 24 + 0.05 * c.y)
    lung &= c.ellipsoid((0, 0, 30), (122, 90, 150), 4) < 1
    low = 0.75 * c.y - 0.66 * (c.z - c.random.uniform(62, 72)) > 0
    c.paint(lung, -850)
    left = c.x > 0
    c.paint(lung & left & low, -860, "lung_lower_lobe_left")
    c.paint(lung & left & ~low, -850, "lung_upper_lobe_left")
    middle = c.z < c.random.uniform(66, 74)
    c.paint(lung & ~left & low, -860, "lung_lower_lobe_right")
    c.paint(lung & ~left & ~low & middle, -845, "lung_middle_lobe_right")
    c.paint(lung & ~left & ~low & ~middle, -850, "lung_upper_lobe_right")
    vessels = lung & (c.smooth_noise(5) > 2.1)
    c.hu[vessels] = 20
    heart = c.ellipsoid((22, -32, 62), (52, 42, 42))
    inside = (heart < 1) & (c.z > dome)
    c.paint(inside, 105, "heart")
    c.hu[inside & (heart < 0.55)] = 165
    airway = (np.abs(c.x) / 9) ** 2 + ((c.y - 5) / 9) ** 2 < 1
    c.paint(airway & (c.z > 105), -990)


def _abdomen(c: Canvas, cavity: Array, dome: Array) -> None:
    """Liver, spleen, stomach, bowel, kidneys."""
    under = cavity & (c.z < dome - 3)
    bowel = (c.smooth_noise(13) > 0.15) & under & (c.z < -10) & (c.y < 45)
    c.paint(bowel & (np.abs(c.x) < 100), 25)
    c.paint(bowel & (c.smooth_noise(9) > 1.4) & (c.y < 0), -900)
    stomach = c.ellipsoid((52, -28, -2), (36, 34, 42))
    c.paint((stomach < 1) & under, 20)
    c.paint((stomach < 0.6) & under & (c.y < -38), -950)
    liver = (c.ellipsoid((-58, -6, -8), (80, 78, 74), 2.3) < 1) & under
    c.paint(liver & (c.x < 38 - 0.25 * (c.y + 40)), 108, "liver")
    vessels = (c.anatomy == c.ids["liver"]) & (c.smooth_noise(8) > 1.9)
    c.hu[vessels] = 150
    c.paint((c.ellipsoid((96, 38, 4), (30, 40, 46), 2.2) < 1) & under, 122, "spleen")
    for side, name, height in ((1, "kidney_left", -68), (-1, "kidney_right", -80)):
        kidney = c.ellipsoid((side * 60, 50, height), (29, 25, 54))
        hilum = c.ellipsoid((side * 42, 44, height), (15, 12, 20)) < 1
        c.paint(kidney < 1, 190, name)
        c.hu[(kidney < 0.55)] = 150
        c.paint(hilum, -60)
    for side in (1, -1):
        psoas = ((c.x - side * 38) / 17) ** 2 + ((c.y - 68) / 17) ** 2 < 1
        c.paint(psoas & (c.z < -75) & (c.anatomy == 0), 58)


def spine(c: Canvas) -> None:
    """Aorta, vertebrae with discs between them, back muscles, spinal canal."""
    back = c.ellipsoid((0, 92, 0), (60, 26, 400), 3) < 1
    c.paint(back & (c.hu > -500) & (c.anatomy == 0), 55)
    radius = c.random.uniform(11.5, 14.5)
    aorta = ((c.x - 16) / radius) ** 2 + ((c.y - 44) / radius) ** 2 < 1
    c.paint(aorta, 175, "aorta")
    cava = ((c.x + 20) / 13) ** 2 + ((c.y - 42) / 11) ** 2 < 1
    c.paint(cava & (c.z < 40) & (c.anatomy == 0), 140)
    body = (c.x / c.random.uniform(21, 25)) ** 2 + ((c.y - 73) / c.random.uniform(17, 20)) ** 2
    arch = ((c.x / 22) ** 2 + ((c.y - 99) / 14) ** 2 < 1) & (c.y > 84)
    arch |= (np.abs(c.x) < 5) & (c.y > 100) & (c.y < 124)
    canal = (c.x / 9) ** 2 + ((c.y - 97) / 8) ** 2 < 1
    level = (c.z + 165) / VERTEBRA_PITCH_MM
    place = np.mod(level, 1.0)
    c.paint(body < 1, 75)  # discs
    solid = (place > 0.11) & (place < 0.89)
    for number, name in enumerate(VERTEBRAE):
        here = np.floor(level) == number
        bone = here & solid & ((body < 1) | (arch & (place < 0.8)))
        c.paint(bone, 210, f"vertebrae_{name}")
        rim = bone & ((body > 0.72) | arch | (place < 0.18) | (place > 0.82))
        c.hu[rim] = 420
    c.paint(canal, 25)


def _lesion(c: Canvas, lesion: Array, kind: str) -> None:
    """Put one tumour into an organ, or across its border."""
    organ_name, _, border = kind.partition("_")
    side = c.random.choice(["kidney_left", "kidney_right"])
    organ = c.anatomy == c.ids[side if organ_name == "kidney" else "liver"]
    depth = ndimage.distance_transform_edt(organ, sampling=tuple(reversed(c.spacing)))
    radius = c.random.uniform(9, 15) if organ_name == "kidney" else c.random.uniform(10, 22)
    if border:  # the centre lies on the rim that looks away from the spine
        score = np.where(organ & (depth < 5), np.abs(c.x) + c.random.uniform(0, 9), -np.inf)
        radius *= 1.2
    else:
        score = np.where(organ, np.minimum(depth, radius), -np.inf)
        score = score + c.random.uniform(0, 3, score.shape)
    centre = np.unravel_index(np.argmax(score), score.shape)
    cx, cy, cz = c.x[centre], c.y[centre], c.z[centre]
    distance = np.sqrt((c.x - cx) ** 2 + (c.y - cy) ** 2 + (c.z - cz) ** 2)
    inside = distance < radius * (1 + 0.12 * c.smooth_noise(10))
    inside &= (c.hu > -500) & (c.hu < 300)
    if not border:
        inside &= organ
    components, _ = ndimage.label(inside)
    inside &= components == components[centre]  # nothing, where the centre itself is bone or air
    target = "kidney_tumor" if organ_name == "kidney" else "liver_tumor"
    lesion[inside] = LESION_NAMES[target]
    base = 85 if organ_name == "kidney" else 62
    c.hu[inside] = base + 14 * c.smooth_noise(6)[inside]


def scan(c: Canvas) -> Array:
    """What a scanner would make of it: blur over a voxel, texture, correlated noise."""
    texture = np.where(c.hu > -200, 6 * c.smooth_noise(7), 25 * c.smooth_noise(5) * (c.hu > -950))
    blurred = ndimage.gaussian_filter(c.hu + texture, 0.55)
    noise = ndimage.gaussian_filter(c.random.standard_normal(c.hu.shape), 0.6)
    noisy = blurred + c.random.uniform(9, 14) * noise / noise.std()
    return np.asarray(np.rint(np.clip(noisy, -1024, 3071)), np.int16)

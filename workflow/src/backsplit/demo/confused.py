"""Phantoms of the embedded study: lesions that look like what lies beside them.

Cysts are as dark as gallbladder, stomach and fluid-filled bowel, nodes as bright as vessels in
cross-section, and each lies beside one of these, or within an organ. What tells them apart is the
place and the shape of what they are mistaken for. Coordinates are those of `demo.phantoms`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from backsplit.demo.phantoms import Canvas, Phantom, body_wall, chest, keep_if_same, scan, spine
from backsplit.store.disk import atomic_path
from backsplit.volume import Array, Grid, write_labels

LESIONS = {"cyst": 1, "node": 2}
SPACING = (6.0, 6.0, 6.0)
HEIGHTS_MM = (-135.0, 25.0)
"""What is kept of a phantom: the abdomen."""

FLUID_HU = (0.0, 35.0)
ENHANCED_HU = (135.0, 175.0)
"""Of each vessel, node, gallbladder, loop and cyst its own, drawn from one range."""

NO_GALLBLADDER, NO_LESION = 0.15, 0.25
CYST_MM, NODE_MM = (13.0, 20.0), (11.0, 15.0)
"""Radii."""
CYST_SITES = {
    "gallbladder": 0.35,
    "small_bowel": 0.35,
    "liver": 0.15,
    "kidney_left": 0.15,
}
"""Structure beside which, or for liver and kidney in which, a cyst lies, to its probability."""
NODE_SITES = {
    "aorta": 0.35,
    "inferior_vena_cava": 0.3,
    "portal_vein_and_splenic_vein": 0.35,
}
SOLID = ("liver", "kidney_left")

TRAINED, HELD_OUT = range(3000, 3016), range(3500, 3524)
"""Seeds of the embedded study's phantoms."""


def make_confused(seed: int, spacing: tuple[float, float, float] = SPACING) -> Phantom:
    """Make a phantom of the embedded study.

    Parameters
    ----------
    seed : the same seed gives the same phantom
    spacing : (x, y, z) in mm

    Returns
    -------
    phantom
        The abdomen; anatomy in the ids of TotalSegmentator's task `total`, without the lesions;
        lesions 1 cyst, 2 node.
    """
    c = Canvas(seed, spacing)
    cavity, dome = body_wall(c)
    chest(c, cavity, dome)
    under = cavity & (c.z < dome - 3)
    _organs(c, under)
    spine(c)
    _vessels(c, under)
    _bowel(c, under)
    lesion = np.zeros(c.hu.shape, np.uint8)
    for value, sites, radii, hu in (
        (LESIONS["cyst"], CYST_SITES, CYST_MM, FLUID_HU),
        (LESIONS["node"], NODE_SITES, NODE_MM, ENHANCED_HU),
    ):
        if c.random.uniform() > NO_LESION:
            mask = _beside(c, under, sites, c.random.uniform(*radii))
            lesion[mask & (lesion == 0)] = value
            c.paint(mask, c.random.uniform(*hu))
    x, y, z = c.size
    heights = (np.arange(z) - (z - 1) / 2) * spacing[2]
    kept = (heights >= HEIGHTS_MM[0]) & (heights <= HEIGHTS_MM[1])
    origin = (-(x - 1) / 2 * spacing[0], -(y - 1) / 2 * spacing[1], float(heights[kept][0]))
    grid = Grid((x, y, int(kept.sum())), spacing, origin, tuple(np.eye(3).ravel()))
    return Phantom(scan(c)[kept], c.anatomy[kept], lesion[kept], grid)


def _organs(c: Canvas, under: Array) -> None:
    """Liver, spleen, kidneys, stomach, and most often a gallbladder."""
    stomach = c.ellipsoid((52, -28, -2), (36, 34, 42))
    c.paint((stomach < 1) & under, c.random.uniform(*FLUID_HU), "stomach")
    c.paint((stomach < 0.6) & under & (c.y < -38), -950, "stomach")
    liver = (c.ellipsoid((-58, -6, -8), (80, 78, 74), 2.3) < 1) & under
    c.paint(liver & (c.x < 38 - 0.25 * (c.y + 40)), 108, "liver")
    c.paint((c.ellipsoid((96, 38, 4), (30, 40, 46), 2.2) < 1) & under, 122, "spleen")
    for side, name, height in ((1, "kidney_left", -68), (-1, "kidney_right", -80)):
        c.paint(c.ellipsoid((side * 60, 50, height), (29, 25, 54)) < 1, 190, name)
        c.paint(c.ellipsoid((side * 42, 44, height), (15, 12, 20)) < 1, -60)
    if c.random.uniform() > NO_GALLBLADDER:
        gallbladder = c.ellipsoid((-34, -52, -66), c.jitter(14, 15, 25, by=0.2)) < 1
        c.paint(gallbladder & under, c.random.uniform(*FLUID_HU), "gallbladder")


def _vessels(c: Canvas, under: Array) -> None:
    """Aorta and cava, which `spine` painted, each with its own brightness; mesenteric veins."""
    aorta = c.anatomy == c.ids["aorta"]
    c.paint(aorta, c.random.uniform(*ENHANCED_HU), "aorta")
    cava = ((c.x + 20) / 13) ** 2 + ((c.y - 42) / 11) ** 2 < 1
    free = (c.anatomy == 0) | (c.anatomy == c.ids["liver"])
    c.paint(cava & free & under, c.random.uniform(*ENHANCED_HU), "inferior_vena_cava")
    for side in (-1, 0, 1):
        path = np.array([side * 14.0, 4.0, -10.0]) + c.random.uniform(-5, 5, 3)
        step = np.array([side * 4.0, -1.5, -9.0])
        tube = _tube(c, path, step, 12, c.random.uniform(7, 9), turn=0.25)
        hu = c.random.uniform(*ENHANCED_HU)
        c.paint(tube & _fat(c, under), hu, "portal_vein_and_splenic_vein")


def _bowel(c: Canvas, under: Array) -> None:
    """Loops full of fluid that wind through the fat in front of spine and kidneys."""
    for _ in range(5):
        start = c.random.uniform((-90, -62, -125), (95, 20, -60))
        angle = c.random.uniform(0, 2 * np.pi)
        step = 9 * np.array([np.cos(angle), 0.6 * np.sin(angle), c.random.uniform(-0.5, 0.5)])
        loop = _tube(c, start, step, 9, c.random.uniform(9, 12), turn=0.7)
        hu = c.random.uniform(*FLUID_HU)
        c.paint(loop & _fat(c, under) & (c.z < -35), hu, "small_bowel")


def _tube(c: Canvas, start: Array, step: Array, count: int, radius: float, turn: float) -> Array:
    """Mask of what is within a radius of a path that turns by chance; lengths in mm."""
    inside = np.zeros(c.hu.shape, bool)
    point, length = start.astype(float), np.linalg.norm(step)
    for _ in range(count):
        inside |= _distance(c, point) < radius
        step = step + turn * length * c.random.normal(0, 1, 3)
        step = step * (length / np.linalg.norm(step))
        point = point + step
    return inside


def _distance(c: Canvas, point: Array) -> Array:
    x, y, z = point.tolist()
    return np.asarray(np.sqrt((c.x - x) ** 2 + (c.y - y) ** 2 + (c.z - z) ** 2))


def _fat(c: Canvas, under: Array) -> Array:
    """Fat of the cavity that nothing was painted over."""
    return np.asarray(under & (c.anatomy == 0) & (c.hu < -50))


def _beside(c: Canvas, under: Array, sites: dict[str, float], radius: float) -> Array:
    """Mask of a ball that touches the structure of a site, or lies in it where that is solid."""
    there = {name: p for name, p in sites.items() if (c.anatomy == c.ids[name]).any()}
    chances = np.array(list(there.values())) / sum(there.values())
    name = str(c.random.choice(list(there), p=chances))
    organ = c.anatomy == c.ids[name]
    room = organ if name in SOLID else _fat(c, under) | (c.anatomy == c.ids["liver"])
    spacing = tuple(reversed(c.spacing))
    away = ndimage.distance_transform_edt(~organ, sampling=spacing)
    deep = ndimage.distance_transform_edt(room, sampling=spacing)
    inside = c.z > HEIGHTS_MM[0] + radius
    near = room & inside & ((name in SOLID) | (np.abs(away - radius) < max(c.spacing) / 2))
    best = np.where(near, np.minimum(deep, radius) + c.random.uniform(0, 3, deep.shape), -1)
    centre = np.unravel_index(np.argmax(best), best.shape)
    point = np.array([c.x[centre], c.y[centre], c.z[centre]])
    return np.asarray(room & (_distance(c, point) < radius * (1 + 0.08 * c.smooth_noise(10))))


def write_confused(folder: Path) -> list[Path]:
    """Write the phantoms of the embedded study and their case table, `cases.tsv`.

    Of each case `ct.nii.gz`, `lesion.nii.gz` and `organs.nii.gz` (ids of `total`). In fold 0 the
    cases of `HELD_OUT` are validated. A file that is there with the right content keeps its time.
    """
    rows = [("case", "image_ct", "lesion", "fold")]
    folders = []
    for seed in (*TRAINED, *HELD_OUT):
        case = f"phantom_{seed}"
        _write_case(folder / case, make_confused(seed))
        fold = "0" if seed in HELD_OUT else ""
        rows.append((case, f"{case}/ct.nii.gz", f"{case}/lesion.nii.gz", fold))
        folders.append(folder / case)
    with atomic_path(folder / "new-cases.tsv") as temporary:
        temporary.write_text("".join("\t".join(row) + "\n" for row in rows), "utf-8")
    keep_if_same(folder / "new-cases.tsv", folder / "cases.tsv")
    return folders


def _write_case(folder: Path, phantom: Phantom) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(phantom.image)
    image.SetSpacing(phantom.grid.spacing)
    image.SetOrigin(phantom.grid.origin)
    with atomic_path(folder / "new-ct.nii.gz") as temporary:
        sitk.WriteImage(image, str(temporary), useCompression=True)
    keep_if_same(folder / "new-ct.nii.gz", folder / "ct.nii.gz")
    for name, array in (("lesion", phantom.lesion), ("organs", phantom.anatomy)):
        new = folder / f"new-{name}.nii.gz"
        write_labels(new, array, phantom.grid, like=folder / "ct.nii.gz")
        keep_if_same(new, folder / f"{name}.nii.gz")

"""Peak memory of a large CT through the five networks of TotalSegmentator's `total`.

    python tests/benchmarks/memory.py [--slices 531] [--theirs]

A synthetic CT of 512 x 512 x `--slices` voxels (0.8 x 0.8 x 1.5 mm) and five small random networks
in the right layout: arrays as large as the real ones; the labels are noise, the same for both.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine import agreement, backsplit, totalsegmentator
from totalsegmentator.map_tasks_config import TASK_CONFIGS

from backsplit.segment.totalseg.tasks import _part_maps
from support.networks import random_network

SIZE = (531, 512, 512)
SPACING = (0.8, 0.8, 1.5)


def synthetic_ct(
    path: Path,
    size: tuple[int, ...] = SIZE,
    spacing: tuple[float, ...] = SPACING,
) -> Path:
    """A body with organs and noise in air, int16, (z, y, x)."""
    random = np.random.default_rng(0)
    z, y, x = np.ogrid[: size[0], : size[1], : size[2]]
    image = np.full(size, -1000, np.int16)
    body = ((x - 256) / 210) ** 2 + ((y - 256) / 150) ** 2 < 1
    image[np.broadcast_to(body, size)] = -90
    liver, lung = (200, 230, 170, 90, 110), (380, 240, 150, 80, -850)
    kidney = (150, 300, 340, 45, 180)
    for cz, cy, cx, r, hu in (liver, lung, kidney):
        inside = ((z - cz) / r) ** 2 + ((y - cy) / r) ** 2 + ((x - cx) / r) ** 2 < 1
        image[inside] = hu
    image += random.integers(-15, 16, size, dtype=np.int16)
    written = sitk.GetImageFromArray(image)
    written.SetSpacing(spacing)
    sitk.WriteImage(written, str(path))
    return path


def main() -> None:
    """Measure ours, and theirs when asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--slices", type=int, default=SIZE[0])
    parser.add_argument("--theirs", action="store_true", help="TotalSegmentator's command too")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="backsplit-memory-") as name:
        root = Path(name)
        ids = TASK_CONFIGS["total"]["sub_modes"]["default"]["task_id"]
        for task_id, part in _part_maps("total", ids).items():
            trainer = "nnUNetTrainerNoMirroring"
            random_network(root / "w", task_id, len(part), 1.5, trainer, 128, (4, 8, 16, 16))
        args.weights, args.model = root / "w", None
        args.task, args.form = "total", "default"
        size = (args.slices, *SIZE[1:])
        cases = {"large": synthetic_ct(root / "large.nii.gz", size)}
        for way in ("d", "a"):
            (root / way).mkdir()
        ours, timings = backsplit(cases, args, root / "d")
        print(
            f"backsplit: {ours.seconds:.0f} s, peak {ours.peak_gib:.2f} GiB, {timings}", flush=True
        )
        if args.theirs:
            theirs = totalsegmentator("a", cases, args, root / "a")
            print(f"TotalSegmentator: {theirs.seconds:.0f} s, peak {theirs.peak_gib:.2f} GiB")
            print(f"equal voxels: {agreement(ours, theirs):.4%}")


if __name__ == "__main__":
    main()

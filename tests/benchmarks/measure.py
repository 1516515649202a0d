"""Measures of a large label map, against TotalSegmentator's own statistics.

    python tests/benchmarks/measure.py [--shape 400 512 512]

117 organs; each way gets image and labels in memory:

    ours    `backsplit.measure.table.measure`: 49 columns for each class
    theirs  `totalsegmentator.statistics.get_basic_statistics(extra_metrics=True)`: volume,
            intensity, voxels, its standard deviation and extremes, centroid and box
"""

from __future__ import annotations

import argparse
import time

import nibabel as nib
import numpy as np
from compose import ORGANS, volumes
from totalsegmentator.statistics import get_basic_statistics

from backsplit.measure.table import measure
from backsplit.volume import Grid


def main() -> None:
    """Measure both in one run, and hold their common columns against each other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shape", nargs=3, type=int, default=[400, 512, 512], help="z y x")
    shape = tuple(parser.parse_args().shape)
    arrays = volumes((shape[0], shape[1], shape[2]))
    labels = arrays["organs"]
    rng = np.random.default_rng(1)
    image = (np.where(arrays["tissue"] > 0, 40, -1000) + rng.normal(0, 12, shape[1:])).astype(
        np.int16
    )
    grid = Grid(shape[::-1], (0.8, 0.8, 1.0), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    names = ["background", *(f"organ_{i}" for i in range(1, ORGANS + 1))]
    small = Grid((8, 8, 8), (1, 1, 1), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    measure(image[:8, :8, :8].copy(), labels[:8, :8, :8].copy(), names, small)  # compiles
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        table = measure(image, labels, names, grid)
        seconds.append(time.perf_counter() - started)
    ours = min(seconds)
    picture = nib.Nifti1Image(image.transpose(2, 1, 0), grid.affine_ras)
    turned = np.ascontiguousarray(labels.transpose(2, 1, 0))
    started = time.perf_counter()
    stats = get_basic_statistics(turned, picture, quiet=True, extra_metrics=True)
    theirs = time.perf_counter() - started
    counted = [s["n_voxels"] for s in stats.values() if s["volume"]]
    mine = table[~table["touches_border"]]["voxels"][1:]
    assert sorted(counted) == sorted(mine[mine > 0].tolist()), "voxel counts differ"
    print(f"ours   {ours:7.2f} s, {table.shape[1] - 1} columns")
    print(f"theirs {theirs:7.2f} s, {len(next(iter(stats.values())))} columns")
    print(f"ours is {theirs / ours:.0f} times as fast")


if __name__ == "__main__":
    main()

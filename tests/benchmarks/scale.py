"""Plan a data set of many tiny cases: what a dry run of the workflow takes.

    python tests/benchmarks/scale.py [--cases 10000] [--batch-size 200]

The cases are ten small volumes, linked as often as it takes; a `files` and a `threshold` segmenter.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml

from backsplit.volume import Grid, save_nifti

ROOT = Path(__file__).parents[2]
DIFFERENT = 10


def make(folder: Path, cases: int, batch_size: int) -> Path:
    """Write the volumes, the table and the configuration."""
    rng = np.random.default_rng(0)
    grid = Grid((12, 12, 12), (2.0, 2.0, 2.0), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    for number in range(DIFFERENT):
        image = np.full(grid.shape, -1000, np.int16)
        image[2:10, 2:10, 2:10] = 40 + rng.integers(-20, 20, (8, 8, 8))
        lesion, organ = np.zeros(grid.shape, np.uint8), np.zeros(grid.shape, np.uint8)
        organ[3:8, 3:8, 3:8] = 1
        lesion[4:6, 4:6, 4 : 6 + number % 3] = 1
        for kind, array in (("image", image), ("lesion", lesion), ("organ", organ)):
            save_nifti(folder / f"{kind}_{number}.nii.gz", array, grid)
    rows = ["case\timage_ct\tlesion"]
    for kind in ("image", "lesion", "organ"):
        (folder / kind).mkdir()
        for case in range(cases):
            original = folder / f"{kind}_{case % DIFFERENT}.nii.gz"
            os.link(original, folder / kind / f"{case:06d}.nii.gz")
    rows += [f"{c:06d}\timage/{c:06d}.nii.gz\tlesion/{c:06d}.nii.gz" for c in range(cases)]
    (folder / "cases.tsv").write_text("\n".join(rows) + "\n")
    organs = {"kind": "files", "path": str(folder / "organ/{case}.nii.gz"), "labels": {"organ": 1}}
    config = {
        "dataset": {"name": "Scale", "id": 9, "cases": str(folder / "cases.tsv")},
        "targets": {"tumor": 1},
        "segmenters": {
            "given": organs,
            "tissue": {"kind": "threshold", "bands": {"soft": [0, 100]}},
        },
        "structures": {"organ": "given/organ", "soft": "tissue/soft"},
        "run": {"results": str(folder / "results"), "batch_size": batch_size, "device": "cpu"},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def main() -> None:
    """Make the data set and plan it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--batch-size", type=int, default=200)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="backsplit-scale-") as name:
        config = make(Path(name), args.cases, args.batch_size)
        command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile")]
        command += ["--configfile", str(config), "--cores", "2", "--dry-run", "--quiet", "rules"]
        started = time.perf_counter()
        with subprocess.Popen(command, cwd=name, stdout=subprocess.PIPE, text=True) as planning:
            assert planning.stdout is not None
            text = planning.stdout.read()
            _, status, used = os.wait4(planning.pid, 0)
        seconds = time.perf_counter() - started
        assert status == 0, text
        jobs = re.search(r"^total\s+(\d+)", text, re.MULTILINE)
        assert jobs is not None, text
        print(
            f"{args.cases} cases in batches of {args.batch_size}: {jobs[1]} jobs planned in "
            f"{seconds:.1f} s, {used.ru_maxrss / 1024:.0f} MiB"
        )


if __name__ == "__main__":
    main()

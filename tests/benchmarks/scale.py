"""A data set of many tiny cases: what planning it takes, what running it takes beside the work.

    python tests/benchmarks/scale.py [--cases 10000] [--batch-size 200]      a dry run
    python tests/benchmarks/scale.py --run [--add 10] [--pictures]           a real one

The cases are copies of ten small volumes; a `files` and a `threshold` segmenter.

Work is what happens inside a stage's `work` (reading, labelling, composing, measuring, writing
volumes), and looking into files in `check`. All else is orchestration: starting Python, tables,
fingerprints, sidecars, status tables, the whole of `cases`, `judge`, `export` and `report`, and
Snakemake itself. Both are CPU seconds, which other load on the machine does not change much; they
come from `results/provenance/jobs`, and Snakemake's own from the kernel. The last row is what the
kernel counted for every process of the run, less the work: it also has what no job sees of itself
(shells, the end of a process).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml

from backsplit.volume import Grid, save_nifti

ROOT = Path(__file__).parents[2]
DIFFERENT = 10
POLL_S = 0.05
TICKS = os.sysconf("SC_CLK_TCK")


def make(folder: Path, cases: int, batch_size: int, *, pictures: bool = False) -> Path:
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
    add(folder, range(cases))
    organs = {"kind": "files", "path": str(folder / "organ/{case}.nii.gz"), "labels": {"organ": 1}}
    run = {"results": str(folder / "results"), "batch_size": batch_size, "device": "cpu"}
    config = {
        "dataset": {"name": "Scale", "id": 9, "cases": str(folder / "cases.tsv")},
        "targets": {"tumor": 1},
        "segmenters": {
            "given": organs,
            "tissue": {"kind": "threshold", "bands": {"soft": [0, 100]}},
        },
        "structures": {"organ": "given/organ", "soft": "tissue/soft"},
        "run": {**run, "pictures": pictures},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def add(folder: Path, cases: range) -> None:
    """Add cases of these numbers to the table."""
    table = folder / "cases.tsv"
    if not table.exists():
        table.write_text("case\timage_ct\tlesion\n")
    for kind in ("image", "lesion", "organ"):
        (folder / kind).mkdir(exist_ok=True)
        for case in cases:
            original = folder / f"{kind}_{case % DIFFERENT}.nii.gz"
            shutil.copyfile(original, folder / kind / f"{case:06d}.nii.gz")
    with table.open("a") as stream:
        stream.writelines(f"{c:06d}\timage/{c:06d}.nii.gz\tlesion/{c:06d}.nii.gz\n" for c in cases)


@dataclass
class Controller:
    """What Snakemake's own process took, its jobs left out."""

    seconds: float = 0.0
    cpu_s: float = 0.0
    cpu_with_jobs_s: float = 0.0
    peak_mib: float = 0.0
    text: str = ""


def snakemake(config: Path, *arguments: str) -> Controller:
    """Run the workflow and watch the process."""
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--quiet", "rules"]
    command += ["--configfile", str(config), "--cores", "2", *arguments]
    log = config.parent / "snakemake.log"
    took = Controller()
    started, before = time.perf_counter(), _children_cpu_s()
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=config.parent, stdout=out, stderr=out)
        while process.poll() is None:
            try:
                fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
                status = Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                break
            took.cpu_s = (int(fields[11]) + int(fields[12])) / TICKS
            if peak := re.search(r"VmHWM:\s+(\d+)", status):
                took.peak_mib = int(peak[1]) / 1024
            time.sleep(POLL_S)
    took.seconds = time.perf_counter() - started
    took.text = log.read_text()
    assert process.wait() == 0, took.text[-3000:]
    took.cpu_with_jobs_s = _children_cpu_s() - before
    return took


def _children_cpu_s() -> float:
    """CPU seconds of all processes that have ended below this one."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@dataclass
class Spent:
    """What the jobs of one stage took."""

    jobs: int = 0
    work_s: float = 0.0
    rest_s: float = 0.0
    peak_mib: int = 0
    hosts: set[str] = field(default_factory=set)


def spent(results: Path) -> dict[str, Spent]:
    """Sum up the records of all jobs, by stage."""
    stages: dict[str, Spent] = defaultdict(Spent)
    root = results / "provenance" / "jobs"
    for path in sorted(root.rglob("*.jsonl")):
        stage = stages[path.parent.relative_to(root).as_posix()]
        for event in map(json.loads, path.read_text().splitlines()):
            if event["event"] == "start":
                stage.jobs += 1
                stage.rest_s += event["startup_cpu_seconds"]
            elif event["event"] == "end":
                stage.work_s += event["work_cpu_seconds"]
                stage.rest_s += event["cpu_seconds"] - event["work_cpu_seconds"]
                stage.peak_mib = max(stage.peak_mib, event["peak_mib"])
    return dict(stages)


def times(results: Path) -> dict[Path, int]:
    """Every file with its time of writing."""
    return {path: path.stat().st_mtime_ns for path in results.rglob("*") if path.is_file()}


def plan(config: Path, cases: int, batch_size: int) -> None:
    """Print what a dry run takes."""
    took = snakemake(config, "--dry-run")
    jobs = re.search(r"^total\s+(\d+)", took.text, re.MULTILINE)
    assert jobs is not None, took.text
    print(
        f"{cases} cases in batches of {batch_size}: {jobs[1]} jobs planned in "
        f"{took.seconds:.1f} s ({took.cpu_s:.1f} s of CPU), {took.peak_mib:.0f} MiB"
    )


def run(config: Path, cases: int) -> None:
    """Run everything; print what each stage took."""
    took = snakemake(config)
    stages = spent(config.parent / "results")
    print(f"{cases} cases end to end in {took.seconds / 60:.1f} min\n")
    print("| stage | jobs | work, ms a case | orchestration, ms a case | peak MiB |")
    print("|---|---|---|---|---|")
    for name, s in stages.items():
        work, rest = (1000 * seconds / cases for seconds in (s.work_s, s.rest_s))
        print(f"| {name} | {s.jobs} | {work:.1f} | {rest:.1f} | {s.peak_mib} |")
    own = 1000 * took.cpu_s / cases
    print(f"| Snakemake | 1 | | {own:.1f} | {took.peak_mib:.0f} |")
    work = 1000 * sum(s.work_s for s in stages.values()) / cases
    rest = 1000 * sum(s.rest_s for s in stages.values()) / cases + own
    print(f"| all of these | {sum(s.jobs for s in stages.values())} | {work:.1f} | {rest:.1f} | |")
    rest = 1000 * took.cpu_with_jobs_s / cases - work
    print(f"| **every process** | | {work:.1f} | **{rest:.1f}** | |")


def grow(config: Path, cases: int, more: int) -> None:
    """Add cases, run again; print which files were written."""
    results = config.parent / "results"
    before = times(results)
    add(config.parent, range(cases, cases + more))
    took = snakemake(config)
    written = Counter(
        path.relative_to(results).parent.as_posix()
        for path, when in times(results).items()
        if before.get(path) != when and path.name.endswith(".nii.gz")
    )
    print(f"\n{more} cases more: {took.seconds:.0f} s; volumes written: {dict(written)}")


def main() -> None:
    """Make the data set; plan it, or run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--batch-size", type=int, default=200)
    parser.add_argument("--run", action="store_true", help="not only plan")
    parser.add_argument("--add", type=int, default=0, metavar="N", help="then add N cases")
    parser.add_argument("--pictures", action="store_true", help="draw pictures")
    parser.add_argument("--keep", type=Path, help="folder that stays")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="backsplit-scale-") as name:
        folder = args.keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        config = make(folder, args.cases, args.batch_size, pictures=args.pictures)
        plan(config, args.cases, args.batch_size)
        if args.run:
            run(config, args.cases)
        if args.add:
            grow(config, args.cases, args.add)


if __name__ == "__main__":
    main()

"""Compose one large case, against its own reading and writing and against a loop over classes.

    python tests/benchmarks/compose.py [--shape 600 512 512] [--repair]

A synthetic case: 117 organ classes, a given organ map and intensity bands beneath, 20 lesions.
Each way runs in a process of its own, so that its peak memory is its own:

    labels  reads the lesion file and the three layers, writes the label map
    io      the same, and reads the image (of which composing needs the header only)
    ours    `backsplit compose` of the case: reads, composes, hosts, (repairs,) writes, verifies
    theirs  TotalSegmentator's own combine_masks_to_multilabel_file, on the 117 organs as mask
            files: a loop over classes that reads each of them (organs alone, no lesions, no rules)
    loop    the same loop with every mask in memory already, and a count of each class
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.sidecars import segmented, write

LAYERS = ("given", "organs", "tissue")
ORGANS = 117
LESIONS = 20


def volumes(shape: tuple[int, int, int]) -> dict[str, np.ndarray]:
    """Label arrays (z, y, x) of the case."""
    rng = np.random.default_rng(0)
    y, x = (np.arange(n, dtype=np.float32) for n in shape[1:])
    body = ((x - shape[2] / 2) / (0.42 * shape[2])) ** 2 + (
        ((y - shape[1] / 2) / (0.32 * shape[1])) ** 2
    )[:, None] < 1
    tissue = np.zeros(shape, np.uint8)
    tissue[:, body] = 1
    organs = np.zeros(shape, np.uint8)
    given = np.zeros(shape, np.uint8)
    lesion = np.zeros(shape, np.uint8)

    def ball(array: np.ndarray, value: int, radius: float, spread: float) -> None:
        centre = [n * (0.5 + spread * (rng.random() - 0.5)) for n in shape]
        low = [max(0, int(c - radius)) for c in centre]
        box = tuple(slice(a, int(a + 2 * radius)) for a in low)
        part = array[box]
        at = np.ogrid[tuple(slice(a, a + n) for a, n in zip(low, part.shape, strict=True))]
        away = sum(((i - c) / radius) ** 2 for i, c in zip(at, centre, strict=True))
        part[away < 1] = value

    for value in range(1, ORGANS + 1):
        ball(organs, value, 0.09 * shape[1], 0.6)
    for value in (1, 2, 3):
        ball(given, value, 0.12 * shape[1], 0.4)
    for number in range(LESIONS):
        ball(lesion, 1 + number % 2, 4 + number % 9, 0.5)
    tissue[:, body] += (organs[:, body] > 60).astype(np.uint8)
    return {"lesion": lesion, "given": given, "organs": organs, "tissue": tissue}


def make(folder: Path, shape: tuple[int, int, int], *, mend: bool) -> None:
    """Write image, lesion, segmenters' maps with sidecars, and the configuration."""
    from backsplit.volume import Grid, save_nifti

    grid = Grid(shape[::-1], (0.8, 0.8, 1.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    arrays = volumes(shape)
    image = np.where(arrays["tissue"] > 0, 40, -1000).astype(np.int16)
    image += np.random.default_rng(1).normal(0, 12, shape[1:]).astype(np.int16)
    save_nifti(folder / "ct.nii.gz", image, grid)
    del image
    for name, array in arrays.items():
        path = folder / "results" / "segment" / name / "case.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_nifti(path, array, grid)
        write(path.parent, segmented("case", name))
    names = {
        "given": {f"given_{v}": v for v in (1, 2, 3)},
        "organs": {f"organ_{v}": v for v in range(1, ORGANS + 1)},
        "tissue": {"soft": 1, "dense": 2},
    }
    config = {
        "dataset": {"name": "Bench", "id": 1, "cases": str(folder / "cases.tsv")},
        "targets": {"tumor": 1, "cyst": 2},
        "segmenters": {
            name: {"kind": "files", "path": f"{name}/{{case}}.nii.gz", "labels": labels}
            for name, labels in names.items()
        },
        "structures": {n: f"{s}/{n}" for s, labels in names.items() for n in labels},
        "compose": {
            "order": ["targets", *LAYERS],
            "except": [{"winner": "organ_1", "loser": "given_*"}],
            "hosts": {"tumor": ["organ_*", "given_*"], "cyst": ["organ_*", "given_*"]},
            "repair": {"rim_mm": 3, "holes": True, "over": ["soft", "dense"]} if mend else {},
        },
        "run": {"results": str(folder / "results")},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    lesion = "results/segment/lesion/case.nii.gz"
    (folder / "cases.tsv").write_text(f"case\timage_ct\tlesion\ncase\tct.nii.gz\t{lesion}\n")


def io(folder: Path) -> None:
    """Read everything that the case consists of, write what composing writes."""
    from backsplit.volume import read_volume

    read_volume(folder / "ct.nii.gz")
    labels(folder)


def labels(folder: Path) -> None:
    """Read what composing reads, write what it writes."""
    from backsplit.volume import read_labels, save_nifti

    for name in ("lesion", *LAYERS):
        volume = read_labels(folder / "results" / "segment" / name / "case.nii.gz")
    save_nifti(folder / "again.nii.gz", volume.array, volume.grid)


def ours(folder: Path) -> None:
    """Compose the case as the command does."""
    from backsplit.cases.table import open_table
    from backsplit.compose.stage import ComposeStage
    from backsplit.errors import CaseError
    from backsplit.flow.batches import composing
    from backsplit.flow.project import open_project

    project = open_project(folder / "config.yaml")
    failed = {name: {} for name in LAYERS}
    results = project.results
    stage = ComposeStage(composing(project), results, failed, results.labels)
    ((_, details),) = stage.work(open_table(project.config).cases([0]))
    if isinstance(details, CaseError):
        raise details
    print("\n".join(details.summary), file=sys.stderr)


def loop(folder: Path) -> None:
    """One pass over the volume for each class of each layer, and one for its statistics."""
    from backsplit.volume import read_labels

    layers = [
        read_labels(folder / "results" / "segment" / name / "case.nii.gz").array
        for name in ("lesion", *LAYERS)
    ]
    out = np.zeros(layers[0].shape, np.uint8)
    label = 0
    started = time.perf_counter()
    for layer in reversed(layers):
        for value in range(1, int(layer.max()) + 1):
            label += 1
            mask = layer == value
            out[mask] = label
            mask.sum()
    print(f"without reading: {time.perf_counter() - started:.1f} s", file=sys.stderr)


def theirs(folder: Path) -> None:
    """TotalSegmentator's own function; its inputs are mask files, written by `make_masks`."""
    from totalsegmentator.libs import combine_masks_to_multilabel_file

    combine_masks_to_multilabel_file(folder / "masks", folder / "combined.nii.gz")


def make_masks(folder: Path) -> None:
    """A file for each organ, named as TotalSegmentator names them."""
    from totalsegmentator.map_to_binary import class_map

    from backsplit.volume import read_labels, save_nifti

    labels = read_labels(folder / "results" / "segment" / "organs" / "case.nii.gz")
    for value, name in class_map["total"].items():
        mask = (labels.array == value).astype(np.uint8)
        path = folder / "masks" / f"{name}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        save_nifti(path, mask, labels.grid)


WAYS = {"labels": labels, "io": io, "ours": ours, "loop": loop, "theirs": theirs}


def child(way: str, folder: Path) -> None:
    """Run one way and print seconds and memory above what the imports take."""
    import backsplit.compose.stage  # noqa: F401 (imports are not what is measured)
    from backsplit.compose.layers import Composer, Layer, Precedence

    # nor is what Numba's start takes, once a job
    Composer((1,), Precedence()).add(Layer("", np.zeros(1, np.uint8), {1: (1,)}))
    before = peak_mib()
    started = time.perf_counter()
    WAYS[way](folder)
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "mib": peak_mib() - before}))


def peak_mib() -> float:
    """Peak resident memory of this process (getrusage would count the parent's too)."""
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    """Measure every way in one run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shape", nargs=3, type=int, default=[600, 512, 512], help="z y x")
    parser.add_argument("--repair", action="store_true", help="rim and holes too")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child[0], Path(args.child[1]))
        return
    with tempfile.TemporaryDirectory(prefix="backsplit-compose-") as name:
        folder = Path(name)
        shape = (args.shape[0], args.shape[1], args.shape[2])
        make(folder, shape, mend=args.repair)
        found: dict[str, dict[str, float]] = {}
        shown: set[str] = set()
        make_masks(folder)
        # the best of three: caches are cold at first
        for way in (*("ours", "labels", "io") * 3, "loop", "theirs"):
            command = [sys.executable, __file__, "--child", way, name]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            result = json.loads(done.stdout.splitlines()[-1])
            if way not in found or result["seconds"] < found[way]["seconds"]:
                found[way] = result
            print(done.stderr if way == "ours" and way not in shown else "", end="")
            shown.add(way)
        volume = float(np.prod(shape)) / 2**20
        print(f"\n{'way':6} {'seconds':>8} {'times io':>9} {'uint8 volumes':>14}")
        for way, result in found.items():
            ratio = result["seconds"] / found["io"]["seconds"]
            mib = result["mib"] / volume
            print(f"{way:6} {result['seconds']:8.1f} {ratio:9.2f} {mib:14.1f}")
        for way in ("theirs", "loop"):
            speedup = found[way]["seconds"] / found["ours"]["seconds"]
            print(f"ours is {speedup:.1f} times as fast as {way}")


if __name__ == "__main__":
    main()

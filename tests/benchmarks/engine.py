"""The engine against its peers: the same cases and weights, measured in one run.

    python tests/benchmarks/engine.py phantoms --copies 8
    python tests/benchmarks/engine.py IMAGE --copies 4 --form fast --weights FOLDER
    python tests/benchmarks/engine.py IMAGE IMAGE … --model TRAINED_MODEL_FOLDER --folds 0 1

(a) the TotalSegmentator command, once a case; (b) its Python function in a loop;
(c) nnUNetv2_predict on the folder; (d) `backsplit segment`. On CUDA where torch sees it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import psutil
import SimpleITK as sitk
import torch
import yaml

from backsplit.demo.phantoms import make_phantom
from backsplit.segment.weights import demo_weights

matplotlib.use("Agg")
import matplotlib.pyplot as plt

BIN = Path(sys.executable).parent
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NAMES = {
    "a": "TotalSegmentator, a command per case",
    "b": "TotalSegmentator, Python in a loop",
    "c": "nnUNetv2_predict on the folder",
    "d": "backsplit",
}
PHASES = ("load", "read", "prepare", "network", "labels", "write")
LOOP = """
import json, sys
from totalsegmentator.python_api import totalsegmentator
if __name__ == "__main__":
    options = {"ml": True, "quiet": True, "nr_thr_saving": 1, **json.loads(sys.argv[2])}
    for image, out in json.loads(sys.argv[1]):
        totalsegmentator(image, out, **options)
"""


@dataclass(frozen=True)
class Measured:
    """One way: seconds, peak of memory, label maps by case."""

    way: str
    seconds: float
    peak_gib: float
    outputs: dict[str, Path]


def run(commands: list[list[str]], folder: Path, extra: dict[str, str]) -> tuple[float, float]:
    """Run commands one after the other: wall seconds, peak GiB of the whole process tree."""
    peak, done = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        me = psutil.Process()
        while not done.wait(0.2):
            total = 0
            for child in me.children(recursive=True):
                try:
                    total += child.memory_info().rss
                except psutil.Error:
                    continue
            peak = max(peak, total)

    watcher = threading.Thread(target=watch)
    watcher.start()
    begun = time.perf_counter()
    try:
        for command in commands:
            ended = subprocess.run(
                command, cwd=folder, env={**os.environ, **extra}, capture_output=True, text=True,
                check=False,
            )  # fmt: skip
            if ended.returncode:
                sys.exit(f"{command} failed:\n{ended.stdout[-2000:]}\n{ended.stderr[-4000:]}")
    finally:
        done.set()
        watcher.join()
    return time.perf_counter() - begun, peak / 2**30


def totalsegmentator(way: str, cases: dict[str, Path], args, folder: Path) -> Measured:
    """Ways (a) and (b)."""
    home = folder / "home"
    home.mkdir()
    settings = {"totalseg_id": "none", "send_usage_stats": False, "prediction_counter": 0,
                "statistics_disclaimer_shown": True}  # fmt: skip
    (home / "config.json").write_text(json.dumps(settings))
    extra = {"TOTALSEG_HOME_DIR": str(home), "TOTALSEG_WEIGHTS_PATH": str(args.weights)}
    outputs = {name: folder / f"{name}.nii.gz" for name in cases}
    device = "gpu" if DEVICE == "cuda" else "cpu"
    if way == "a":
        form = [] if args.form == "default" else [f"--{args.form}"]
        commands = [
            [str(BIN / "TotalSegmentator"), "-i", str(path), "-o", str(outputs[name]), "--ml",
             "-ta", args.task, "-d", device, "-ns", "1", *form]
            for name, path in cases.items()
        ]  # fmt: skip
    else:
        script = folder / "loop.py"
        script.write_text(LOOP)
        pairs = json.dumps([[str(path), str(outputs[name])] for name, path in cases.items()])
        options = {"task": args.task, "device": device}
        if args.form != "default":
            options[args.form] = True
        commands = [[sys.executable, str(script), pairs, json.dumps(options)]]
    return Measured(way, *run(commands, folder, extra), outputs)


def nnunet(cases: dict[str, Path], args, folder: Path) -> Measured:
    """Way (c)."""
    (folder / "in").mkdir()
    for name, path in cases.items():
        (folder / "in" / f"{name}_0000.nii.gz").symlink_to(path)
    command = [str(BIN / "nnUNetv2_predict_from_modelfolder"), "-i", str(folder / "in"),
               "-o", str(folder / "out"), "-m", str(args.model), "-f", *map(str, args.folds),
               "-device", DEVICE]  # fmt: skip
    outputs = {name: folder / "out" / f"{name}.nii.gz" for name in cases}
    return Measured("c", *run([command], folder, {}), outputs)


def backsplit(cases: dict[str, Path], args, folder: Path) -> tuple[Measured, dict[str, float]]:
    """Way (d), and where its time went."""
    rows = ["case\timage_ct\tlesion", *(f"{name}\t{path}\tnone" for name, path in cases.items())]
    (folder / "cases.tsv").write_text("\n".join(rows) + "\n")
    if args.model:
        organs = {"kind": "nnunet", "model": str(args.model), "folds": args.folds}
    else:
        organs = {"kind": "totalsegmentator", "task": args.task, "weights": str(args.weights)}
        if args.form != "default":
            organs[args.form] = True
    cysts = not args.model and args.task.startswith("total") and args.task != "total_mr"
    lesions = {"organs/kidney_cyst_*": "background"} if cysts else {}
    settings = {
        "dataset": {"name": "B", "id": 1, "cases": "cases.tsv"},
        "targets": {"t": 1},
        "segmenters": {"organs": organs},
        "structures": {"all": "organs/*"},
        "compose": {"segmenter_lesions": lesions},
        "run": {"batch_size": len(cases), "device": DEVICE},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    extra = {"BACKSPLIT_WEIGHTS": str(folder / "accepted")}
    command = [str(BIN / "backsplit")]
    given = ["--config", "config.yaml"]
    # by batches, check does not mind that no case has a lesion
    before = [["weights", "accept", "organs"], ["check", "--batch", "00001"], ["cases"]]
    run([[*command, *verb, *given] for verb in before], folder, extra)
    measured = run([[*command, "segment", "organs", *given, "--timings", "t.json"]], folder, extra)
    outputs = {n: folder / "results" / "segment" / "organs" / f"{n}.nii.gz" for n in cases}
    return Measured("d", *measured, outputs), json.loads((folder / "t.json").read_text())


def agreement(one: Measured, other: Measured) -> float:
    """Lowest share of equal voxels over the cases."""
    shares = []
    for name, path in one.outputs.items():
        a, b = (sitk.GetArrayFromImage(sitk.ReadImage(str(p))) for p in (path, other.outputs[name]))
        shares.append(float((a == b).mean()))
    return min(shares)


def collect(args, folder: Path) -> dict[str, Path]:
    """Cases: phantoms, or images (one is linked `--copies` times)."""
    cases: dict[str, Path] = {}
    if args.images == ["phantoms"]:
        for i in range(args.copies):
            phantom = make_phantom(700 + i, ("kidney", "liver"))
            image = sitk.GetImageFromArray(phantom.image)
            image.SetSpacing(phantom.grid.spacing)
            image.SetOrigin(phantom.grid.origin)
            cases[f"phantom{i}"] = folder / f"phantom{i}.nii.gz"
            sitk.WriteImage(image, str(cases[f"phantom{i}"]))
        return cases
    for image in args.images:
        for _ in range(args.copies):
            cases[f"case{len(cases)}"] = Path(image).resolve()
    return cases


def table(measured: list[Measured], timings: dict[str, float], count: int) -> str:
    """The report as markdown."""
    mine = measured[-1]
    lines = ["| way | s | s per case | times ours | peak GiB | equal voxels |", "|---" * 6 + "|"]
    for m in measured:
        lines.append(
            f"| {NAMES[m.way]} | {m.seconds:.1f} | {m.seconds / count:.2f} "
            f"| {m.seconds / mine.seconds:.2f} | {m.peak_gib:.2f} | {agreement(mine, m):.4%} |"
        )
    split = ", ".join(f"{phase} {timings[f'{phase}_s'] / count:.2f}" for phase in PHASES)
    idle = 1 - timings["network_share"]
    return "\n".join(
        [
            *lines,
            "",
            f"Ours, seconds per case (phases overlap): {split}.",
            f"The network was NOT running in {idle:.1%} of the job's time.",
            f"{count} cases, {DEVICE}, {os.cpu_count()} cores, torch {torch.__version__}.",
        ]
    )


def plot(measured: list[Measured], timings: dict[str, float], count: int, path: Path) -> None:
    """Seconds per case by way, and ours by phase."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.5))
    left.barh([NAMES[m.way] for m in measured], [m.seconds / count for m in measured])
    left.set_xlabel("seconds per case")
    bottoms = np.cumsum([0, *(timings[f"{p}_s"] / count for p in PHASES)])
    for phase, start in zip(PHASES, bottoms, strict=False):
        right.barh(["backsplit"], timings[f"{phase}_s"] / count, left=start, label=phase)
    right.set_xlabel("seconds per case (phases of different cases overlap)")
    right.legend(ncols=3, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure every way that fits the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("images", nargs="+", help="images, or the word phantoms")
    parser.add_argument("--copies", type=int, default=1)
    parser.add_argument("--task", default="total")
    parser.add_argument("--form", choices=["default", "fast", "fastest"], default="fastest")
    parser.add_argument("--weights", type=Path, default=demo_weights())
    parser.add_argument("--model", type=Path, help="nnU-Net trained-model folder: compare with (c)")
    parser.add_argument("--folds", type=int, nargs="+", default=[0])
    parser.add_argument("--ways", default="abcd", help="a subset of abcd; d is always run")
    parser.add_argument("--out", type=Path, default=Path("benchmark"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    args.weights = args.weights.resolve()
    args.model = args.model.resolve() if args.model else None
    with tempfile.TemporaryDirectory(prefix="backsplit-bench-") as name:
        root = Path(name)
        cases = collect(args, root)
        folders = {way: root / way for way in "abcd"}
        for folder in folders.values():
            folder.mkdir()
        measured = []
        for way in ("c",) if args.model else ("a", "b"):
            if way not in args.ways:
                continue
            if way == "c":
                result = nnunet(cases, args, folders[way])
            else:
                result = totalsegmentator(way, cases, args, folders[way])
            print(f"{NAMES[way]}: {result.seconds:.1f} s", flush=True)
            measured.append(result)
        ours, timings = backsplit(cases, args, folders["d"])
        measured.append(ours)
        text = table(measured, timings, len(cases))
    print(text)
    (args.out / "engine.md").write_text(text + "\n")
    plot(measured, timings, len(cases), args.out / "engine.png")


if __name__ == "__main__":
    main()

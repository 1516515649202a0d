"""Peak memory of predicting lesions with a network of many classes, beside nnU-Net's own.

    python tests/benchmarks/collapsed.py [--size 512x512x400] [--spacing 0.8x0.8x1.5]
                                         [--network-spacing 1.5] [--classes 118] [--limit-gib 20]

The same small random network, whose classes are background, one target and structures, labels the
same synthetic CT: `nnUNetPredictor` keeps every class of every voxel, `backsplit train predict` the
target and the rest. Each runs in a process of its own whose data may take `--limit-gib`: what needs
more ends with an error instead of the machine's memory, and the row says so.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import SimpleITK as sitk
import torch
from memory import synthetic_ct

from backsplit.cases.table import Case
from backsplit.config.model import Run
from backsplit.segment.weights import accept, files_of
from backsplit.train.predict import Predicting, predict
from support.networks import random_network

TASK = 291
PATCH = 96
OUT_OF_MEMORY = 3
MEASURED = "measured.json"


def ours(model: Path, image: Path, out: Path) -> None:
    """The target only."""
    accept(files_of(model))
    case = Case("ct", 2, {"ct": image}, {}, {}, image.parent)
    for _, error in predict([case], ["ct"], Run(device="cpu"), Predicting(model), out):
        if error is not None:
            raise error


def theirs(model: Path, image: Path, out: Path) -> None:
    """Every class."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), (0,), "checkpoint_final.pth")
    predictor.predict_from_files_sequential([[str(image)]], [str(out / "ct.nii.gz")])


def child(way: str, model: Path, image: Path, out: Path, limit_gib: float) -> None:
    """Run one way within a limit; print seconds and peak."""
    limit = int(limit_gib * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    begun = time.perf_counter()
    try:
        {"backsplit": ours, "nnU-Net": theirs}[way](model, image, out)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "allocate memory" not in str(error):
            raise
        (out / MEASURED).write_text(json.dumps(str(error).splitlines()[0]))
        sys.exit(OUT_OF_MEMORY)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    (out / MEASURED).write_text(json.dumps([time.perf_counter() - begun, peak]))


def main() -> None:
    """Make network and image; measure both ways."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--size", default="512x512x400", help="voxels, x y z")
    parser.add_argument("--spacing", default="0.8x0.8x1.5", help="mm, x y z")
    parser.add_argument("--network-spacing", type=float, default=1.5, help="mm")
    parser.add_argument("--classes", type=int, default=118, help="background included")
    parser.add_argument("--limit-gib", type=float, default=20)
    parser.add_argument("--ways", nargs="+", default=["backsplit", "nnU-Net"])
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        way, *paths = args.child
        child(way, *map(Path, paths), args.limit_gib)
        return
    size = tuple(int(n) for n in args.size.split("x"))
    spacing = tuple(float(s) for s in args.spacing.split("x"))
    with tempfile.TemporaryDirectory(prefix="backsplit-collapsed-") as name:
        folder = Path(name)
        os.environ["BACKSPLIT_WEIGHTS"] = str(folder / "ledger")
        random_network(folder, TASK, args.classes - 1, args.network_spacing, "nnUNetTrainer", PATCH)
        (model,) = folder.glob("Dataset*/nnUNet*")
        described = json.loads((model / "dataset.json").read_text())
        (model / "dataset.json").write_text(json.dumps({**described, "targets": ["c1"]}))
        image = synthetic_ct(folder / "ct.nii.gz", size[::-1], spacing)
        print(f"{args.classes} classes, {args.size} at {args.spacing} mm, network at "
              f"{args.network_spacing:g} mm, at most {args.limit_gib:g} GiB\n")  # fmt: skip
        print("| way | seconds | peak GiB | target voxels |")
        print("|---" * 4 + "|", flush=True)
        for way in args.ways:
            out = folder / way
            out.mkdir()
            command = [sys.executable, __file__, "--limit-gib", str(args.limit_gib), "--child"]
            command += [way, str(model), str(image), str(out)]
            done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
            assert done.returncode in (0, OUT_OF_MEMORY), done
            said = json.loads((out / MEASURED).read_text())
            if done.returncode == OUT_OF_MEMORY:
                print(f"| {way} | | more than {args.limit_gib:g} ({said}) | |", flush=True)
                continue
            labels = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "ct.nii.gz")))
            print(f"| {way} | {said[0]:.0f} | {said[1]:.2f} | {(labels == 1).sum()} |", flush=True)


if __name__ == "__main__":
    main()

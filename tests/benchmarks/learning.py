"""Whether each architecture learns the lesions of the demo's phantoms with its default schedule.

    make demo && python tests/benchmarks/learning.py [--epochs 10] [--iterations 150] [--width 0.25]
    python tests/benchmarks/learning.py --phantoms 25

Plans and preprocesses a data set as a user would, then trains a plain U-Net, a residual one and
SegResNet by `nnUNetv2_train` with the trainers' own learning rates and schedules. The data set is
the demo's (one phantom of six held out) or, with `--phantoms`, of more phantoms of the same kind
with their true anatomy (a fifth held out). For the CPU, patches are smaller than planned and
all centred on lesions, and networks are narrower (`--width 1 --settings '{}'` leaves both as they
are; with patches as usual the narrow U-Net finds no lesion in 1,000 steps, and with
`--phantoms 30` none in 2,250). SegResNet's learning rate is for wide networks and long trainings:
    --only SegResNet --epochs 30 --settings '{"forced": 1, "targets": 1, "target_dice": 0.5,
        "learning_rate": 0.001}'
Prints the loss of each epoch and, from the validation of whole held-out cases, the mean Dice of
each lesion beside that of calling every voxel a lesion, over the cases that have it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import yaml

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
OURS = "nnUNetTrainerBackSplit"
WAYS = {
    "U-Net": ("ExperimentPlanner", "nnUNetPlans", OURS),
    "residual U-Net": ("nnUNetPlannerResEncM", "nnUNetResEncUNetMPlans", OURS),
    "SegResNet": ("ExperimentPlanner", "nnUNetPlans", f"{OURS}SegResNet"),
}
FOLD = 1
"""The demo's: its one held-out phantom has a lesion of each kind."""
KINDS = (("kidney", "liver"), ("liver",), ("kidney", "liver_border"), ("kidney_border",), ())
"""Lesions of the phantoms, in turn."""
FIRST_SEED = 6000
"""Of the phantoms; the demo's and its network's are others."""


def call(*command: object, cwd: Path | None = None) -> None:
    """Run a command; its output only where it fails."""
    done = subprocess.run(
        [str(BIN / str(command[0])), *map(str, command[1:])], cwd=cwd,
        check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if done.returncode:
        sys.exit(done.stdout[-3000:])


def make_more(folder: Path, count: int) -> Path:
    """Make phantoms like the demo's with their true anatomy, and a data set of them."""
    from totalsegmentator.registry import get_task_classes

    from backsplit.demo.phantoms import make_phantom
    from backsplit.volume import save_nifti

    rows = ["case\timage_ct\tlesion"]
    for number in range(count):
        phantom = make_phantom(FIRST_SEED + number, KINDS[number % len(KINDS)])
        paths = [f"{kind}/p{number:03d}.nii.gz" for kind in ("ct", "lesion", "anatomy")]
        arrays = (phantom.image, phantom.lesion, phantom.anatomy)
        for path, array in zip(paths, arrays, strict=True):
            (folder / path).parent.mkdir(exist_ok=True)
            save_nifti(folder / path, array, phantom.grid)
        rows.append("\t".join([f"p{number:03d}", *paths[:2]]))
    (folder / "cases.tsv").write_text("\n".join(rows) + "\n")
    config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    config["dataset"]["cases"] = str(folder / "cases.tsv")
    labels = {name: value for value, name in get_task_classes("total").items()}
    config["segmenters"]["organs"] = {
        "kind": "files", "path": str(folder / "anatomy/{case}.nii.gz"), "labels": labels,
    }  # fmt: skip
    config["run"] |= {"results": str(folder / "results"), "pictures": False, "pages": "none"}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    call("snakemake", "-s", ROOT / "Snakefile", "--configfile", path, "--cores", 2, cwd=folder)
    return path


def chance(labels: Path, value: int) -> float:
    """Dice of a prediction that is this lesion everywhere."""
    share = float(np.mean(sitk.GetArrayFromImage(sitk.ReadImage(str(labels))) == value))
    return 2 * share / (1 + share)


def main() -> None:
    """Plan, train, and read what nnU-Net's validation says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--config", type=Path, default="config/config.yaml")
    parser.add_argument("--raw", type=Path, default="results/datasets/nnunet")
    parser.add_argument("--phantoms", type=int, help="in place of the demo's data set")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--iterations", type=int, default=150)
    parser.add_argument("--patch", type=int, default=32)
    parser.add_argument("--settings", type=json.loads, default={"forced": 1, "targets": 1})
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--only", choices=list(WAYS), nargs="+", default=list(WAYS))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="backsplit-learning-") as name:
        folder = Path(name)
        fold = 0 if args.phantoms else FOLD
        if args.phantoms:
            args.config = make_more(folder, args.phantoms)
            args.raw = folder / "results" / "datasets" / "nnunet"
        (raw,) = args.raw.glob("Dataset*")
        described = json.loads((raw / "dataset.json").read_text())
        held_out = json.loads((raw / "splits_final.json").read_text())[fold]["val"]
        targets = {name: described["labels"][name] for name in described["targets"]}
        os.environ.update(
            nnUNet_raw=str(args.raw.resolve()), nnUNet_preprocessed=str(folder / "preprocessed"),
            nnUNet_results=str(folder / "trained"), nnUNet_compile="false",
        )  # fmt: skip
        trainers = subprocess.check_output([BIN / "backsplit", "train", "trainers"], text=True)
        os.environ.update(nnUNet_extTrainer=trainers.strip())
        asked = {"epochs": args.epochs, "iterations": args.iterations, "validation_iterations": 5}
        os.environ["BACKSPLIT_TRAIN"] = json.dumps(asked | args.settings)
        for way in args.only:
            planner, plans, trainer = WAYS[way]
            written = folder / "preprocessed" / raw.name / f"{plans}.json"
            if not written.exists():
                os.environ.pop("nnUNet_n_proc_DA", None)  # nnU-Net cannot plan with none
                call("backsplit", "train", "plan", "--config", args.config, "--planner", planner)
            content = json.loads(written.read_text())
            planned = content["configurations"]["3d_fullres"]
            planned["patch_size"] = [args.patch] * 3
            kwargs = planned["architecture"]["arch_kwargs"]
            if "full_width" not in content:
                content["full_width"] = kwargs["features_per_stage"]
            kwargs["features_per_stage"] = [round(n * args.width) for n in content["full_width"]]
            written.write_text(json.dumps(content))
            os.environ.update(nnUNet_n_proc_DA="0")
            begun = time.perf_counter()
            number = raw.name.removeprefix("Dataset").split("_")[0]
            call("nnUNetv2_train", number, "3d_fullres", fold, "-tr", trainer, "-p", plans,
                 "-device", "cpu")  # fmt: skip
            trained = folder / "trained" / raw.name / f"{trainer}__{plans}__3d_fullres"
            log = sorted((trained / f"fold_{fold}").glob("training_log*.txt"))[-1].read_text()
            losses = [line.split()[-1] for line in log.splitlines() if "train_loss" in line]
            summary = json.loads(
                (trained / f"fold_{fold}" / "validation" / "summary.json").read_text()
            )
            print(f"{way}: {args.epochs} epochs of {args.iterations} steps, "
                  f"{time.perf_counter() - begun:.0f} s; loss {' '.join(losses)}")  # fmt: skip
            for target, value in targets.items():
                chances = {
                    case: chance(raw / "labelsTr" / f"{case}.nii.gz", value) for case in held_out
                }
                dice = [
                    metrics["metrics"][str(value)]["Dice"]
                    for metrics in summary["metric_per_case"]
                    if chances[Path(metrics["prediction_file"]).name.removesuffix(".nii.gz")]
                ]
                by_chance = np.mean([share for share in chances.values() if share])
                each = " ".join(f"{value:.2f}" for value in dice)
                print(f"  {target}: mean Dice {np.mean(dice):.3f} of {each} "
                      f"(chance {by_chance:.4f})", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()

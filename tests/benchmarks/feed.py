"""How long a network waits for what comes before and after it, without a GPU.

    python tests/benchmarks/feed.py [--kind total|nnunet] [--size 512x512x400]
                                    [--spacing 0.8x0.8x1.5] [--seconds 2 5 10 20] [--cases 6]

A synthetic CT of real size goes through the engine again and again. The networks are replaced by
ones that sleep for S seconds a case and then give ready logits, as large as the real ones. Two
parts:

- one case alone, one step after the other: CPU seconds (user and system) of each step, and the
  peak of memory. `argmax` is from logits to labels, which on a GPU happens there.
- `--cases` cases with all steps overlapping, for each S: seconds a case, CPU seconds a case, and
  the share of the time, from the first start of the network to its last end, in which it waits.

`--kind total`: the five networks of TotalSegmentator's `total` at 1.5 mm. `--kind nnunet`: an
nnU-Net of 8 classes at `--network-spacing`. `--real` runs the networks themselves (small random
ones, or those of `--weights` or `--model`), on CUDA where torch sees it, and prints the same.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from memory import synthetic_ct
from totalsegmentator.map_tasks_config import TASK_CONFIGS

from backsplit.cases.table import Case
from backsplit.config.model import Run
from backsplit.config.segmenters import NnUNet, TotalSegmentator
from backsplit.config.slices import Labelling, Placing
from backsplit.segment.network import Network
from backsplit.segment.nnunet import NnUNetSegmenter
from backsplit.segment.timing import Timings
from backsplit.segment.totalseg import engine as total_engine
from backsplit.segment.totalseg.tasks import _part_maps
from backsplit.segment.totalsegmentator import TotalSegmentatorSegmenter
from backsplit.segment.weights import accept, files_of
from backsplit.volume import read_grid, write_labels
from support.networks import random_network

CLASSES = 8
NNUNET_TASK = 300


@dataclass
class Watch:
    """What the replaced functions take note of."""

    seconds: float = 0.0
    sleeps: bool = True
    busy: list[tuple[float, float]] = field(default_factory=list)
    cpu: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    logits: Any = None

    def ready(self, heads: int, shape: tuple[int, ...]) -> Any:
        """Logits of boxes, one a class, in a background that wins elsewhere."""
        if self.logits is None or self.logits.shape[1:] != shape or len(self.logits) < heads:
            self.logits = torch.full((heads, *shape), -6.0, dtype=torch.half)
            self.logits[0] = 1.0
            generator = torch.Generator().manual_seed(0)
            for channel in range(1, heads):
                part = tuple(
                    slice(start := int(torch.randint(0, 3 * n // 4, (1,), generator=generator)),
                          start + n // 4)
                    for n in shape
                )  # fmt: skip
                self.logits[(channel, *part)] = 4.0
        return self.logits[:heads]


WATCH = Watch()


def replace_networks(parts: int) -> None:
    """Let `Network.run` sleep its share of a case, and note when it was busy."""
    real = Network.run

    def run(self: Network, prepared: Any, limit_s: float | None = None) -> Any:
        if not WATCH.sleeps:
            begun = time.perf_counter()
            logits = real(self, prepared, limit_s)
        else:
            heads = self._predictor.label_manager.num_segmentation_heads
            logits = WATCH.ready(heads, tuple(prepared.data.shape[1:]))
            begun = time.perf_counter()
            time.sleep(WATCH.seconds / parts)
        WATCH.busy.append((begun, time.perf_counter()))
        return logits

    Network.run = run  # type: ignore[method-assign]


def count_cpu() -> None:
    """Let phases note the CPU seconds of the whole process; nothing else may run meanwhile."""
    labels = Network.labels

    @contextmanager
    def phase(_: Timings, name: str) -> Iterator[None]:
        begun = time.process_time()
        yield
        WATCH.cpu[name] += time.process_time() - begun

    def timed(self: Network, *args: Any) -> Any:
        begun = time.process_time()
        result = labels(self, *args)
        taken = time.process_time() - begun
        WATCH.cpu["argmax"] += taken
        WATCH.cpu["labels"] -= taken
        return result

    Timings.phase = phase  # type: ignore[method-assign]
    Network.labels = timed  # type: ignore[method-assign]


class Inline:
    """An executor that does what it is given at once."""

    def __init__(self, _: int) -> None:
        pass

    def submit(self, work: Any, *args: Any) -> Future[Any]:
        """Do it."""
        done: Future[Any] = Future()
        done.set_result(work(*args))
        return done


def segmenter(args: argparse.Namespace, folder: Path) -> tuple[Any, int]:
    """Who labels, and how many networks it has."""
    inputs, run = Labelling(("ct",), Placing("ct")), Run(device="auto")
    if args.kind == "total":
        ids = TASK_CONFIGS["total"]["sub_modes"]["default"]["task_id"]
        weights = args.weights or folder / "weights"
        if args.weights is None:
            for task_id, part in _part_maps("total", ids).items():
                random_network(weights, task_id, len(part), 1.5, "nnUNetTrainerNoMirroring", 64)
        for found in weights.glob("Dataset*"):
            accept(files_of(found))
        section = TotalSegmentator(kind="totalsegmentator", task="total", weights=str(weights))
        return TotalSegmentatorSegmenter(section, inputs, run), len(ids)
    model = args.model
    if model is None:
        random_network(folder, NNUNET_TASK, CLASSES, 1.0, "nnUNetTrainer", 64)
        (model,) = folder.glob("Dataset*/nnUNet*")
        plans = json.loads((model / "plans.json").read_text())
        spacing = [float(s) for s in args.network_spacing.split("x")][::-1]
        plans["configurations"]["3d_fullres"]["spacing"] = spacing
        (model / "plans.json").write_text(json.dumps(plans))
    accept(files_of(model))
    return NnUNetSegmenter(NnUNet(kind="nnunet", model=model), inputs, run), 1


def work(who: Any, image: Path, count: int, folder: Path) -> tuple[float, float]:
    """Label an image so often, and write each map: wall and CPU seconds."""
    cases = [Case(f"c{i}", i + 2, {"ct": image}, {}, {}, image.parent) for i in range(count)]
    grid = read_grid(image)
    begun, cpu = time.perf_counter(), time.process_time()
    for case, result in who.label(cases):
        if isinstance(result, Exception):
            sys.exit(f"{case.id}: {result}")
        with who.timings.phase("write"):
            write_labels(folder / f"{case.id}.nii.gz", result.array, grid, image)
        del result
    return time.perf_counter() - begun, time.process_time() - cpu


def peak_gib() -> float:
    """Most memory that this process has had, one set of ready logits included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def one_alone(who: Any, image: Path, folder: Path, parts: int) -> None:
    """First part: CPU seconds by step."""
    count_cpu()
    total_engine.ThreadPoolExecutor = Inline  # type: ignore[misc,assignment]
    replace_networks(parts)
    work(who, image, 1, folder)  # compiles the loops, fills the cache of files
    WATCH.cpu.clear()
    work(who, image, 1, folder)
    steps = {name: WATCH.cpu[name] for name in ("read", "prepare", "argmax", "labels", "write")}
    total = sum(steps.values())
    print("| read | prepare | argmax | labels | write | all | without argmax | peak GiB |")
    print("|---" * 8 + "|")
    cells = [*(f"{seconds:.2f}" for seconds in steps.values()), f"{total:.2f}",
             f"{total - steps['argmax']:.2f}", f"{peak_gib():.1f}"]  # fmt: skip
    print(f"| {' | '.join(cells)} |", flush=True)


def all_overlapping(who: Any, image: Path, folder: Path, parts: int, args: Any) -> None:
    """Second part: how long the network waits."""
    replace_networks(parts)
    work(who, image, 1, folder)
    print("| S | s a case | CPU s a case | the network waits | peak GiB |")
    print("|---" * 5 + "|")
    for seconds in args.seconds if not args.real else [0.0]:
        WATCH.seconds = seconds
        WATCH.busy.clear()
        _, cpu = work(who, image, args.cases, folder)
        start, end = WATCH.busy[0][0], WATCH.busy[-1][1]
        busy = sum(stop - begun for begun, stop in WATCH.busy)
        print(
            f"| {f'{seconds:g}' if not args.real else f'{busy / args.cases:.1f} (real)'} "
            f"| {(end - start) / args.cases:.2f} | {cpu / args.cases:.2f} "
            f"| {1 - busy / (end - start):.1%} | {peak_gib():.1f} |",
            flush=True,
        )


def main() -> None:
    """Measure both parts, each in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kind", choices=["total", "nnunet"], default="total")
    parser.add_argument("--size", default="512x512x400", help="voxels, x y z")
    parser.add_argument("--spacing", default="0.8x0.8x1.5", help="mm, x y z")
    parser.add_argument("--network-spacing", default="1.2x1.2x2.0", help="of nnunet, mm, x y z")
    parser.add_argument("--seconds", type=float, nargs="+", default=[2, 5, 10, 20])
    parser.add_argument("--cases", type=int, default=6)
    parser.add_argument("--real", action="store_true", help="run the networks themselves")
    parser.add_argument("--weights", type=Path, help="folder of TotalSegmentator's, with --real")
    parser.add_argument("--model", type=Path, help="nnU-Net's trained-model folder, with --real")
    parser.add_argument("--part", choices=["alone", "overlapping"], help="one of both")
    args = parser.parse_args()
    WATCH.sleeps = not args.real
    size = tuple(int(n) for n in args.size.split("x"))
    spacing = tuple(float(s) for s in args.spacing.split("x"))
    print(f"{args.kind}, {args.size} at {args.spacing} mm; load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="backsplit-feed-") as name:
        folder = Path(name)
        os.environ["BACKSPLIT_WEIGHTS"] = str(folder / "ledger")
        image = synthetic_ct(folder / "ct.nii.gz", size[::-1], spacing)
        for part in ("alone", "overlapping"):
            if args.part not in (None, part) or os.fork():
                if args.part in (None, part):
                    os.wait()
                continue
            who, parts = segmenter(args, folder / part)
            if part == "alone":
                one_alone(who, image, folder, parts)
            else:
                all_overlapping(who, image, folder, parts, args)
            sys.stdout.flush()
            os._exit(0)


if __name__ == "__main__":
    main()

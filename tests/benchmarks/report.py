"""The report of many cases: how long it takes to write, how large it is, how it opens and scrolls.

    python tests/benchmarks/report.py [--cases 1000] [--structures 117] [--keep FOLDER]

The tables are made up (117 structures a case, three lesions, one case in ten to review); the
pictures are real montages of twelve phantoms, each used for many cases. Where Debian's Chromium and
playwright are there, the page is opened from the disk in it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from backsplit.config.model import Config
from backsplit.demo.phantoms import make_phantom
from backsplit.report.dataset_page import write_report
from backsplit.report.pictures.montage import draw_montage
from backsplit.report.read import MEASURES
from backsplit.scheme.scheme import Scheme

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.sidecars import composed, segmented, write

PICTURES = 12
PAINTED = """async () => {
  const last = [...document.querySelectorAll(".case")].at(-1);
  last.scrollIntoView({ behavior: "instant" });
  const frame = () => new Promise(requestAnimationFrame);
  await frame();
  await last.querySelector("img").decode();
  await frame();
  await frame();
  const box = last.getBoundingClientRect();
  return box.top < innerHeight && box.bottom > 0;
}"""
"""Scroll to the last case; resolves when its picture has been decoded and painted."""


def make(folder: Path, cases: int, structures: int) -> tuple[Config, Scheme]:
    """Write a results folder of made-up tables."""
    names = [f"structure_{i:03d}" for i in range(1, structures + 1)]
    values = {name: value for value, name in enumerate(names, start=1)}
    config = Config.model_validate(
        {
            "dataset": {"name": "Many", "id": 9, "cases": str(folder / "cases.tsv")},
            "targets": {"tumor": 1},
            "segmenters": {"organs": {"kind": "files", "path": "{lesion}", "labels": values}},
            "structures": {name: f"organs/{name}" for name in names},
            "run": {"results": str(folder / "results")},
        }
    )
    own = {name: name for name in names}
    scheme = Scheme({"tumor": (1,)}, ("background", "tumor", *names), {"organs": own})
    rng = np.random.default_rng(0)
    ids = [f"case_{i:05d}" for i in range(cases)]
    results = config.run.results
    _tables(results, ids, ["tumor", *names], rng)
    _sidecars(results, ids, names, rng)
    _pictures(results / "qc" / "cases", ids)
    return config, scheme


def _tables(results: Path, ids: list[str], names: list[str], rng: np.random.Generator) -> None:
    for folder in ("qc/cases", "report/cases", "labels", "segment/organs"):
        (results / folder).mkdir(parents=True)
    frame = pd.DataFrame({"case": ids, "status": "ok", "code": "", "message": ""})
    frame.assign(image_ct="images/ct.nii.gz", lesion="lesions/l.nii.gz").to_csv(
        results / "cases.tsv", sep="\t", index=False
    )
    flagged = ids[::10]
    verdicts = np.where(np.isin(ids, flagged), "review", "accept")
    frame = pd.DataFrame({"case": ids, "verdict": verdicts, "rules": "", "by": "rules", "note": ""})
    frame.to_csv(results / "qc" / "verdicts.tsv", sep="\t", index=False)
    rows = [
        [case, name, "cohort_volume", "review", "5 ml", "about 9 ml", f"{name}: 5 ml; about 9 ml"]
        for case in flagged
        for name in rng.choice(names, 8, replace=False)
    ]
    columns = ["case", "subject", "rule", "severity", "value", "expected", "message"]
    pd.DataFrame(rows, columns=columns).to_csv(results / "qc/flags.tsv", sep="\t", index=False)
    status = pd.DataFrame({"case": flagged, "status": "done", "code": "", "message": ""})
    status.to_csv(results / "report/cases/status.tsv", sep="\t", index=False)
    count = len(ids) * len(names)
    typical = np.exp(rng.normal(4, 2, len(names)))
    volume = np.tile(typical, len(ids)) * np.exp(rng.normal(0, 0.2, count))
    level = np.tile(rng.normal(80, 60, len(names)), len(ids)) + rng.normal(0, 8, count)
    measures = pd.DataFrame(
        {
            "case": np.repeat(ids, len(names)),
            "source": "labels",
            "structure": names * len(ids),
            "voxels": (volume * 500).astype(int),
            "volume_ml": volume,
            **dict.fromkeys(("mean", "p50"), level),
            "sd": 20.0,
            "components_large": 1.0,
            "largest_fraction": 1.0,
            "holes_ml": 0.0,
            "touches_border": False,
        }
    )
    measures[list(MEASURES)].to_parquet(results / "qc" / "measures.parquet", index=False)
    lesions = pd.DataFrame({"case": np.repeat(ids, 3), "instance": [1, 2, 3] * len(ids)})
    sizes = rng.exponential(20, len(lesions))
    centroid = dict.fromkeys(("centroid_x", "centroid_y", "centroid_z"), 0.0)
    lesions = lesions.assign(
        target="tumor", volume_ml=sizes, max_diameter_mm=2 * sizes**0.5, host=names[1],
        inside_fraction=0.9, contrast=-20.0, touches_border=False, **centroid,
    )  # fmt: skip
    lesions.to_parquet(results / "qc" / "lesions.parquet", index=False)
    compared = [[case, name, "organs", "other"] for case in ids for name in names[1:20]]
    agreement = pd.DataFrame(compared, columns=["case", "structure", "first", "second"])
    agreement["dice"] = rng.beta(20, 2, len(agreement))
    agreement[["surface_mm", "hausdorff95_mm"]] = 1.0
    agreement.to_parquet(results / "qc" / "agreement.parquet", index=False)


def _sidecars(results: Path, ids: list[str], names: list[str], rng: np.random.Generator) -> None:
    keys = ("loser_layer", "loser", "winner_layer", "winner", "voxels", "volume_ml", "why")
    layers = [
        {"layer": "organs", "claimed": 9, "kept": 5, "agreed": 0, "overruled": 4, "set_aside": 0}
    ]
    made_from = {"versions": {"TotalSegmentator": "2.18"}, "weights": {"net.pth": "ab" * 32}}
    for case in ids:
        pairs = rng.choice(names, (60, 2))
        overruled = [
            dict(
                zip(
                    keys,
                    ("organs", a, "organs", b, int(rng.integers(1, 999)), 1.0, ""),
                    strict=True,
                )
            )
            for a, b in pairs
        ]
        found = composed(case, voxel_ml=0.002, overruled=overruled, layers=layers)
        write(results / "labels", found)
        write(results / "segment" / "organs", segmented(case, made_from=made_from))


def _pictures(folder: Path, ids: list[str]) -> None:
    originals = []
    for seed in range(PICTURES):
        phantom = make_phantom(seed, ("kidney",))
        anatomy = np.where(phantom.anatomy > 0, phantom.anatomy + 1, 0)
        labels = np.where(phantom.lesion > 0, 1, anatomy).astype(np.uint8)
        names = ["background", "tumor", *(f"structure_{i:03d}" for i in range(1, 118))]
        path = folder.parent / f"picture_{seed}.png"
        draw_montage(phantom.image, labels, phantom.grid, path, names=names, target_count=1)
        originals.append(path)
    for number, case in enumerate(ids):
        os.link(originals[number % PICTURES], folder / f"{case}.png")


def browse(page: Path) -> None:
    """Open the page from the disk and scroll to its last case."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        print("not opened: there is no Chromium, or no playwright")
        return
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1400, "height": 900})
        counters = tab.context.new_cdp_session(tab)
        counters.send("Performance.enable", {"timeDomain": "threadTicks"})
        started = time.perf_counter()
        tab.goto(page.as_uri())
        opened = time.perf_counter()
        measured = counters.send("Performance.getMetrics")["metrics"]
        cpu = next(one["value"] for one in measured if one["name"] == "TaskDuration")
        assert tab.evaluate(PAINTED), "the last case is not in view"
        scrolled = time.perf_counter()
        print(
            f"opened in {opened - started:.2f} s ({cpu:.2f} s of the page's thread), "
            f"at the last case {scrolled - opened:.2f} s later"
        )
        browser.close()


def main() -> None:
    """Make the tables, write the report, open it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--structures", type=int, default=117)
    parser.add_argument("--keep", type=Path, help="Folder to leave the report in.")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="backsplit-report-") as name:
        folder = args.keep or Path(name)
        config, scheme = make(folder, args.cases, args.structures)
        output = config.results.report
        wall, cpu = time.perf_counter(), time.process_time()
        write_report(config, scheme)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        size = output.stat().st_size / 1e6
        print(f"{args.cases} cases: written in {wall:.1f} s ({cpu:.1f} s of a core), {size:.1f} MB")
        browse(output)


if __name__ == "__main__":
    main()

"""The page of one large case: how long it takes to write, how large it and its memory are.

    python tests/benchmarks/case_page.py [--shape 400 512 512] [--keep FOLDER]

117 organs, two segmenters, 20 lesions, twelve flagged structures.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from compose import ORGANS, volumes
from scipy import ndimage

from backsplit.cases.table import Case
from backsplit.config.model import Config
from backsplit.report.case_facts import PageFacts
from backsplit.report.case_page import render
from backsplit.report.facts import Flag, LesionFacts
from backsplit.report.pictures.case import CaseArtist
from backsplit.scheme.scheme import Scheme
from backsplit.volume import Grid, save_nifti
from support.sidecars import composed, lesion, segmented, write

TISSUE = {"body": 1, "inner": 2}


def make(folder: Path, shape: tuple[int, int, int]) -> tuple[CaseArtist, Case, PageFacts]:
    """Write image, label map and segmenters' maps of a case, and what its page says."""
    arrays = volumes(shape)
    grid = Grid(shape[::-1], (0.8, 0.8, 1.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    rng = np.random.default_rng(1)
    image = np.where(arrays["tissue"] > 0, 40, -1000).astype(np.int16)
    for z in range(shape[0]):
        image[z] += rng.normal(0, 12, shape[1:]).astype(np.int16)
    labels = np.where(arrays["organs"] > 0, arrays["organs"] + 1, 0).astype(np.uint8)
    labels[arrays["lesion"] > 0] = 1
    names = [f"organ_{i}" for i in range(1, ORGANS + 1)]
    results = folder / "results"
    maps = {
        "labels": labels,
        "segment/organs": arrays["organs"],
        "segment/tissue": arrays["tissue"],
    }
    for where, array in maps.items():
        (results / where).mkdir(parents=True)
        save_nifti(results / where / "case.nii.gz", array, grid)
    save_nifti(folder / "ct.nii.gz", image, grid)
    organs = {"kind": "files", "path": "{lesion}"}
    classes = {name: i for i, name in enumerate(names, start=1)}
    config = Config.model_validate(
        {
            "dataset": {"name": "Large", "id": 9, "cases": str(folder / "cases.tsv")},
            "targets": {"tumor": 1},
            "segmenters": {
                "organs": {**organs, "labels": classes},
                "tissue": {**organs, "labels": TISSUE},
            },
            "structures": {name: f"organs/{name}" for name in names} | {"body": "tissue/body"},
            "run": {"results": str(results)},
        }
    )
    sources = {"organs": {name: name for name in names}, "tissue": {"body": "body"}}
    scheme = Scheme({"tumor": (1,)}, ("background", "tumor", *names, "body"), sources)
    case = Case("case", 2, {"ct": folder / "ct.nii.gz"}, {}, {}, folder)
    middles = ndimage.center_of_mass(*[ndimage.label(arrays["lesion"] > 0)[0]] * 2, range(1, 21))
    known = {
        i: tuple(map(float, grid.to_mm(np.array(middle))))
        for i, middle in enumerate(middles, start=1)
        if not np.isnan(middle[0])
    }
    lesions = tuple(
        LesionFacts("case", i, "tumor", mm, 1.0, 20.0, "", 0.0, 0.0, False)
        for i, mm in known.items()
    )
    sizes = np.bincount(labels.ravel(), minlength=len(names) + 2)
    voxels = dict(zip(["background", "tumor", *names], map(int, sizes), strict=False))
    noted = [lesion(instance=i, centroid_mm=mm) for i, mm in known.items()]
    write(results / "labels", composed("case", voxels=voxels, lesions=noted))
    for name, held in (("organs", classes), ("tissue", TISSUE)):
        by_value = {value: name for name, value in held.items()}
        write(results / "segment" / name, segmented("case", name, classes=by_value))
    flags = [Flag("case", name, "volume", "review", "", "", f"{name}: large") for name in names[:9]]
    flags += [
        Flag("case", f"organs/{name}", "volume", "review", "", "", "large") for name in names[9:12]
    ]
    facts = PageFacts(
        "Large", 9, "case", "review", False, "", tuple(flags), (), {}, lesions, (), ()
    )  # fmt: skip
    artist = CaseArtist(config, scheme, {"organs": classes, "tissue": TISSUE})
    return artist, case, facts


def main() -> None:
    """Draw the page once."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shape", nargs=3, type=int, default=[400, 512, 512], help="z y x")
    parser.add_argument("--keep", type=Path, help="File to leave the page in.")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="backsplit-page-") as name:
        with ProcessPoolExecutor(1) as apart:  # its memory is not the page's
            artist, case, facts = apart.submit(make, Path(name), tuple(args.shape)).result()
        wall, cpu = time.perf_counter(), time.process_time()
        text = render(facts, artist.draw(case, facts.lesions))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        page = Path(name) / "page.html"
        page.write_text(text, "utf-8")
        print(
            f"{wall:.1f} s ({cpu:.1f} s of a core), peak {peak:.0f} MiB, {len(text) / 1e6:.2f} MB"
        )
        if args.keep:
            shutil.copy(page, args.keep)


if __name__ == "__main__":
    main()

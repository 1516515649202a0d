"""A results folder with everything that a report can say, hostile text among it."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from backsplit.config.model import Config
from backsplit.scheme.scheme import Scheme
from support.sidecars import composed, segmented, write

EVIL = '<img src="https://evil.example/x.png" onerror="alert(1)">'


class Page(HTMLParser):
    """Collects what a browser would fetch or run, and the text that a reader sees."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.text += " " if tag in {"td", "th", "br", "p", "dd"} else ""

    def handle_data(self, data):
        self.text += data

    def attributes(self, *names):
        return [value for _, attrs in self.tags for n, value in attrs.items() if n in names]


def make_config(tmp_path: Path) -> Config:
    return Config.model_validate(
        {
            "dataset": {"name": "Kidney", "id": 7, "cases": str(tmp_path / "cases.tsv")},
            "targets": {"tumor": 2, "cyst": 3},
            "segmenters": {
                "organs": {"kind": "totalsegmentator"},
                "given": {"kind": "files", "path": "{lesion}", "labels": {"kidney": 1}},
            },
            "structures": {"kidney": ["given/kidney"], "liver": "organs/liver"},
            "run": {"results": str(tmp_path / "results")},
        }
    )


def make_scheme() -> Scheme:
    return Scheme(
        {"tumor": (2,), "cyst": (3,)},
        ("background", "tumor", "cyst", "kidney", "liver"),
        {"given": {"kidney": "kidney"}, "organs": {"liver": "liver"}},
    )


def write_table(path: Path, columns: list[str], rows: list[list[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows, columns=columns).to_csv(path, sep="\t", index=False)


def write_text(path: Path, data: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), "utf-8")


FLAGS = ["case", "subject", "rule", "severity", "value", "expected", "message"]
LESIONS = [
    "case", "instance", "target", "volume_ml", "max_diameter_mm", "host", "inside_fraction",
    "contrast", "touches_border",
]  # fmt: skip
MEASURES = ["case", "source", "structure", "voxels", "volume_ml", "mean", "sd"]
AGREEMENT = ["case", "structure", "first", "second", "dice", "surface_mm"]


def make_results(results: Path) -> None:
    """Write a results folder: a small lesion, a large one, one that failed, three refused."""
    rows = [
        ["small", "ok", "", "", "a.nii.gz", "note"],
        ["large", "ok", "", "", "b.nii.gz", EVIL],
        ["broken", "ok", "", "", "c.nii.gz", ""],
        ["worry", "ok", "", "", "d.nii.gz", ""],
        ["</script><script>alert(2)</script>", "refused", "CASE_ID_INVALID", EVIL, EVIL, EVIL],
        ["../../secret", "refused", "CASE_ID_INVALID", "is not a valid case id", "e.nii.gz", ""],
        ["small", "refused", "CASE_ID_DUPLICATE", "stands twice", "e.nii.gz", ""],
    ]
    columns = ["case", "status", "code", "message", "image_ct", "note"]
    write_table(results / "cases.tsv", columns, rows)
    flags = [
        ["broken", "compose", "GRID_MISMATCH", "reject", "failed", "done", f"wrong grid {EVIL}"],
        ["worry", "segment organs", "OUT_OF_MEMORY", "review", "failed", "done", "too large"],
        ["worry", "kidney", "volume", "review", "100 ml", "> 120 ml", f"kidney: 100 ml {EVIL}"],
        ["large", "given/kidney", "holes", "warn", "9 %", "at most 5 %", "kidney has holes"],
        ["small", "kidney", "absent", "info", "0 voxels", "> 0 voxels", "kidney has no voxel"],
        ["", "liver", "absent", "review", "0 voxels", "> 0 voxels", "liver has no voxel in any"],
    ]
    write_table(results / "qc" / "flags.tsv", FLAGS, flags)
    verdicts = [
        ["small", "accept", ""],
        ["large", "accept", ""],
        ["broken", "reject", "GRID_MISMATCH"],
        ["worry", "review", "OUT_OF_MEMORY"],
    ]
    write_table(results / "qc" / "verdicts.tsv", ["case", "verdict", "rules"], verdicts)
    measures = [
        ["small", "labels", "tumor", 10, 1.5, 30.0, 5.0],
        ["small", "labels", "kidney", 0, 0.0, np.nan, np.nan],
        ["large", "labels", "tumor", 1000, 150.0, 40.0, 6.0],
        ["large", "labels", "kidney", 2000, 300.5, 35.0, 7.0],
        ["worry", "labels", "tumor", 0, 0.0, np.nan, np.nan],
        ["worry", "labels", "kidney", 1000, 100.5, 45.0, 9.0],
    ]
    table = pd.DataFrame(measures, columns=MEASURES)
    table = table.assign(
        p50=table["mean"], components_large=1.0, largest_fraction=1.0, holes_ml=0.0,
        touches_border=False,
    )  # fmt: skip
    table.to_parquet(results / "qc" / "measures.parquet")
    agreement = [
        ["large", "kidney", "given", "organs", 0.9, 1.5],
        ["worry", "kidney", "given", "organs", 0.4, 9.5],
        ["small", "kidney", "given", "organs", np.nan, np.nan],
    ]
    table = pd.DataFrame(agreement, columns=AGREEMENT)
    table.to_parquet(results / "qc" / "agreement.parquet")
    lesions = [
        ["large", 1, "tumor", 150.0, 81.5, "kidney", 0.75, -12.0, False],
        ["small", 1, "tumor", 1.5, 9.5, None, 0.0, np.nan, True],
        ["gone", 1, "tumor", 9.0, 9.0, None, 0.0, np.nan, False],
    ]
    places = dict.fromkeys(("centroid_x", "centroid_y", "centroid_z"), 0.0)
    table = pd.DataFrame(lesions, columns=LESIONS).assign(**places)
    table.to_parquet(results / "qc" / "lesions.parquet")
    pages = [["worry", "done", "", ""], ["broken", "failed", "FILE_MISSING", f"gone {EVIL}"]]
    write_table(results / "report/cases/status.tsv", ["case", "status", "code", "message"], pages)
    for case, voxels in {"small": 7, "large": 70}.items():
        entry = {"loser": "liver", "loser_layer": "organs", "winner": "tumor"}
        entry |= {"winner_layer": "targets", "voxels": voxels, "volume_ml": voxels / 2, "why": ""}
        account = {
            "layer": "organs",
            "claimed": 100,
            "kept": 100 - voxels,
            "agreed": 0,
            "set_aside": 0,
        }
        write(
            results / "labels",
            composed(
                case,
                voxel_ml=0.5,
                overruled=[entry],
                layers=[{**account, "overruled": voxels}],
                classes_without_structure={"organs": {"spleen": 12}},
            ),
        )
        made_from = {"versions": {"TotalSegmentator": "9.8.7"}, "weights": {"net.pth": "ab" * 32}}
        write(results / "segment" / "organs", segmented(case, made_from=made_from))
        picture = results / "qc" / "cases" / f"{case}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30, 20), (voxels, 0, 0)).save(picture)

"""A structure that no case has: why is said once, in the flags and at the end of a run."""

from __future__ import annotations

import numpy as np
import pandas as pd

from backsplit.flow.plan import Plan
from backsplit.flow.project import open_project
from backsplit.flow.summary import summary
from backsplit.flow.watch import Watch
from backsplit.record.explain import explain
from support import flow
from support.project import ct_like, save

ORGANS = {
    "organs": {"kind": "files", "path": "{case}.nii.gz", "labels": {"liver": 1, "spleen": 5}},
    "masks": {"kind": "files", "path": "{case}_{name}.nii.gz", "labels": ["heart", "lung"]},
}
STRUCTURES = {
    "liver": "organs/liver",
    "spleen": "organs/spleen",
    "heart": "masks/heart",
    "lung": "masks/lung",
    "fat": "tissue/fat",
}
WHY = {
    "spleen": "the labels of organs contain 2, which `labels` does not list",
    "lung": "it is unknown (a: masks/lung: a_lung.nii.gz does not exist)",
}


def test_why_no_case_has_a_structure_is_told(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    organs = np.zeros(ct_like().shape, np.uint8)
    organs[2:5, 6:9, 6:9], organs[2:5, 6:9, 12:15] = 1, 2
    for case in ("a", "b"):
        project.add(case)
        save(project.folder / f"{case}.nii.gz", organs)
        save(project.folder / f"{case}_heart.nii.gz", (organs == 2).astype(np.uint8))
    segmenters = project.settings["segmenters"] | ORGANS
    config = project.write(segmenters=segmenters, structures=STRUCTURES)
    flow.check(config, None, 1, print)
    opened = open_project(config)
    for name in segmenters:
        flow.segment(opened, name, None, print)
    flow.compose(opened, None, print)
    flow.measure(opened, None, print)
    flow.judge(opened, print)
    flow.export(opened, print)
    flow.report(opened, print)
    flags = pd.read_csv(opened.results.flags, sep="\t", dtype=str, keep_default_na=False)
    absent = flags[(flags["case"] == "") & (flags["rule"] == "absent")]
    told = {name: f"{name} has no voxel in any of 2 cases: {why}" for name, why in WHY.items()}
    assert dict(zip(absent["subject"], absent["message"], strict=True)) == told
    plan = Plan(open_project(config))
    lines = list(summary(plan, Watch(plan, print), whole=True))
    said = [line for line in lines if "in the whole data set" in line]
    assert said == [f"[backsplit]   in the whole data set: {message}" for message in told.values()]
    explained = list(explain(opened.config, "a"))
    for line in (
        "labelled: liver (27 voxels)",
        "values that `labels` does not list: 2 (27 voxels)",
        "labelled: heart (27 voxels)",
        "lung is unknown: a_lung.nii.gz does not exist",
    ):
        assert f"  {line}" in explained

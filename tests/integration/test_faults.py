"""The fault bench: what of injected faults is found, and how often clean cases are flagged."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from backsplit.config.quality import REVIEW
from backsplit.measure.table import measure
from backsplit.volume import Grid
from support.bench import LEFT_RIGHT, openkbp, table, torsos

BENCHES = [
    pytest.param(torsos, id="phantoms"),
    pytest.param(openkbp, id="openkbp", marks=pytest.mark.shared),
]


@pytest.mark.parametrize("bench", BENCHES)
def test_clean_cases_are_not_flagged(bench):
    flagged = bench().verdicts[bench().verdicts != "accept"]
    print(bench().flags[["case", "subject", "rule", "severity", "value"]].to_string())
    assert len(flagged) <= 0.05 * len(bench().verdicts)


@pytest.mark.parametrize("size", [10, 20])
def test_no_more_clean_phantoms_go_to_review_than_the_share(size):
    """Larger cohorts: `tests/benchmarks/faults.py shares`."""
    bench, sent = torsos(), 0
    members = sorted(bench.cases)
    for at in range(0, len(members), size):
        _, verdict = bench.judge_tables([bench.clean[case] for case in members[at : at + size]])
        mine = int((verdict != "accept").sum())
        assert mine <= np.ceil(REVIEW * size)
        sent += mine
    assert sent <= stats.binom.ppf(0.975, len(members), REVIEW)


def test_gross_faults_of_phantoms_are_found():
    found = torsos().rates(per_case=1)
    print(table(found))
    assert found[found["gross"]]["found"].mean() >= 0.95


@pytest.mark.shared
def test_gross_faults_of_real_contours_are_found():
    """Twenty real cases at 4 to 5 mm, drawn by hand; see `gross` for what that is.

    What is missed: a larynx or an oesophagus, whose contours differ threefold between patients in
    volume and in length, that is cut, moved along the neck or grown into what another patient's
    looks like, and half of a brainstem or a spinal cord. Most rank third or fourth of twenty,
    behind two cases whose contours hold the airway; see docs/quality.md.
    """
    found = openkbp().rates(per_case=1)
    print(table(found))
    assert found[found["gross"]]["found"].mean() >= 0.9
    always = ["two ids exchanged", "empty", "hole", *(f"flipped along {axis}" for axis in "xyz")]
    assert found[found["fault"].isin(always)]["found"].all()


@pytest.mark.parametrize("bench", BENCHES)
def test_swapped_sides_are_found_in_a_case_and_in_all(bench):
    cases = bench()
    for case in list(cases.cases)[:5]:
        flags, verdict = cases.judge({case: cases.swapped(case)})
        assert verdict[case] == "review" and "side" in set(flags[flags["case"] == case]["rule"])
    flags, verdict = cases.judge({case: cases.swapped(case) for case in cases.cases})
    faults = flags[flags["rule"] == "systematic_exchanged"]
    lefts = [name for name in LEFT_RIGHT if name in cases.names]
    assert sorted(faults["subject"]) == sorted(lefts)
    assert (faults["case"] == "").all() and "side" not in set(flags["rule"])
    assert (verdict == cases.verdicts).mean() >= 0.95  # the cases are not to blame


def test_a_wrong_mapping_of_a_group_is_one_fault():
    cases = torsos()
    members = list(cases.cases)
    groups = {"site": {"north": members[:12], "south": members[12:]}}
    bad = {}
    for case in groups["site"]["south"]:
        bad[case] = cases.renamed(cases.cases[case][1], {"liver": "spleen", "spleen": "liver"})
    flags, _ = cases.judge(bad, groups)
    systematic = flags[(flags["case"] == "") & (flags["severity"] == "review")]
    (fault,) = systematic.itertuples()
    assert fault.rule == "systematic_exchanged" and fault.value == "8 of 8 cases of site south"
    assert "liver and spleen" in fault.message


def test_a_chain_of_vertebrae_off_by_one_is_found():
    cases = torsos()
    first, last = cases.names.index("vertebrae_T10"), cases.names.index("vertebrae_L5")
    for case in list(cases.cases)[:5]:
        labels = cases.cases[case][1]
        for step in (-1, 1):
            other = {
                cases.names[value]: cases.names[value + step] if first <= value + step <= last
                else "background" for value in range(first, last + 1)
            }  # fmt: skip
            assert cases.found(case, cases.renamed(labels, other)), (case, step)


@pytest.mark.parametrize("bench", BENCHES)
def test_another_patient_s_label_map_is_found(bench):
    cases = bench()
    hits = []
    members = list(cases.cases)
    for case, other in zip(members, members[1:] + members[:1], strict=True):
        own, foreign = cases.cases[case][1], cases.cases[other][1]
        out = np.zeros_like(own)
        box = tuple(slice(0, min(a, b)) for a, b in zip(own.shape, foreign.shape, strict=True))
        out[box] = foreign[box]
        hits.append(cases.found(case, out))
    print(f"another patient's map: {np.mean(hits):.0%}")
    assert np.mean(hits) >= 0.95


@pytest.mark.parametrize("bench", BENCHES)
def test_truncated_structures_blame_no_case(bench):
    """A scan that ends in the middle of the liver is no fault of its label map."""
    cases = bench()
    for case in list(cases.cases)[:5]:
        image, labels = cases.cases[case]
        half = labels.shape[0] // 2
        low = image.grid.to_mm(np.array([[half, 0, 0]]))[0]
        grid = Grid(
            (*image.grid.size[:2], labels.shape[0] - half), image.grid.spacing,
            tuple(low.tolist()), image.grid.direction,
        )  # fmt: skip
        upper = np.ascontiguousarray(labels[half:])
        cut = measure(np.ascontiguousarray(image.array[half:]), upper, cases.names, grid)
        rest = [t for c, t in cases.clean.items() if c != case]
        tables = [*rest, cut.assign(case=case, source="labels")]
        flags, _ = cases.judge_tables(tables)
        mine = flags[flags["case"] == case]
        said = set(mine[mine["rule"].isin(["cohort_truncated", "cohort_absent"])]["subject"])
        inside = {cases.names[v] for v in np.unique(labels[half]).tolist() if v}
        gone = {cases.names[v] for v in np.setdiff1d(labels[:half], upper).tolist() if v}
        usual = {name for name in inside | gone if _usually_whole(cases, name)}
        assert usual <= said, (case, usual - said)
        blamed = mine[(mine["severity"] == "review") & mine["subject"].isin(inside)]
        print(case, blamed[["subject", "rule", "value"]].to_string(header=False, index=False))
        assert not len(blamed)


def _usually_whole(cases, name) -> bool:
    rows = pd.concat(cases.clean.values())
    rows = rows[rows["structure"] == name]
    return bool(((rows["voxels"] > 0) & ~rows["touches_border"]).mean() >= 0.8)

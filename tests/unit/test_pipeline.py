"""Steps that overlap: who runs when, who fails, who may enter."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from backsplit.cases.table import Case
from backsplit.errors import CaseError, Code, RunError
from backsplit.segment import memory
from backsplit.segment.pipeline import Limits, Size, Steps, overlap

AMPLE = Limits(workers=2, bytes=1 << 40)


def cases(names: str) -> list[Case]:
    return [Case(name, row, {}, {}, {}, Path()) for row, name in enumerate(names, start=2)]


class Watch:
    """Steps that take a while and note who runs beside whom."""

    def __init__(self, seconds: float = 0.03) -> None:
        self.seconds = seconds
        self.running: list[str] = []
        self.together: list[frozenset[str]] = []
        self.inside: set[str] = set()
        self.most_inside: list[set[str]] = []
        self.lock = threading.Lock()

    def step(self, name: str, fails: str = ""):
        def work(given):
            key = given.id if isinstance(given, Case) else given
            with self.lock:
                self.running.append(name)
                self.together.append(frozenset(self.running))
                if name == "prepare":
                    self.inside.add(key)
                    self.most_inside.append(set(self.inside))
            time.sleep(self.seconds)
            with self.lock:
                self.running.remove(name)
            if key in fails:
                raise CaseError(Code.INTERNAL, f"{name} {key}", "x")
            return key

        return work

    def full(self, count: int):
        """A network that begins when so many cases are inside, and sees that no more enter."""

        def network(given):
            until = time.monotonic() + 30
            while len(self.inside) < count and len(self.most_inside) < count:
                assert time.monotonic() < until
                time.sleep(0.001)
            time.sleep(0.05)
            return given

        return network

    def results(self, given: list[Case], steps: Steps, limits: Limits = AMPLE) -> dict:
        found = {}
        for case, result in overlap(given, steps, limits):
            with self.lock:
                self.inside.discard(case.id)
            found[case.id] = result
        return found


def test_steps_overlap_and_failures_stay_in_their_case():
    watch = Watch()
    chain = (watch.step("prepare", "b"), watch.step("run", "d"), watch.step("finish", "e"))
    results = watch.results(cases("abcdef"), Steps(chain))
    assert {"prepare", "run", "finish"} in watch.together
    failed = {k: r.message.split()[0] for k, r in results.items() if isinstance(r, CaseError)}
    assert failed == {"b": "prepare", "d": "run", "e": "finish"}
    assert sorted(k for k, r in results.items() if r == k) == ["a", "c", "f"]
    assert list(overlap([], Steps(chain), AMPLE)) == []


def test_one_network_runs_at_a_time_and_the_stages_of_a_cascade_overlap():
    watch = Watch()
    running = []

    def network(given):
        running.append(given)
        assert len(running) == 1
        time.sleep(0.01)
        running.remove(given)
        return given

    chain = (watch.step("prepare"), network, watch.step("between"), network, watch.step("finish"))
    results = watch.results(cases("abcdef"), Steps(chain))
    assert results == {name: name for name in "abcdef"}
    assert any(len(together) > 1 for together in watch.together)


def test_a_slow_case_starves_nobody():
    others_done = threading.Event()

    def prepare(case):
        assert case.id != "a" or others_done.wait(30)
        return case.id

    order = []
    for case, _ in overlap(cases("abcde"), Steps((prepare, str, str)), AMPLE):
        order.append(case.id)
        if len(order) == 4:
            others_done.set()
    assert order == ["b", "c", "d", "e", "a"]


@pytest.mark.parametrize(("room", "most"), [(100, 1), (25, 1), (20, 2), (10, 4)])
def test_cases_enter_only_as_long_as_they_fit(room, most):
    """40 bytes: cases of 100 (which is alone), of 25, of 20, of 10 with 4 helpers."""
    watch = Watch(0.001)
    chain = (watch.step("prepare"), watch.full(most), watch.step("finish"))
    limits = Limits(workers=4, bytes=40)
    results = watch.results(cases("abcdefgh"), Steps(chain, lambda _: Size(room)), limits)
    assert len(results) == 8
    assert max(len(inside) for inside in watch.most_inside) == most


def test_what_only_the_network_takes_counts_once():
    watch = Watch(0.001)
    chain = (watch.step("prepare"), watch.full(3), watch.step("finish"))
    limits = Limits(workers=4, bytes=40)
    watch.results(cases("abcdefgh"), Steps(chain, lambda _: Size(own=5, network=25)), limits)
    assert max(len(inside) for inside in watch.most_inside) == 3


def test_no_more_cases_than_helpers_and_two():
    watch = Watch(0.001)
    chain = (watch.step("prepare"), watch.full(3), watch.step("finish"))
    watch.results(cases("abcdefghij"), Steps(chain), Limits(workers=1, bytes=1 << 40))
    assert max(len(inside) for inside in watch.most_inside) == 3


@pytest.mark.parametrize("where", ["size", "prepare", "run", "finish"])
def test_what_makes_every_case_fail_is_raised(where):
    def fails(_):
        raise RunError(Code.DISK_FULL, "full", "make room")

    watch = Watch(0.01)
    chain = tuple(fails if name == where else watch.step(name) for name in
                  ("prepare", "run", "finish"))  # fmt: skip
    size = fails if where == "size" else lambda _: Size()
    before = threading.active_count()
    with pytest.raises(RunError):
        list(overlap(cases("abc"), Steps(chain, size), AMPLE))
    assert threading.active_count() == before


def test_a_case_of_unknown_size_is_worked_on():
    def unreadable(_):
        raise CaseError(Code.FILE_MISSING, "no file", "x")

    watch = Watch(0.001)
    chain = (watch.step("prepare"), watch.step("run"), watch.step("finish"))
    assert len(watch.results(cases("abc"), Steps(chain, unreadable))) == 3


def test_a_caller_that_stops_ends_all_threads():
    watch = Watch(0.01)
    chain = (watch.step("prepare"), watch.step("run"), watch.step("finish"))
    before = threading.active_count()
    results = overlap(cases("abcdefgh"), Steps(chain), AMPLE)
    next(results)
    results.close()
    assert threading.active_count() == before
    assert len(watch.most_inside) < 8


def test_the_memory_for_cases_is_half_of_the_least_that_is_left(tmp_path, monkeypatch):
    machine = memory._machine()
    monkeypatch.setattr(memory, "_control_group", lambda: None)
    monkeypatch.delenv("SLURM_MEM_PER_NODE", raising=False)
    if machine is not None:
        assert abs(memory.memory_for_cases() - machine / 2) < 1 << 29
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "100")
    assert memory.memory_for_cases() == 50 << 20
    monkeypatch.undo()
    root, own = tmp_path / "groups", tmp_path / "own"
    job = root / "slurm" / "job_7"
    job.mkdir(parents=True)
    own.write_text("1:name=systemd:/x\n0::/slurm/job_7\n")
    assert memory._control_group(root, own) is None
    for group, limit in ((job, "max"), (root, "max"), (root / "slurm", "max")):
        (group / "memory.max").write_text(f"{limit}\n")
        (group / "memory.current").write_text("1000\n")
    assert memory._control_group(root, own) is None
    (root / "slurm" / "memory.max").write_text("9000\n")
    assert memory._control_group(root, own) == 8000
    (job / "memory.max").write_text("5000\n")
    assert memory._control_group(root, own) == 4000
    own.write_text("0::/\n")
    assert memory._control_group(root, own) is None
    assert memory._control_group(root, tmp_path / "none") is None

"""Runs that are killed: started in a session of their own, ended with all their processes."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from support.project import ROOT, Project, load, save

NOT_COMPARED = {
    "logs": "hold times and process numbers; no stage reads them",
    "benchmarks": "are times",
    ".locks": "say who was at work, and when",
    "provenance": "says which job made what, and when",
}
"""Folders of the results whose bytes differ between any two runs, and why that is right."""

KEYS = ".key"
"""Ending of files that hold when inputs changed, which no copy of the inputs keeps."""

STAGES = ("check", "cases", "segment", "compose", "measure", "judge", "export", "report")


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    session: int
    command: tuple[str, ...]


def processes() -> dict[int, Process]:
    """Every process of the machine, as the kernel lists them."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(") ")[2].split()
            command = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it ended meanwhile
            continue
        if fields[0] != "Z":
            pid = int(folder.name)
            found[pid] = Process(pid, int(fields[1]), int(fields[3]), tuple(command))
    return found


def tree(root: int) -> list[Process]:
    """A process with all that descend from it or share its session."""
    everything = processes()
    members = {pid for pid, p in everything.items() if pid == root or p.session == root}
    while more := {p for p, q in everything.items() if q.parent in members} - members:
        members |= more
    return [everything[pid] for pid in sorted(members)]


def kill_tree(root: int) -> None:
    """SIGKILL to a whole tree, as often as it takes for none to be left."""
    while alive := tree(root):
        for process in alive:
            try:
                os.kill(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)


def verb_of(process: Process) -> str | None:
    """The stage that a process works on: `backsplit segment organs …` is at segment."""
    for program, verb in zip(process.command, process.command[1:], strict=False):
        if Path(program).name == "backsplit" and verb in STAGES:
            return verb
    return None


@dataclass
class Killed:
    """What happened to the runs of a folder."""

    kills: list[str] = field(default_factory=list)
    leftovers: int = 0


class Run:
    """A workflow in a folder, run and killed again and again.

    Parameters
    ----------
    folder : where Snakemake starts
    arguments : of Snakemake
    """

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.arguments = arguments
        self.killed = Killed()

    @property
    def results(self) -> Path:
        return self.folder / "results"

    @property
    def output(self) -> Path:
        return self.folder / "output.txt"

    def start(self, *more: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile")]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        with self.output.open("wb") as stream:
            return subprocess.Popen(
                [*command, "--cores", "2", *self.arguments, *more],
                cwd=self.folder,
                env={**os.environ, "PATH": path},
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def finish(self) -> float:
        """Run to the end, without any help; gives the seconds it took."""
        started = time.monotonic()
        code = self.start().wait()
        assert code == 0, self.output.read_text()
        return time.monotonic() - started

    def kill_after(self, seconds: float) -> bool:
        """Start, and kill after so many seconds; False where the run ended before."""
        run = self.start()
        try:
            assert run.wait(seconds) == 0, self.output.read_text()
        except subprocess.TimeoutExpired:
            self._kill(run)
            return True
        return False

    def kill_in(self, stage: str, seconds: float) -> bool:
        """Start, and kill so many seconds after a stage has begun; False where it never does."""
        run = self.start()
        while run.poll() is None:
            if any(verb_of(process) == stage for process in tree(run.pid)):
                time.sleep(seconds)
                self._kill(run)
                return True
            time.sleep(0.05)
        assert run.returncode == 0, self.output.read_text()
        return False

    def _kill(self, run: subprocess.Popen[bytes]) -> None:
        verbs = {verb for process in tree(run.pid) if (verb := verb_of(process))}
        kill_tree(run.pid)
        run.wait()
        self.killed.kills.append("+".join(sorted(verbs)) or "between jobs")
        self.killed.leftovers += len(leftovers(self.results))

    def forget(self) -> None:
        """As if nothing had ever run here."""
        shutil.rmtree(self.results, ignore_errors=True)
        shutil.rmtree(self.folder / ".snakemake", ignore_errors=True)


def leftovers(results: Path) -> list[Path]:
    return [path for path in results.rglob("*") if path.name.startswith(".part-")]


def contents(results: Path) -> dict[str, str]:
    """Every file of the results: a hash of its bytes, or where a link points to."""
    return {str(path.relative_to(results)): _content(path) for path in _compared(results)}


def _compared(results: Path) -> Iterator[Path]:
    for path in sorted(results.rglob("*")):
        if path.suffix == KEYS or path.is_dir():
            continue
        if path.relative_to(results).parts[0] not in NOT_COMPARED:
            yield path


def _content(path: Path) -> str:
    if path.is_symlink():
        return f"-> {path.readlink()}"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def require_same(found: Mapping[str, str], expected: Mapping[str, str], told: str = "") -> None:
    """Name every file that is missing, too many, or another."""
    names = found.keys() | expected.keys()
    wrong = {
        name: (found.get(name, "missing"), expected.get(name, "not expected"))
        for name in sorted(names)
        if found.get(name) != expected.get(name)
    }
    assert not wrong, f"{wrong}\n{told}"


def seconds_of(results: Path, stage: str) -> float:
    """How long the jobs of a stage took, on average, by Snakemake's own benchmark."""
    tables = [
        *results.glob(f"benchmarks/{stage}.tsv"),
        *results.glob(f"benchmarks/{stage}/**/*.tsv"),
    ]
    return float(np.mean([float(t.read_text().splitlines()[1].split("\t")[0]) for t in tables]))


class Survivor(Run):
    """Two small cases, and what an undisturbed run makes of them."""

    def __init__(self, project: Project) -> None:
        super().__init__(project.folder, "--configfile", "config.yaml")
        for name in ("a", "b"):
            project.add(name)
        project.write()
        self.project = project
        self.lesion = self.folder / "lesions" / "a.nii.gz"
        self.drafts = {}
        for draft, slices in {"first": 3, "final": 2}.items():
            drawn = load(self.lesion)
            drawn[slices, 6, 6] = 1
            self.drafts[draft] = save(self.folder / draft / "a.nii.gz", drawn)
        self.draw("final")
        self.finish()
        self.expected = contents(self.results)
        self.lasting = {stage: seconds_of(self.results, stage) for stage in STAGES}

    def draw(self, draft: str) -> None:
        """Put a lesion in place, with the time that it was drawn at."""
        shutil.copy2(self.drafts[draft], self.lesion)

    def require_expected(self) -> None:
        require_same(contents(self.results), self.expected, str(self.killed))
        assert not leftovers(self.results)
        assert not list((self.folder / ".snakemake" / "locks").glob("*.lock"))

    def nothing_due(self) -> bool:
        code = self.start("--dry-run").wait()
        assert code == 0, self.output.read_text()
        return "Nothing to be done" in self.output.read_text()

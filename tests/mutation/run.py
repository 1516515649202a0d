"""Mutants of the pure modules: each is a small fault that some test has to notice.

Cosmic Ray makes the mutants. They are tried here rather than by its own runner, which starts
Python and the libraries anew for each, some seconds a time: here each is tried in a fork of a
process that has the libraries loaded, by the tests that run the changed line, the quickest first.
What is mutated is a copy of the package; the working tree stays as it is.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import importlib
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import coverage
import pytest
from cosmic_ray.ast import Visitor, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SOURCE = ROOT / "workflow" / "src" / "backsplit"

MODULES = (
    "compose/layers", "compose/host", "compose/repair", "compose/case", "compose/account",
    "compose/status", "compose/passes", "compose/promises", "compose/balance",
    "scheme/scheme", "scheme/resolve",
    "cases/table", "cases/check", "cases/labels", "cases/lesion", "cases/instances",
    "cases/claims", "cases/drawn",
    "volume/grid",
    "measure/table", "measure/passes", "measure/lesions", "measure/agreement", "measure/rows",
    "measure/filled",
    "judge/lesions", "judge/anatomy", "judge/cohort", "judge/cube", "judge/flags", "judge/joint",
    "judge/likeness", "judge/mapping", "judge/place", "judge/systematic", "judge/verdicts",
)  # fmt: skip

OPERATORS = re.compile(
    r"core/(NumberReplacer|AddNot|ReplaceAndWithOr|ReplaceOrWithAnd|ReplaceTrueWithFalse"
    r"|ReplaceFalseWithTrue|ReplaceBreakWithContinue|ReplaceContinueWithBreak"
    r"|RemoveDecorator|ZeroIterationForLoop|ReplaceUnaryOperator_(USub_UAdd|Delete_Not)"
    r"|ReplaceBinaryOperator_(Add_Sub|Sub_Add|Mul_Div|Div_Mul|FloorDiv_Div|Mod_Mul|Pow_Mul"
    r"|LShift_RShift|RShift_LShift|BitOr_BitAnd|BitAnd_BitOr|BitXor_BitOr)"
    r"|ReplaceComparisonOperator_(Eq_NotEq|NotEq_Eq|Is_IsNot|IsNot_Is"
    r"|Lt_LtE|Lt_GtE|LtE_Lt|LtE_Gt|Gt_GtE|Gt_LtE|GtE_Gt|GtE_Lt))"
)
"""Of the many replacements of one operator: its opposite, and its neighbour at the boundary."""

LIBRARIES = (
    "cc3d", "edt", "hypothesis.extra.numpy", "matplotlib", "nibabel", "numba", "numpy", "pandas",
    "pyarrow", "pydantic", "ruamel.yaml", "scipy.ndimage", "scipy.stats", "SimpleITK",
    "sklearn.covariance", "typer", "yaml",
)  # fmt: skip

LONG = (
    "bids", "broken_files", "dicom", "disk", "documents", "environments", "export",
    "hostile_inputs", "house", "nifti", "phantoms", "pictures", "report", "segmenters", "start",
    "startup",
)  # fmt: skip
"""Files of tests that say little about these modules for the time that they take."""

LOOPS = ("compiled", "compose", "layers", "measure", "rows", "volume")
"""Files of tests for compiled loops, which are tried as plain Python and are slow there."""

MEMORY = 24 << 30
"""Bytes of address space: a mutant that asks for more is stopped."""

ENOUGH = 85.0
"""Per cent of each module's mutants, without those that change nothing, that have to be noticed."""

EQUIVALENT = frozenset(
    re.findall(r"^- (\S+\.py `.*` -> `.*`)$", (HERE / "survivors.md").read_text(), re.MULTILINE)
)
"""Mutants that behave as the module does; `survivors.md` says why."""


@dataclass(frozen=True)
class Mutant:
    """One fault: an operator of Cosmic Ray at its n-th place in a module, on a line."""

    module: str
    operator: str
    occurrence: int
    line: int

    def code(self, source: str) -> str:
        mutated = mutate_code(source, get_operator(self.operator)(), self.occurrence)
        assert mutated is not None
        return mutated

    def shown(self, source: str) -> str:
        pairs = zip(source.splitlines(), self.code(source).splitlines(), strict=False)
        before, after = next(((a, b) for a, b in pairs if a != b), ("", ""))
        return f"{self.module}.py `{before.strip()}` -> `{after.strip()}`"


class _Places(Visitor):
    """The lines at which an operator can mutate, in order of its occurrences."""

    def __init__(self, operator: object) -> None:
        self.operator = operator
        self.lines: list[int | None] = []

    def visit(self, node):
        for (line, _), _end in self.operator.mutation_positions(node):
            self.lines.append(None if _changes_nothing(node) else line)
        return node


def _code(node) -> str:
    return node.get_code().strip() if node is not None else ""


def _changes_nothing(node) -> bool:
    """Annotations, which nobody evaluates; a lone `*` among parameters; guards of the author.

    Those are `zip(…, strict=True)`, assertions for mypy, and `frozen=True`, to which
    `tests/unit/test_house.py` holds all dataclasses. NumPy takes any negative number for the -1
    of `reshape(-1)`.
    """
    child, parent = node, node.parent
    while parent is not None:
        if parent.type in ("decorator", "parameters"):
            return parent.type == "decorator" or node.type == "operator"
        if parent.type == "argument" and _code(parent) == "strict=True":
            return True
        if parent.type == "assert_stmt" or (
            _code(parent) == "(-1)" and _code(parent.get_previous_sibling()) == ".reshape"
        ):
            return True
        if parent.type in ("annassign", "tfpdef"):
            equals = [c for c in parent.children if c == "="]
            return not equals or child.start_pos < equals[0].start_pos
        if parent.type == "funcdef" and child is parent.annotation:
            return True
        child, parent = parent, parent.parent
    return False


def mutants(module: str, source: str) -> list[Mutant]:
    found = []
    for name in sorted(operator_names()):
        if OPERATORS.fullmatch(name):
            places = _Places(get_operator(name)())
            places.walk(get_ast(source))
            found += [
                Mutant(module, name, number, line)
                for number, line in enumerate(places.lines)
                if line is not None
            ]
    return found


class _Runs:
    """A plugin of pytest: which test runs which lines, and how long it takes."""

    def __init__(self, package: Path) -> None:
        self.package = package
        self.coverage = coverage.Coverage(
            data_file=None, config_file=False, source=[str(package)], messages=False
        )
        self.seconds: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        self.coverage.switch_context(item.nodeid)
        start = time.monotonic()
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = time.monotonic() - start

    def told(self) -> dict:
        """Seconds of each test, and module to {line: tests}."""
        data = self.coverage.get_data()
        lines = {}
        for file in data.measured_files():
            module = Path(file).relative_to(self.package).with_suffix("").as_posix()
            if module in MODULES:
                lines[module] = {
                    line: [test for test in tests if test]
                    for line, tests in data.contexts_by_lineno(file).items()
                }
        return {"seconds": self.seconds, "lines": lines}


class Trials:
    """A copy of the package, in which one module at a time is mutated."""

    def __init__(self, folder: Path, loops: bool) -> None:
        self.folder = folder
        self.package = folder / "src" / "backsplit"
        shutil.copytree(SOURCE, self.package, ignore=shutil.ignore_patterns("__pycache__"))
        compileall.compile_dir(self.package, quiet=2)
        sys.path[:0] = [str(self.package.parent), str(ROOT / "tests")]
        os.environ["PYTHONPATH"] = str(self.package.parent)
        os.environ["BACKSPLIT_SHARED"] = os.devnull  # what is tried is the same on every machine
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # half of the time of a short run
        os.environ["NUMBA_DISABLE_JIT"] = str(int(loops))
        for library in LIBRARIES:
            importlib.import_module(library)
        files = sorted((ROOT / "tests" / "unit").glob("test_*.py"))
        names = {path.stem.removeprefix("test_"): str(path) for path in files}
        self.files = [
            path for name, path in names.items() if (name in LOOPS if loops else name not in LONG)
        ]
        told = self._runs()
        self.seconds: dict[str, float] = told["seconds"]
        self.lines: dict[str, dict[str, list[str]]] = told["lines"]

    def tests(self, mutant: Mutant) -> list[str]:
        """Tests that run the mutant's line; of one that runs at import, those of the module."""
        lines = self.lines.get(mutant.module, {})
        found = set(lines.get(str(mutant.line), ()))
        if not found:
            found = {test for tests in lines.values() for test in tests}
            name = mutant.module.replace("/", ".")
            files = [path.name for path in map(Path, self.files) if name in path.read_text()]
            found |= {test for test in self.seconds if Path(test.partition("::")[0]).name in files}
        return sorted(found, key=lambda test: self.seconds[test])

    def source(self, module: str) -> str:
        return (self.package / f"{module}.py").read_text()

    def require_sound(self, module: str) -> None:
        """The tests of a module pass, tried as a mutant is, while there is none."""
        tests = list({test for tests in self.lines.get(module, {}).values() for test in tests})
        if tests and self._fork(lambda: _pytest(self.folder, tests), 600) != 0:
            raise SystemExit(f"the tests of {module} fail without any mutant")

    def is_killed(self, mutant: Mutant) -> bool:
        tests = self.tests(mutant)
        if not tests:
            return False
        path = self.package / f"{mutant.module}.py"
        source = path.read_text()
        for stale in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
            stale.unlink()
        limit = 10 + 5 * sum(self.seconds[test] for test in tests)
        try:
            path.write_text(mutant.code(source))
            return self._fork(lambda: _pytest(self.folder, tests), limit) != 0
        finally:
            path.write_text(source)

    def _runs(self) -> dict:
        answer = self.folder / "runs.json"

        def look() -> int:
            runs = _Runs(self.package)
            runs.coverage.start()
            code = _pytest(self.folder, self.files, runs)
            runs.coverage.stop()
            answer.write_text(json.dumps(runs.told()))
            return code

        if self._fork(look, 1200, quiet=False) != 0:
            raise SystemExit("the tests fail without any mutant")
        return json.loads(answer.read_text())

    def _fork(self, call, limit: float, *, quiet: bool = True) -> int:
        """Exit status of a call in a process of its own; -1 when it takes too long."""
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            os.setsid()
            sys.dont_write_bytecode = True
            os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            if quiet:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, 1)
                os.dup2(nowhere, 2)
            code = 99
            with contextlib.suppress(BaseException):
                code = call()
            os._exit(code)
        end = time.monotonic() + limit
        while time.monotonic() < end:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return -1


def _pytest(folder: Path, what: list[str], *plugins: object) -> int:
    from hypothesis import HealthCheck, Phase, settings

    settings.register_profile(
        "mutants",
        database=None,
        phases=[Phase.explicit, Phase.generate],  # to fail is enough; nobody reads the example
        suppress_health_check=list(HealthCheck),
    )
    settings.load_profile("mutants")
    os.chdir(ROOT)
    options = ["-x", "-q", "--tb=no", "--no-header", f"--basetemp={folder / 'tmp'}"]
    options += ["-p", "no:cacheprovider", "-o", "addopts="]
    return int(pytest.main([*options, *what], plugins=plugins))


def chosen(module: str, source: str, sample: int) -> tuple[list[Mutant], int]:
    """The mutants of a module to try, drawn by its name where there are more; how many it has."""
    found = mutants(module, source)
    if len(found) <= sample:
        return found, len(found)
    drawn = random.Random(module).sample(found, sample)
    return sorted(drawn, key=lambda mutant: mutant.line), len(found)


@dataclass(frozen=True)
class Score:
    """What became of a module's mutants."""

    module: str
    mutants: int
    tried: int
    survivors: tuple[str, ...]

    @property
    def missed(self) -> list[str]:
        return [text for text in self.survivors if text not in EQUIVALENT]

    @property
    def equivalent(self) -> int:
        return len(self.survivors) - len(self.missed)

    @property
    def per_cent(self) -> float:
        counted = self.tried - self.equivalent
        return 100 * (counted - len(self.missed)) / counted if counted else 100.0

    def row(self) -> str:
        killed = self.tried - len(self.survivors)
        counts = f"{self.mutants} | {self.tried} | {killed} | {self.equivalent}"
        return f"| {self.module} | {counts} | {self.per_cent:.0f} % |"


HEAD = "| module | mutants | tried | killed | equivalent | score |\n|---|---:|---:|---:|---:|---:|"


def scores(modules: list[str], sample: int, *, loops: bool) -> Iterator[Score]:
    with tempfile.TemporaryDirectory() as folder:
        trials = Trials(Path(folder), loops)
        for module in modules:
            trials.require_sound(module)
            source = trials.source(module)
            tried, of = chosen(module, source, sample)
            survivors = tuple(m.shown(source) for m in tried if not trials.is_killed(m))
            yield Score(module, of, len(tried), survivors)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", help="as compose/layers; all, when none is named")
    parser.add_argument("--sample", type=int, default=30, help="most mutants of a module")
    arguments = parser.parse_args()
    modules = arguments.modules or list(MODULES)
    compiled = [m for m in modules if "@Compiled" in (SOURCE / f"{m}.py").read_text()]
    found: list[Score] = []
    for loops, some in ((False, [m for m in modules if m not in compiled]), (True, compiled)):
        for score in scores(some, arguments.sample, loops=loops) if some else ():
            found.append(score)
            print(score.row(), *(f"- {text}" for text in score.missed), sep="\n", flush=True)
    print("", HEAD, *(score.row() for score in found), sep="\n")
    bad = [score.module for score in found if score.per_cent < ENOUGH]
    if bad:
        print(f"\nbelow {ENOUGH:.0f} %: {', '.join(bad)}")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())

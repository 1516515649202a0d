"""Find the label files of a case in a program's working folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from glob import escape, glob
from pathlib import Path
from types import MappingProxyType

from backsplit.cases.table import Case
from backsplit.errors import CaseError, Code, shown

NOBODY: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Outputs:
    """Finds what a program wrote.

    Attributes
    ----------
    program : its name, for messages
    output : pattern of its label files, relative to the working folder
    names : class to file name if each class has its own file; None for one multilabel file
    """

    program: str
    output: str
    names: Mapping[str, str] | None = None

    def one(self, case: Case) -> str:
        """The pattern of a case's label file, relative to the working folder."""
        return self.output.format(case=case.id)

    def owners(self, cases: Sequence[Case], folder: Path) -> dict[str, str]:
        """Case of each file. `a*` also matches files of `ab`, so the longest id owns a file."""
        owners: dict[str, str] = {}
        for case in sorted(cases, key=lambda case: -len(case.id)):
            for pattern in self._patterns(case).values():
                for hit in glob(pattern, root_dir=folder):  # noqa: PTH207 (it may hold no *)
                    owners.setdefault(hit, case.id)
        return owners

    def of_case(
        self,
        case: Case,
        folder: Path,
        given: Iterable[Path],
        owners: Mapping[str, str] = NOBODY,
    ) -> dict[str, Path]:
        """Label files of a case, by role; a missing file has a path too.

        Parameters
        ----------
        case : the case
        folder : the program's working folder
        given : input images of all cases in that folder, which are not outputs
        owners : file to case id, see `owners`; files of other cases are left out

        Raises
        ------
        CaseError
            OUTPUT_MISSING: no file matches, or several do.
        """
        images = {path.relative_to(folder).as_posix() for path in given}
        paths = {}
        for name, pattern in self._patterns(case).items():
            hits = sorted(glob(pattern, root_dir=folder))  # noqa: PTH207 (it may hold no *)
            mine = [hit for hit in hits if owners.get(hit, case.id) == case.id]
            paths[name] = self._one(case, folder, pattern, [h for h in mine if h not in images])
        if not any(path.exists() for path in paths.values()):
            raise self._missing(case, folder, images)
        return paths

    def _patterns(self, case: Case) -> dict[str, str]:
        """Patterns of the label files of a case, by role."""
        if self.names is None:
            return {"labels": self.one(case)}
        return {
            name: self.output.format(case=case.id, name=escape(file))
            for name, file in self.names.items()
        }

    def _one(self, case: Case, folder: Path, pattern: str, hits: Sequence[str]) -> Path:
        """The only file that matches a pattern."""
        if len(hits) > 1:
            raise CaseError(
                Code.OUTPUT_MISSING,
                f"{self.program} wrote {len(hits)} files for {case.id} that fit {pattern} "
                f"({shown(', '.join(hits))}), expected one",
                "make `output` match a single file",
            )
        path = folder / (hits[0] if hits else pattern)
        if not hits and path.exists():
            raise CaseError(
                Code.OUTPUT_MISSING,
                f"{pattern} is another case's file, or the image that {self.program} was given for "
                f"{case.id}",
                "have the program write elsewhere, and correct `output`",
            )
        real = path.resolve()
        if hits and not (real.is_relative_to(folder) and (real.is_file() or real.is_dir())):
            raise CaseError(
                Code.OUTPUT_MISSING,
                f"{self.program} wrote {hits[0]} for {case.id}, which is not a file in its working "
                "folder (a pipe, or a link that leads out of the folder)",
                "have the program write the file itself",
            )
        return path

    def _missing(self, case: Case, folder: Path, images: set[str]) -> CaseError:
        wanted = next(iter(self._patterns(case).values()))
        found = {path for path in folder.rglob("*") if path.is_file()}
        there = {path.relative_to(folder).as_posix() for path in found} - images
        return CaseError(
            Code.OUTPUT_MISSING,
            f"{self.program} finished but wrote no {wanted} for {case.id}; it wrote "
            f"{shown(', '.join(sorted(there))) or 'nothing'}",
            "correct `output`, or the program's arguments",
        )

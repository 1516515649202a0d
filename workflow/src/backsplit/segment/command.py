"""Any program that reads images and writes labels, here or in a container.

A case, or a folder of cases, has a working folder of its own, with `images` (what the program is
given, always NIfTI) and `outputs`. It is removed when the labels have been read, with all that the
program left in it. A program that fails over a folder of cases is run again for each of them, so
that the one case that it cannot do costs no other. What it wrote before it failed is not used: a
program may write its labels in several passes, and nothing tells which was the last.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from backsplit.cases.table import Case
from backsplit.config.command import IMAGES, OUTPUTS, WILDCARDS, Command
from backsplit.config.model import Run
from backsplit.config.slices import Labelling, Placing
from backsplit.errors import CaseError, Code, RunError, shown
from backsplit.segment.base import Labelled, Licence, Segmenter
from backsplit.segment.device import choose_device
from backsplit.segment.label_files import LabelFiles
from backsplit.segment.label_table import read_label_table
from backsplit.segment.launch import Launcher, own_parts, script_of
from backsplit.segment.licences import UNSTATED, stated_licence
from backsplit.segment.outputs import NOBODY, Outputs
from backsplit.segment.program import Ended, cut_links, run_program, working_folder
from backsplit.segment.timing import Timings
from backsplit.store.disk import Link
from backsplit.volume import read_geometry, read_grid, read_volume, save_nifti
from backsplit.work.batch import attempt, one_by_one

log = logging.getLogger(__name__)

HEADER = "have the program write labels on the grid of the image it is given, with its header"
REMEDIES = {
    Code.GRID_MISMATCH: HEADER,
    Code.GRID_NO_OVERLAP: HEADER,
    Code.SPACING_INVALID: HEADER,
    Code.ORIENTATION_UNKNOWN: HEADER,
    Code.ORIENTATION_AMBIGUOUS: HEADER,
    Code.DIRECTION_SHEARED: HEADER,
    Code.LABEL_NOT_INTEGER: "have the program write label values, not probabilities",
    Code.NOT_3D: "have the program write one 3D volume with a value for each class",
    Code.FILE_UNREADABLE: "have the program write NIfTI there; if it writes a file for each class, "
    "give it {outputs} and set `output: outputs/{name}.nii.gz`",
}
"""What to do about a program's labels: their files are gone, and made again at every run."""

SEE_LOG = (
    "read its whole output in the job's log (`backsplit segment NAME --log FILE` if you run it by "
    "hand), and run the program on this image yourself"
)


def build(section: Command, inputs: Labelling, run: Run) -> Segmenter:
    """Make the segmenter of a section."""
    return CommandSegmenter(section, inputs, run)


class CommandSegmenter(Segmenter):
    """Runs a program on each case, or on a folder of cases."""

    def __init__(self, section: Command, inputs: Labelling, run: Run) -> None:
        self.section = section
        self.channels = inputs.channels
        self.run = run
        self.timings = Timings()
        self.program = Path(script_of(section.command) or section.command[0]).name
        self.launcher = Launcher(section.container)
        self.seconds = 60 * (section.timeout_minutes or run.case_minutes)

    @cached_property
    def _labels(self) -> Mapping[str, int | str] | tuple[str, ...]:
        """Labels as the configuration has them, or as the program's table does."""
        labels = self.section.labels
        return read_label_table(Path(labels)) if isinstance(labels, str) else labels

    @property
    def _has_files(self) -> bool:
        """Whether each class has a file of its own."""
        return "{name}" in self.section.output

    @cached_property
    def _files(self) -> LabelFiles:
        # a program has no grid but that of its input to write on
        placing = Placing(self.channels[0], "refuse")
        labels = tuple(self._labels) if self._has_files else self._labels
        return LabelFiles(labels, self.section.missing, placing)

    @cached_property
    def outputs(self) -> Outputs:
        """Finds its label files."""
        labels, names = self._labels, None
        if self._has_files:
            pairs = (
                labels if isinstance(labels, Mapping) else dict(zip(labels, labels, strict=True))
            )
            names = {name: str(file) for name, file in pairs.items()}
        return Outputs(self.program, self.section.output, names)

    def classes(self) -> dict[str, int]:
        """Names to values of its file; 1, 2, 3 … for a file per class."""
        return self._files.classes

    def licence(self) -> Licence:
        """What the configuration says; else nobody has said."""
        return stated_licence(self.section) or UNSTATED

    def weights(self) -> Sequence[Path]:
        """None that we load; raises where the program, or its image, is not there."""
        self.launcher.require(self.section.command)
        return ()

    def own_files(self) -> Sequence[Path | Link]:
        """Programs and scripts by path, its image, its table, and what `depends_on` names."""
        section = self.section
        paths = [Path(part) for part in section.command if "/" in part and "{" not in part]
        called: list[Path | Link] = [path for path in paths if not path.is_dir()]
        if section.container is not None:
            is_file = section.container.runs_files
            called = own_parts(Path(section.container.image)) if is_file else []
        table = [Path(section.labels)] if isinstance(section.labels, str) else []
        return (*called, *table, *section.depends_on)

    def identity(self) -> dict[str, Any]:
        """Version of how it is run and read."""
        return {"method": 1}

    def contents(self) -> dict[str, Any]:
        """The program's files or image, its version, and what else its labels depend on."""
        section, asked = self.section, self.section.version_command
        name = Path(section.command[0]).name
        return {
            "versions": {name: self.launcher.version(asked)} if asked else {},
            "program": {
                **self.launcher.identity(section.command),
                "depends_on": [self.launcher.sha256(path) for path in section.depends_on],
            },
        }

    def inputs(self, case: Case) -> Mapping[str, Path]:
        """One image per channel."""
        return {f"image_{channel}": case.images[channel] for channel in self.channels}

    def label(self, cases: Sequence[Case]) -> Iterator[tuple[Case, Labelled | CaseError]]:
        """Run the program for each case, or once for all of them."""
        self.launcher.require(self.section.command)
        device = choose_device(self.run.device)
        alone = partial(self._label_case, device=device)
        if self.section.batch == "case" or len(cases) == 1:
            yield from one_by_one(cases, alone)
            return
        with working_folder() as folder:
            given = []
            for case in cases:
                refused = attempt(case, partial(self._give, folder=folder))
                if isinstance(refused, CaseError):
                    yield case, refused
                else:
                    given.append(case)
            if not given:
                return
            ended = self._run(folder, given, device)
            if ended.is_well:
                owners = self.outputs.owners(given, folder)
                take = partial(self._take, folder=folder, cases=given, owners=owners)
                yield from one_by_one(given, take)
                return
        log.warning("%s; now running each case separately", self._failure(ended, given).what)
        yield from one_by_one(given, alone)

    def _label_case(self, case: Case, device: str) -> Labelled:
        with working_folder() as folder:
            self._give(case, folder)
            ended = self._run(folder, [case], device)
            if not ended.is_well:
                raise self._failure(ended, [case])
            return self._take(case, folder, [case])

    def _give(self, case: Case, folder: Path) -> None:
        """Write the images of a case for the program: a copy, whatever their format."""
        with self.timings.phase("prepare"):
            for channel, path in zip(self.channels, self._images(case, folder), strict=True):
                image = read_volume(case.images[channel])
                path.parent.mkdir(parents=True, exist_ok=True)
                like = read_geometry(case.images[channel]).like(case.images[channel])
                save_nifti(path, image.array, image.grid, like, "image for a program")
        if not self._has_files and not WILDCARDS.search(self.section.output):
            (folder / self.outputs.one(case)).parent.mkdir(parents=True, exist_ok=True)

    def _images(self, case: Case, folder: Path) -> list[Path]:
        return [
            folder
            / IMAGES
            / self.section.input.format(case=case.id, channel=channel, number=f"{number:04d}")
            for number, channel in enumerate(self.channels)
        ]

    def _run(self, folder: Path, cases: Sequence[Case], device: str) -> Ended:
        """Run the program on the cases that it was given."""
        arguments = self._arguments(folder, cases, device)
        call = self.launcher.call(arguments, folder, device)
        log.info("%s: %s", self.program, " ".join(map(repr, arguments)))

        with self.timings.phase("network"):
            try:
                ended = run_program(
                    call.arguments,
                    folder,
                    call.environment,
                    self.seconds * max(1, len(cases)),
                    self.program,
                    call.stop,
                )
            except OSError as error:
                raise RunError(
                    Code.PROGRAM_MISSING,
                    f"{call.arguments[0]} cannot be started ({error.strerror})",
                    "correct `command`",
                ) from None
        self.launcher.require_unchanged()
        # the folder's name is another one at each run, and messages are results
        return replace(ended, last=ended.last.replace(f"{folder}/", ""))

    def _arguments(self, folder: Path, cases: Sequence[Case], device: str) -> list[str]:
        """The command with its fields filled in; each stays one argument, but for the device."""
        root = self.launcher.root(folder)
        kind = device.partition(":")[0]
        words = next((v for k, v in self.section.devices.items() if k == kind), kind)
        values = {"images": str(root / IMAGES), "outputs": str(root / OUTPUTS)}
        if self.section.batch == "case":
            (case,) = cases
            images = [str(root / path.relative_to(folder)) for path in self._images(case, folder)]
            values |= {f"image_{c}": path for c, path in zip(self.channels, images, strict=True)}
            values |= {"case": case.id, "image": images[0]}
            if not self._has_files:
                values["output"] = str(root / self.outputs.one(case))
        found: list[str] = []
        for part in self.section.command:
            if part == "{device}" and not isinstance(words, str):
                found += words
            else:
                device_word = words if isinstance(words, str) else " ".join(words)
                found.append(part.format(**values, device=device_word))
        return found

    def _take(
        self, case: Case, folder: Path, cases: Sequence[Case], owners: Mapping[str, str] = NOBODY
    ) -> Labelled:
        """Read what the program wrote for a case, one of those that it was given.

        Raises
        ------
        CaseError
            OUTPUT_MISSING; what is wrong with a label file.
        """
        with self.timings.phase("labels"):
            grid = read_grid(case.images[self.channels[0]])
            images = [path for other in cases for path in self._images(other, folder)]
            written = self.outputs.of_case(case, folder, images, owners)
            cut_links(folder)
            try:
                found = self._files.read(written, grid, case)
            except CaseError as error:
                remedy = REMEDIES.get(error.code, "correct what the program writes")
                what = error.what.replace(f"{folder}/", "")
                raise CaseError(error.code, f"{self.program} wrote: {what}", remedy) from None
        unknown = {name: why.replace(f"{folder}/", "") for name, why in found.unknown.items()}
        others = found.notes.get("voxels_of_other_values")
        if others and isinstance(self.section.labels, str):
            raise CaseError(
                Code.LABEL_UNDECLARED,
                f"{self.program} wrote the values {shown(', '.join(others))} for {case.id}, which "
                f"are not in {self.section.labels}",
                "use the table of the installed version",
            )
        return replace(found, unknown=unknown)

    def _failure(self, ended: Ended, cases: Sequence[Case]) -> CaseError:
        """Say how the program failed, with the last line that it wrote."""
        on = cases[0].id if len(cases) == 1 else f"{len(cases)} cases"
        said = f"; its last line: {shown(ended.last)}" if ended.last else "; it wrote nothing"
        if ended.status is None:
            minutes = self.seconds / 60
            return CaseError(
                Code.TIME_LIMIT,
                f"{self.program} was stopped on {on} after {minutes:g} minutes per case{said}",
                "raise timeout_minutes of this segmenter, or check the size of the image",
            )
        if ended.status < 0:
            hint = " (often out of memory)" if ended.status == -9 else ""
            return CaseError(
                Code.PROGRAM_CRASHED,
                f"{self.program} was killed by signal {-ended.status}{hint} on {on}{said}",
                SEE_LOG,
            )
        return CaseError(
            Code.PROGRAM_FAILED,
            f"{self.program} failed with exit status {ended.status} on {on}{said}",
            SEE_LOG,
        )

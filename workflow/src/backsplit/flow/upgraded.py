"""Labels that were made with another version of a package than the one that is installed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from backsplit.errors import RunError
from backsplit.flow.project import Project
from backsplit.start.names import counted
from backsplit.store.sidecars import SegmentSidecar, read_sidecar


def upgraded(project: Project) -> Iterator[str]:
    """A line for each package and version whose labels the next run replaces.

    Cases of a batch are labelled by one job, so one sidecar of each batch is read.
    """
    for name in project.config.used_segmenters:
        try:
            installed = project.segmenter(name).identity().get("versions", {})
        except RunError:
            continue  # what is not there is a problem of its own
        made = _made_with(project, name) if installed else Counter()
        for (package, version), cases in sorted(made.items()):
            now = installed.get(package, version)
            if now != version:
                yield (
                    f"{name}: {package} {now} is installed here, but the labels of "
                    f"{counted(cases, 'case')} were made with {version}: a run with {now} makes "
                    f"them again; to keep them, first run "
                    f"`python -m pip install {package}=={version}`"
                )


def _made_with(project: Project, segmenter: str) -> Counter[tuple[str, str]]:
    """Package and version to the number of cases."""
    folder, ids = project.results.segment(segmenter), project.table.ids
    there = folder.sidecars()
    made: Counter[tuple[str, str]] = Counter()
    for rows in project.table.batches.values() if there else ():
        labelled = [ids[row] for row in rows if ids[row] in there]
        try:
            sidecar = read_sidecar(folder.sidecar(labelled[0]), SegmentSidecar)
        except (IndexError, OSError, ValueError):
            continue  # none yet, or damaged: made again anyway
        for made_with in sidecar.made_from.versions.items():
            made[made_with] += len(labelled)
    return made

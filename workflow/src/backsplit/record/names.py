"""Hold label maps against the segmenters' own maps, by name.

Each voxel of a structure is one that a segmenter found as a class of that structure. Nothing of
composing is used: it might be wrong in the same way twice. What is read is what a person would
read: `labels.json` for the ids, each segmenter's sidecar for its values, and the configuration for
which class becomes which structure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from backsplit.config.base import BACKGROUND, IGNORE
from backsplit.config.model import Config
from backsplit.errors import CaseError
from backsplit.scheme.scheme import Scheme
from backsplit.store.provenance import read_json
from backsplit.store.sidecars import ComposeSidecar, SegmentSidecar, read_sidecar
from backsplit.volume import Array, read_labels
from backsplit.volume.pieces import pieces

SAMPLE = 20
"""Cases that are looked at unless all are asked for, evenly spread over the table."""


def sample(cases: Sequence[str], count: int = SAMPLE) -> list[str]:
    """So many cases, evenly spread; all where there are no more."""
    places = np.linspace(0, len(cases) - 1, min(count, len(cases))).round().astype(int)
    return [cases[place] for place in places]


def names_differ(config: Config, scheme: Scheme) -> str:
    """What is wrong with the ids of the data set; empty where they are the configuration's."""
    path = config.results.label_ids
    try:
        found = read_json(path)
    except (OSError, ValueError) as error:
        return f"{path} cannot be read ({error})"
    same = list(found.items()) == list(scheme.ids.items())
    return (
        ""
        if same
        else f"{path} differs from the names and ids of the configuration; rerun the workflow"
    )


def wrong_names(config: Config, scheme: Scheme, case: str) -> Iterator[str]:
    """Structures of a case whose voxels no segmenter found as such.

    Parameters
    ----------
    config : the configuration
    scheme : names and ids
    case : its id

    Yields
    ------
    line
        One for each structure with more voxels that nobody claims than repair gave it.
    """
    results = config.results
    path = results.labels.output(case)
    try:
        sidecar = read_sidecar(results.labels.sidecar(case), ComposeSidecar)
        labels = read_labels(path).array
        unclaimed = _unclaimed(config, scheme, sidecar, labels, case)
    except (OSError, ValueError, CaseError) as error:
        yield f"{path} cannot be checked against the segmenters' maps ({error})"
        return
    given: dict[str, int] = {}
    for lesion in sidecar.lesions:
        if lesion.repair is not None and lesion.host is not None:
            voxels = lesion.repair.rim_voxels + lesion.repair.hole_voxels
            given[lesion.host] = given.get(lesion.host, 0) + voxels
    for name, voxels in unclaimed.items():
        if voxels > given.get(name, 0):
            yield (
                f"{path}: {voxels} voxels are labelled {name}, but no segmenter labelled them so"
            )


def _unclaimed(
    config: Config, scheme: Scheme, sidecar: ComposeSidecar, labels: Array, case: str
) -> dict[str, int]:
    """Structure to its voxels that no segmenter's map holds as one of its classes.

    Where several segmenters label a structure, those that the sidecar says were not followed do
    not count.
    """
    flat = labels.reshape(-1)
    claimed = np.zeros(len(flat), bool)
    for segmenter in config.layers:
        if segmenter in sidecar.failed_segmenters:
            continue
        folder = config.results.segment(segmenter)
        written = read_sidecar(folder.sidecar(case), SegmentSidecar)
        layer = read_labels(folder.output(case)).array.reshape(-1)
        if len(layer) != len(flat):
            raise ValueError(f"{folder.output(case)} has another size")
        aside = {o.structure for o in sidecar.opinions if o.layer == segmenter and not o.stands}
        sources = scheme.sources.get(segmenter, {})
        sources = {name: label for name, label in sources.items() if label not in aside}
        claims = _claims(written, sources, scheme.ids)
        for number in range(max(map(len, claims.values()), default=0)):
            table = np.zeros(int(layer.max()) + 1, scheme.dtype)
            for value, ids in claims.items():
                if number < len(ids) and value < len(table):
                    table[value] = ids[number]
            for at in pieces(len(flat)):
                claimed[at] |= table[layer[at]] == flat[at]
    counts = np.bincount(flat[~claimed], minlength=scheme.ignore_id + 1)
    aside = {BACKGROUND, IGNORE, *scheme.targets}
    return {n: int(counts[i]) for n, i in scheme.ids.items() if n not in aside and counts[i]}


def _claims(
    written: SegmentSidecar, sources: Mapping[str, str], ids: Mapping[str, int]
) -> dict[int, list[int]]:
    """Value of a segmenter's map to the ids that it may become, by the names in its sidecar."""
    single = {
        value: ids[sources[name]] for value, name in written.classes.items() if name in sources
    }
    several = {
        value: [single[member] for member in members if member in single]
        for value, members in written.overlaps.items()
    }
    return {**{value: [label] for value, label in single.items()}, **several}

"""Hold what lies on the disk against the manifest, and name every file that differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from pydantic import ValidationError

from backsplit.config.model import Config
from backsplit.errors import Code, RunError
from backsplit.export.bids import bids_strangers
from backsplit.export.monai import UNRESTRICTED, data_lists, monai_folder
from backsplit.export.nnunet import NnUNetDataset
from backsplit.export.segmentations import foreign_segmentations
from backsplit.record.datasets import dataset_files
from backsplit.record.manifest import INPUT, LABELS, SEGMENT, Manifest
from backsplit.record.names import names_differ, sample, wrong_names
from backsplit.scheme.scheme import Scheme
from backsplit.store.provenance import file_sha256
from backsplit.store.results import StageFolder
from backsplit.store.sidecars import ComposeSidecar, SegmentSidecar, Sidecar, read_sidecar

THREADS = 4
ROWS = 10_000


@dataclass(frozen=True)
class Verified:
    """What was found: files looked at, and what is wrong with each that is not as it was."""

    files: int
    cases: int
    wrong: tuple[str, ...]


def verify(config: Config, scheme: Scheme, *, deep: bool = False) -> Verified:
    """Look at every file of the manifest, for files that are not in it, and into label maps.

    A label map and a segmenter's map are what their sidecar says, and the manifest says the same.
    Of some cases each structure's voxels are looked up in the segmenters' own maps, by name.

    Parameters
    ----------
    config : the configuration
    scheme : names and ids
    deep : look into the label maps of all cases, not of some

    Raises
    ------
    RunError
        MANIFEST_INVALID when there is no manifest, or it or its table cannot be believed.
    """
    manifest = _read(config)
    results = config.results
    tables = config.dataset.cases.resolve().parent
    known: set[Path] = set()
    composed: list[str] = []
    wrong: list[str] = []
    with ThreadPoolExecutor(THREADS) as pool:
        for batch in pq.ParquetFile(results.manifest_files).iter_batches(ROWS):
            rows = batch.to_pylist()
            paths = [
                (tables if row["kind"] == INPUT else results.root) / row["path"] for row in rows
            ]
            digests = [row["sha256"] for row in rows]
            known.update(path for path in paths if path.is_relative_to(results.root))
            wrong += [told for told in pool.map(_look, paths, digests) if told]
            wrong += _against_sidecars(config, rows)
            composed += [row["case"] for row in rows if row["kind"] == LABELS]
    wrong += _strangers(manifest, config, known)
    looked_into = composed if deep else sample(composed)
    if told := names_differ(config, scheme):
        wrong.append(told)
    else:
        wrong += [told for case in looked_into for told in wrong_names(config, scheme, case)]
    return Verified(manifest.files.rows, len(looked_into), tuple(wrong))


def _against_sidecars(config: Config, rows: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """Label maps of which the sidecar says something else than the manifest."""
    for row in rows:
        kind = row["kind"]
        folder: StageFolder
        model: type[Sidecar]
        if kind == LABELS:
            folder, model = config.results.labels, ComposeSidecar
        elif kind.startswith(SEGMENT):
            folder, model = config.results.segment(kind.removeprefix(SEGMENT)), SegmentSidecar
        else:
            continue
        path = folder.sidecar(row["case"])
        try:
            written = read_sidecar(path, model).outputs["labels"].sha256
        except (OSError, ValueError, KeyError) as error:
            yield f"{path} cannot be read ({error})"
            continue
        if written != row["sha256"]:
            yield f"{path} names another file than the manifest does: sha256 {written}"


def _read(config: Config) -> Manifest:
    path, table = config.results.manifest, config.results.manifest_files
    try:
        manifest = Manifest.model_validate_json(path.read_text("utf-8"))
        found = file_sha256(table)
    except FileNotFoundError as error:
        raise RunError(
            Code.MANIFEST_INVALID,
            f"{error.filename} does not exist",
            "run the workflow to the end, or `backsplit manifest`",
        ) from None
    except (OSError, ValidationError) as error:
        raise RunError(
            Code.MANIFEST_INVALID,
            f"{path} cannot be read ({error})",
            "run `backsplit manifest` to rewrite it",
        ) from None
    if found != manifest.files.sha256:
        raise RunError(
            Code.MANIFEST_INVALID,
            f"{table} is not the table that {path} names: "
            f"sha256 {found}, expected {manifest.files.sha256}",
            "restore it, or run `backsplit manifest` if the data set was rewritten",
        )
    return manifest


def _look(path: Path, expected: str) -> str:
    """What is wrong with a file; empty if it is unchanged."""
    try:
        found = file_sha256(path)
    except FileNotFoundError:
        return f"{path} is gone"
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"
    return "" if found == expected else f"{path} has changed: sha256 {found}, was {expected}"


def _strangers(manifest: Manifest, config: Config, known: set[Path]) -> Iterator[str]:
    """Files in a data set that the manifest does not name: a trainer would read them too."""
    for entry in manifest.datasets:
        if entry.format == "nnU-Net v2":
            for path in dataset_files(NnUNetDataset(config.results.root / entry.path)):
                if path not in known:
                    yield f"{path} is not in the manifest"
    for path in (*bids_strangers(config), *foreign_segmentations(config)):
        if path not in known:
            yield f"{path} is not in the manifest"
    lists = {*data_lists(config, ""), *data_lists(config, UNRESTRICTED)}
    for path in sorted(monai_folder(config).glob("*")):
        if path not in known | lists:
            yield f"{path} is not in the manifest"

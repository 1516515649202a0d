"""A MONAI bundle as a segmenter: its own transforms, inferer and network, which loads once a job.

What a bundle is: https://docs.monai.io/en/stable/mb_specification.html. Its configuration holds
Python expressions, so that reading it runs code of its maker: like a checkpoint it is opened only
where its sha256 was accepted, with every file of `configs` and every module of the bundle.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np

from backsplit.cases.table import Case
from backsplit.config.base import BACKGROUND, MOST_LABEL
from backsplit.config.model import Run
from backsplit.config.segmenters import MonaiBundle
from backsplit.config.slices import Labelling
from backsplit.errors import CaseError, Code, RunError, shown
from backsplit.segment.base import Labelled, Licence, Segmenter
from backsplit.segment.bundle_code import (
    COMPONENTS,
    NEEDED,
    NETWORKS,
    may_be_read,
    may_run,
    only_sources,
    require_components,
    require_own,
)
from backsplit.segment.device import choose_device
from backsplit.segment.licences import UNSTATED, stated_licence
from backsplit.segment.memory import limits
from backsplit.segment.pipeline import Size, Steps, overlap
from backsplit.segment.timing import Timings
from backsplit.segment.weights import require_accepted
from backsplit.store import versions as stages
from backsplit.store.disk import files_below
from backsplit.store.provenance import file_sha256, read_json, versions
from backsplit.volume import (
    Array,
    Grid,
    read_geometry,
    read_grid,
    read_volume,
    save_nifti,
    stack_masks,
)
from backsplit.volume.pieces import values_in

METADATA = "configs/metadata.json"
BYTES_A_VOXEL = 64
"""Estimate of what a case takes beside its network: image, scores and labels as float32, twice."""


def build(section: MonaiBundle, inputs: Labelling, run: Run) -> Segmenter:
    """Make the segmenter of a section."""
    return MonaiBundleSegmenter(section, inputs, run)


class MonaiBundleSegmenter(Segmenter):
    """Applies a bundle as `monai.bundle run` does, case after case."""

    def __init__(self, section: MonaiBundle, inputs: Labelling, run: Run) -> None:
        self.section = section
        self.channels = inputs.channels
        self.run = run
        self.timings = Timings()

    @cached_property
    def _channels_of_output(self) -> dict[int, str]:
        """Channel or value of the network's output to its name, from the bundle's metadata."""
        path = self.section.bundle / METADATA
        try:
            data = read_json(path)
            found = data["network_data_format"]["outputs"]["pred"]["channel_def"]
            named = {int(value): str(name) for value, name in found.items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise RunError(
                Code.MODEL_INVALID,
                f"{path} does not exist"
                if isinstance(error, FileNotFoundError)
                else f"{path} does not say what the network labels ({shown(error)})",
                "`bundle` must be a bundle's folder whose metadata.json has "
                "network_data_format.outputs.pred.channel_def",
            ) from None
        readable = all(name.strip() and name.isprintable() for name in named.values())
        in_range = all(0 <= value <= MOST_LABEL for value in named)
        if len(set(named.values())) < len(named) or not (readable and in_range):
            raise RunError(
                Code.MODEL_INVALID,
                f"{path} lists a name twice, an unprintable name, or a channel number too large "
                "for a label map",
                "use another bundle",
            )
        return named

    def classes(self) -> dict[str, int]:
        """Names from the bundle's metadata, background left out."""
        named = self._channels_of_output
        return {name: value for value, name in named.items() if value and name != BACKGROUND}

    def licence(self) -> Licence:
        """What the configuration says; else nobody has said."""
        return stated_licence(self.section) or UNSTATED

    def weights(self) -> Sequence[Path]:
        """Every checkpoint, configuration and module of the bundle; each may be run as code."""
        bundle = self.section.bundle
        files = [bundle / self.section.config, bundle / METADATA, self._checkpoint]
        for path in files:
            if not path.is_file():
                raise RunError(
                    Code.WEIGHTS_MISSING,
                    f"{path} does not exist",
                    "correct `bundle`, `config` or `checkpoint`",
                )
        require_components(files[0], scripted=self._checkpoint.suffix == ".ts")
        others = [path for path in files_below(bundle) if may_run(path.relative_to(bundle))]
        return sorted({*files, *others})

    @property
    def _checkpoint(self) -> Path:
        bundle = self.section.bundle
        if self.section.checkpoint is not None:
            return bundle / self.section.checkpoint
        script = bundle / "models" / "model.ts"
        state = script.with_suffix(".pt")
        return script if script.is_file() and not state.is_file() else state

    def weights_root(self) -> Path:
        """The bundle's folder."""
        return self.section.bundle

    def own_files(self) -> Sequence[Path]:
        """The bundle's folder."""
        return (self.section.bundle,)

    def identity(self) -> dict[str, Any]:
        """Version of MONAI, of how its output is put on a label map, and of where it looked."""
        return {"method": 1, "versions": _versions(), "coverage": stages.COVERAGE}

    def contents(self) -> dict[str, Any]:
        """Files of the bundle that cannot run, but may be read by what can."""
        bundle = self.section.bundle
        read = (path for path in files_below(bundle) if may_be_read(path.relative_to(bundle)))
        files = sorted({*read} - {*self.weights()})
        return {"data": {path.relative_to(bundle).as_posix(): file_sha256(path) for path in files}}

    def inputs(self, case: Case) -> Mapping[str, Path]:
        """One image per channel."""
        return {f"image_{channel}": case.images[channel] for channel in self.channels}

    def label(self, cases: Sequence[Case]) -> Iterator[tuple[Case, Labelled | CaseError]]:
        """Label each case with the resident network; preparing and finishing go on meanwhile."""
        _versions()
        files = self.weights()
        require_accepted(files, str(self.section.bundle))
        device = choose_device(self.run.device)
        with self.timings.phase("load"):
            loaded = _load(self.section, self._checkpoint, device, files)
        engine = _Engine(loaded, self, device)
        yield from overlap(cases, engine.steps, limits())


@dataclass(frozen=True)
class _Loaded:
    """The parts of a bundle, ready for use."""

    network: Any
    preprocessing: Any
    inferer: Any
    postprocessing: Any
    amp: bool


@dataclass(frozen=True)
class _Item:
    """A case on its way: what the bundle's transforms know of it."""

    case: Case
    data: Any


class _Engine:
    """The steps of a case.

    A bundle's transforms undo each other, and note in themselves whether they do: one case at a
    time is prepared or finished, while another is in the network.
    """

    def __init__(self, loaded: _Loaded, segmenter: MonaiBundleSegmenter, device: str) -> None:
        self.loaded = loaded
        self.channels = segmenter.channels
        self.names = segmenter._channels_of_output
        self.timings = segmenter.timings
        self.device = device
        self.limit_s = 60 * segmenter.run.case_minutes
        self.transforms = threading.Lock()

    @property
    def steps(self) -> Steps:
        """Preprocessing, the network, postprocessing."""
        return Steps((self._prepare, self._infer, self._finish), self._size)

    def _size(self, case: Case) -> Size:
        return Size(
            own=BYTES_A_VOXEL * int(np.prod(read_grid(case.images[self.channels[0]]).shape))
        )

    def _prepare(self, case: Case) -> _Item:
        from monai.data import list_data_collate

        with self.transforms, self.timings.phase("prepare"), tempfile.TemporaryDirectory() as made:
            paths = [str(_as_nifti(case.images[c], Path(made), c)) for c in self.channels]
            image = paths[0] if len(paths) == 1 else paths
            return _Item(case, list_data_collate([self.loaded.preprocessing({"image": image})]))

    def _infer(self, item: _Item) -> _Item:
        import torch

        ends = time.monotonic() + self.limit_s

        def network(*inputs: Any, **options: Any) -> Any:  # noqa: ANN401
            if time.monotonic() > ends:
                raise CaseError(
                    Code.TIME_LIMIT,
                    f"{item.case.id}: the network ran longer than run.case_minutes allows",
                    "raise run.case_minutes, or check whether this image is unusually large",
                )
            return self.loaded.network(*inputs, **options)

        amp = self.loaded.amp and self.device.startswith("cuda")
        with self.timings.phase("network"), torch.no_grad():
            image = item.data["image"].to(self.device)
            with torch.autocast("cuda") if amp else nullcontext():
                pred = self.loaded.inferer(image, network)
        return _Item(item.case, {**item.data, "image": image, "pred": pred})

    def _finish(self, item: _Item) -> Labelled:
        from monai.data import decollate_batch

        with self.transforms, self.timings.phase("labels"):
            (data,) = decollate_batch(item.data)
            pred = self.loaded.postprocessing(data)["pred"]
            found = self._labelled(item.case, pred)
        self.timings.count_case()
        return found

    def _labelled(self, case: Case, pred: Any) -> Labelled:  # noqa: ANN401
        """The label map of a prediction, channel first, on the grid that it says.

        Raises
        ------
        CaseError
            LABEL_UNDECLARED: it holds other values or channels than the metadata names.
        """
        array = pred.detach().cpu().numpy()
        grid = _grid_of(np.asarray(pred.affine, np.float64), array.shape[1:])
        image = read_grid(case.images[self.channels[0]])
        grid = image if grid.is_same(image) else grid
        if len(array) == 1:
            return Labelled(self._values(case, array[0].transpose()), grid)
        if len(array) != len(self.names):
            raise self._undeclared(case, f"{len(array)} channels")
        if not ((array >= 0) & (array <= 1)).all():
            raise self._undeclared(case, "scores outside 0 to 1, which are not masks,")
        masks = (
            (channel, array[place].transpose() >= 0.5)
            for place, channel in enumerate(sorted(self.names))
            if channel and self.names[channel] != BACKGROUND
        )
        labels, overlaps = stack_masks(masks, grid.shape, max(self.names))
        return Labelled(labels, grid, overlaps)

    def _values(self, case: Case, array: Array) -> Array:
        labels = np.rint(array)
        if not np.isfinite(labels).all() or labels.min() < 0:
            raise self._undeclared(case, "values that are not labels")
        if labels.max() > MOST_LABEL:
            raise self._undeclared(case, f"the value {labels.max():g}")
        labels = labels.astype(np.min_scalar_type(int(labels.max())))
        others = sorted(set(values_in(labels)) - set(self.names))
        if others:
            raise self._undeclared(case, f"the values {shown(', '.join(map(str, others)))}")
        return labels

    def _undeclared(self, case: Case, what: str) -> CaseError:
        return CaseError(
            Code.LABEL_UNDECLARED,
            f"the bundle gives {what} for {case.id}; its metadata names "
            f"{', '.join(f'{value} {name}' for value, name in sorted(self.names.items()))}",
            "correct channel_def in the bundle's metadata.json",
        )


def _load(section: MonaiBundle, checkpoint: Path, device: str, files: Collection[Path]) -> _Loaded:
    """Read a bundle's configuration and its network; `files` are those that were accepted.

    Raises
    ------
    RunError
        MODEL_INVALID: it has other parts, or they do not fit its weights.
    """
    import torch
    from monai.bundle import ConfigParser
    from monai.transforms import Compose, SaveImage, SaveImaged

    path = section.bundle / section.config
    root = str(section.bundle.absolute())
    only_sources()
    sys.path.insert(0, root)  # where `monai.bundle run` finds its modules too
    try:
        parser = ConfigParser()
        parser.read_config(str(path))
        parser.read_meta(str(section.bundle / METADATA))
        require_own(parser.get(), files, set())
        parser["bundle_root"], parser["device"] = root, f"$torch.device('{device}')"
        parts = {name: parser.get_parsed_content(name) for name in COMPONENTS}
        if checkpoint.suffix == ".ts":
            network = torch.jit.load(str(checkpoint), map_location=device)
        else:
            named = next(name for name in NETWORKS if name in parser)
            network = parser.get_parsed_content(named).to(device)
            network.load_state_dict(_state(checkpoint, device))
        network.eval()
        post = parts["postprocessing"]
        steps = post.transforms if isinstance(post, Compose) else [post]
        kept = [step for step in steps if not isinstance(step, SaveImage | SaveImaged)]
        amp = bool(parser.get("evaluator", {}).get("amp", False))
        return _Loaded(network, parts["preprocessing"], parts["inferer"], Compose(kept), amp)
    except Exception as error:  # whatever the bundle's own code raises
        lines = str(error).strip().splitlines() or [""]
        raise RunError(
            Code.MODEL_INVALID,
            f"{path} cannot be used ({type(error).__name__}: {shown(lines[0])})",
            NEEDED,
        ) from error
    finally:
        sys.path.remove(root)


def _state(checkpoint: Path, device: str) -> Any:  # noqa: ANN401
    """Weights of a checkpoint, which may hold them under `model` as MONAI's handlers write it."""
    import torch

    state = torch.load(str(checkpoint), map_location=device, weights_only=True)
    return state["model"] if set(state) & {"model"} else state


def _as_nifti(image: Path, folder: Path, channel: str) -> Path:
    """The image itself where it is NIfTI that every reader places alike, else a copy that is."""
    geometry = read_geometry(image)
    if geometry.like(image) is not None and image.name.endswith((".nii", ".nii.gz")):
        return image
    copy = folder / f"{channel}.nii.gz"
    volume = read_volume(image)
    save_nifti(copy, volume.array, volume.grid, description="image for a bundle")
    return copy


def _grid_of(affine: Array, size: Sequence[int]) -> Grid:
    """Grid of an affine in RAS, mm, as MONAI has it: x grows to the right, y to the front."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    direction = lps[:3, :3] / spacing
    x, y, z = (int(side) for side in size)
    dx, dy, dz = spacing.tolist()
    ox, oy, oz = lps[:3, 3].tolist()
    return Grid((x, y, z), (dx, dy, dz), (ox, oy, oz), tuple(direction.reshape(-1).tolist()))


def _versions() -> dict[str, str]:
    """Version of MONAI, looked up without importing it.

    Raises
    ------
    RunError
        PROGRAM_MISSING: it is not installed.
    """
    try:
        return versions("monai")
    except PackageNotFoundError:
        raise RunError(
            Code.PROGRAM_MISSING,
            "a bundle needs MONAI, which is not installed",
            "pip install monai",
        ) from None

"""What TotalSegmentator's tasks are made of, read from the installed package, never copied."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backsplit.config.segmenters import TotalSegmentator
from backsplit.errors import Code, RunError
from backsplit.segment.network import Model
from backsplit.volume import Array
from backsplit.volume.intensity import is_ct

LICENCE_VARIABLE = "TOTALSEG_LICENSE_NUMBER"
ROUGH_TASK_IDS = (297, 298, 300, 852)
"""Networks that tasks with a crop run first (`python_api.totalsegmentator`)."""
FEWER_TILES = frozenset({"total", "total_v3", "total_mr"})
"""Tasks whose tiles overlap less (`nnunet.nnUNet_predict_image`: step 0.8 instead of 0.5)."""
OWN_POSTPROCESSING = frozenset({"vertebrae_pp", "vertebrae_pp_refined", "total_highres_test"})
ENGINE_KEYS = frozenset(
    {"task_id", "resample", "trainer", "model", "folds", "plans"}
    | {"commercial", "disallow_fast", "info_msg"}  # these say nothing of the labels
)
"""What an entry of the task table may hold for our engine to know all that it asks for."""


@dataclass(frozen=True)
class Part:
    """One network of a task: which, and its ids in those of the task."""

    model: Model
    to_task: Mapping[int, int] | None


@dataclass(frozen=True)
class Task:
    """A task that is networks with a resampling before and after.

    Attributes
    ----------
    name : as TotalSegmentator has it
    spacing_mm : (x, y, z) that the networks work at, or None for the image's own
    parts : its networks; where two label a voxel, the later one wins
    """

    name: str
    spacing_mm: tuple[float, float, float] | None
    parts: tuple[Part, ...]


def engine_task(config: TotalSegmentator, weights: Path, device: str) -> Task | None:
    """Give a task in the form that our engine runs; None where it asks for more than that.

    More is: a crop, a cascade, a post-processing of its own. Call it inside `private_home`.
    """
    try:
        return _engine_task(config, weights, device)
    except (KeyError, TypeError, ValueError, AttributeError, ImportError) as error:
        raise _other_shape(config.task, error) from None


def _engine_task(config: TotalSegmentator, weights: Path, device: str) -> Task | None:
    from totalsegmentator.map_tasks_config import DEFAULT_CONFIG, TASK_CONFIGS

    table = TASK_CONFIGS[config.task]
    form = "fast" if config.fast else "fastest" if config.fastest else "default"
    entry = table["sub_modes"][form] if "sub_modes" in table else table
    ids = task_ids(config)
    maps = _part_maps(config.task, ids) if len(ids) > 1 else {}
    if set(entry) - ENGINE_KEYS or config.task in OWN_POSTPROCESSING or (len(ids) > 1 and not maps):
        return None
    # as `python_api.get_task_config` puts them together, without what importing that costs
    chosen = {**DEFAULT_CONFIG, "plans": "nnUNetPlans", **entry}
    parts = []
    for task_id in ids:
        folder = find_dataset(weights, task_id)
        assert folder is not None, "the weights were looked for before"
        name = f"{chosen['trainer']}__{chosen['plans']}__{chosen['model']}"
        model = Model(
            folder=folder / name,
            folds=tuple(chosen["folds"]),
            device=device,
            step_size=0.8 if config.task in FEWER_TILES else 0.5,
            mirroring=False,
        )
        parts.append(Part(model, maps.get(task_id)))
    return Task(config.task, _spacing(chosen["resample"]), tuple(parts))


def _spacing(resample: Any) -> tuple[float, float, float] | None:  # noqa: ANN401
    if resample is None:
        return None
    values = resample if isinstance(resample, list | tuple) else [resample] * 3
    x, y, z = (float(value) for value in values)
    return (x, y, z)


def _part_maps(task: str, task_ids: Sequence[int]) -> dict[int, dict[int, int]]:
    """For each network of a task in parts: its ids to those of the task."""
    from totalsegmentator import map_to_binary as theirs

    tables = {
        "total": ("class_map_5_parts", "map_taskid_to_partname_ct"),
        "total_v3": ("class_map_5_parts_total_v3", "map_taskid_to_partname_ct_v3"),
        "total_mr": ("class_map_parts_mr", "map_taskid_to_partname_mr"),
    }
    if task not in tables:
        return {}
    parts, names = (getattr(theirs, name) for name in tables[task])
    ids = {name: value for value, name in theirs.class_map[task].items()}
    return {
        task_id: {int(own): ids[name] for own, name in parts[names[task_id]].items()}
        for task_id in task_ids
    }


def task_ids(config: TotalSegmentator) -> list[int]:
    """nnU-Net data set ids of a task's own networks, from the package's task table.

    Raises
    ------
    RunError
        MODEL_INVALID where the task has no such form (fast, fastest), or the table of a newer
        TotalSegmentator has another shape than the one this was written for.
    """
    from totalsegmentator.map_tasks_config import TASK_CONFIGS

    try:
        table = TASK_CONFIGS[config.task]
        wanted = "fast" if config.fast else "fastest" if config.fastest else "default"
        if wanted != "default" and wanted not in table.get("sub_modes", {}):
            raise RunError(
                Code.MODEL_INVALID,
                f"task {config.task!r} of TotalSegmentator has no form `{wanted}`",
                "remove the key",
            )
        entry = table["sub_modes"][wanted] if "sub_modes" in table else table
        ids = entry["task_id"]
        return [int(i) for i in ids] if isinstance(ids, list) else [int(ids)]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _other_shape(config.task, error) from None


def _other_shape(task: str, error: Exception) -> RunError:
    return RunError(
        Code.MODEL_INVALID,
        f"the task table of the installed TotalSegmentator has another shape than expected "
        f"({type(error).__name__}: {error}, task {task!r})",
        "install the version of envs/constraints.txt",
    )


def needed_ids(config: TotalSegmentator) -> list[int]:
    """Networks that a task runs: its own, and the rough ones that it crops with."""
    own = task_ids(config)
    return [*own, *(i for i in ROUGH_TASK_IDS if crops(config.task) and i not in own)]


def find_dataset(weights: Path, task_id: int) -> Path | None:
    """Folder of a network in a weights folder."""
    return next(iter(sorted(weights.glob(f"Dataset{task_id:03d}_*"))), None)


def modality_notes(task: str, image: Array) -> dict[str, str]:
    """Warn when an image can not be of the task's modality: CT holds air, MR nothing negative.

    What tells no CT by its lowest value is none, or is stored with an offset.
    """
    from totalsegmentator.registry import task_modality

    lowest = float(image.min())
    if task_modality(task) == "CT" and not is_ct(lowest):
        found = f"no value is below {lowest:g}, but CT in HU contains air"
    elif task_modality(task) == "MR" and is_ct(lowest):
        found = f"values go down to {lowest:g}, as in CT"
    else:
        return {}
    return {"warning": f"task {task!r} is for {task_modality(task)}, but {found}: look at it"}


def licence_number() -> str:
    """The licence number: from the environment, or from the user's own TotalSegmentator."""
    given = os.environ.get(LICENCE_VARIABLE, "")
    if given:
        return given
    try:
        own = json.loads((Path.home() / ".totalsegmentator" / "config.json").read_text("utf-8"))
        return str(own.get("license_number", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def crops(task: str) -> bool:
    """Whether a task runs a rough network first."""
    from totalsegmentator.map_tasks_config import TASK_CONFIGS

    return bool(TASK_CONFIGS[task].get("crop") or TASK_CONFIGS[task].get("cascade"))


@contextlib.contextmanager
def private_home(weights: Path) -> Iterator[None]:
    """Give TotalSegmentator a home of ours for a while: no usage statistics, no shared counter."""
    with tempfile.TemporaryDirectory(prefix="backsplit-ts-") as home:
        settings = {
            "totalseg_id": "backsplit",
            "send_usage_stats": False,
            "statistics_disclaimer_shown": True,
            "prediction_counter": 0,
        }
        number = licence_number()
        if number:
            settings["license_number"] = number
        (Path(home) / "config.json").write_text(json.dumps(settings), "utf-8")
        surroundings = {
            "TOTALSEG_HOME_DIR": home,
            "TOTALSEG_WEIGHTS_PATH": str(weights),
            "nnUNet_raw": str(weights),
            "nnUNet_preprocessed": str(weights),
            "nnUNet_results": str(weights),
        }
        with environment(surroundings):
            yield


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for a while."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            if name in before:
                os.environ[name] = before[name]
            else:
                os.environ.pop(name, None)

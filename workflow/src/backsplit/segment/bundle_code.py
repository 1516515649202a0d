"""Which files of a MONAI bundle may run as code, how no other is run, and what it must define."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from backsplit.errors import Code, RunError, shown

COMPONENTS = ("preprocessing", "inferer", "postprocessing")
"""What the configurations of MONAI's model zoo call their parts; `network_def` is the fourth."""

NETWORKS = ("network_def", "network")

NEEDED = (
    "it needs preprocessing, inferer, postprocessing and network_def, as MONAI's model zoo has "
    "them, and what they import"
)

MODULES = (".py", ".pyc", ".so", ".pyd", ".zip", ".egg", ".whl")
"""What Python imports."""

LOADED = (".pt", ".pth", ".ts", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz", ".onnx")
"""What a configuration may load from anywhere in its bundle; most of it can hold code."""


def may_run(path: Path) -> bool:
    """Whether a file of a bundle can be run, by its path from the bundle's folder.

    Python's own copies in `__pycache__` are left out: none is read (`only_sources`).
    """
    if "__pycache__" in path.parts:
        return False
    kind = path.suffix.lower()
    return path.parts[0] in ("configs", "models") or kind in (*MODULES, *LOADED)


def may_be_read(path: Path) -> bool:
    """Whether a file of a bundle may decide labels, by its path from the bundle's folder.

    What people read (`docs`, a licence, a read-me), what evaluating a bundle writes (`eval`), and
    hidden files of tools (`.git`) do not.
    """
    hidden = any(part.startswith(".") or part == "__pycache__" for part in path.parts)
    of_people = path.name.upper().startswith(("LICENSE", "LICENCE", "README"))
    return not (hidden or of_people or path.parts[0] in ("docs", "eval"))


def only_sources() -> None:
    """From now on import modules from their sources, which were accepted, not from `__pycache__`.

    A bundle may come with compiled modules that hold anything, whatever their sources say.
    """
    sys.pycache_prefix = os.devnull
    sys.dont_write_bytecode = True


def require_own(config: Any, files: Collection[Path], seen: set[Path]) -> None:  # noqa: ANN401
    """Refuse a configuration that takes parts (`%FILE#ID`) from files that are none of `files`.

    Raises
    ------
    ValueError
        It does.
    """
    from monai.bundle import ConfigParser

    if isinstance(config, dict | list):
        for part in config.values() if isinstance(config, dict) else config:
            require_own(part, files, seen)
    elif isinstance(config, str) and config.startswith("%"):
        named = ConfigParser.split_path_id(config[1:])[0]
        path = Path(named).resolve()
        if named and path not in seen:
            if path not in {file.resolve() for file in files}:
                raise ValueError(f"{named}, which it reads, is not a file of its bundle")
            seen.add(path)
            require_own(ConfigParser.load_config_file(named), files, seen)


def require_components(path: Path, *, scripted: bool) -> None:
    """Refuse a bundle's configuration that lacks a part, without running anything of it.

    Parameters
    ----------
    path : the configuration, JSON or YAML
    scripted : whether the weights hold their network, so that no other is needed

    Raises
    ------
    RunError
        MODEL_INVALID: it cannot be read, or lacks a part.
    """
    try:
        text = path.read_text("utf-8")
        config = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        lines = str(error).splitlines() or [""]
        what = f"{path} cannot be read ({shown(lines[0])})"
        remedy = "copy the bundle again, or correct `config`"
        raise RunError(Code.MODEL_INVALID, what, remedy) from None
    defined = set(config) if isinstance(config, dict) else set()
    lacking = [name for name in COMPONENTS if name not in defined]
    if not (scripted or defined & {*NETWORKS}):
        lacking.append(NETWORKS[0])
    if lacking:
        raise RunError(Code.MODEL_INVALID, f"{path} does not define {', '.join(lacking)}", NEEDED)

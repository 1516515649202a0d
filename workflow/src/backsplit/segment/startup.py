"""nnU-Net's predictor without what nnU-Net imports only to train: seconds of every job.

- It finds a model's trainer class by importing every trainer, with seaborn, timm and what else
  they train with. At inference only `build_network_architecture` is asked for. Where no class
  from the trainer up to nnUNetTrainer defines its own, nnUNetTrainer's is what would be called.
- It imports torch's compiler to recognise a compiled network. Unless `nnUNet_compile` asks for
  one, there is none.

Here that is three to four seconds; on a cluster's file system it is more.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

PREDICTOR = "nnunetv2.inference.predict_from_raw_data"
BASE = "nnUNetTrainer"
BUILDER = "build_network_architecture"
CLASS = re.compile(r"^class (\w+)\(", re.MULTILINE)


class PlainTrainer:
    """Stands for a trainer that builds its network as nnUNetTrainer does."""

    @staticmethod
    def build_network_architecture(
        plans_manager: Any,  # noqa: ANN401 (nnU-Net is untyped)
        configuration_manager: Any,  # noqa: ANN401
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> Any:  # noqa: ANN401
        """Build the network that the plans describe."""
        from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

        assert plans_manager is not None
        return get_network_from_plans(
            configuration_manager.network_arch_class_name,
            configuration_manager.network_arch_init_kwargs,
            configuration_manager.network_arch_init_kwargs_req_import,
            num_input_channels,
            num_output_channels,
            allow_init=True,
            deep_supervision=enable_deep_supervision,
        )


def predictor_module() -> Any:  # noqa: ANN401 (nnU-Net is untyped)
    """Import `nnunetv2.inference.predict_from_raw_data`, without torch's compiler if it may be."""
    import torch

    name = "torch._dynamo"
    wanted = os.environ.get("nnUNet_compile", "").lower() in ("true", "1", "t")  # noqa: SIM112
    if name not in sys.modules and not wanted:
        stand_in = ModuleType(name)
        stand_in.OptimizedModule = type("OptimizedModule", (torch.nn.Module,), {})  # type: ignore[attr-defined]
        sys.modules[name] = stand_in
        try:
            return import_module(PREDICTOR)
        except (ImportError, AttributeError):
            pass  # somebody needs more of it: import it all
        finally:
            del sys.modules[name]
    return import_module(PREDICTOR)


def trainer_finder(theirs: Callable[[str], Any]) -> Callable[[str], Any]:
    """Give a function that finds trainers by name, and asks nnU-Net's for all but plain ones."""
    return lambda name: PlainTrainer if is_plain(name) else theirs(name)


def is_plain(name: str, folder: Path | None = None) -> bool:
    """Whether a trainer of nnU-Net's own builds its network as nnUNetTrainer does.

    Read from the source, nothing is imported; whatever is unclear (a trainer of somebody's own, a
    name that stands twice, a base that is no plain name) is not plain.
    """
    seen = set()
    while name != BASE:
        found = list(_classes(name, folder or _trainers()))
        if len(found) != 1 or name in seen:
            return False
        seen.add(name)
        defined = {n.name for n in found[0].body if isinstance(n, ast.FunctionDef)}
        bases = found[0].bases
        if BUILDER in defined or len(bases) != 1 or not isinstance(bases[0], ast.Name):
            return False
        name = bases[0].id
    return True


def _trainers() -> Path:
    spec = find_spec("nnunetv2")
    assert spec is not None and spec.origin is not None, "nnunetv2 is a dependency"
    return Path(spec.origin).parent / "training" / "nnUNetTrainer"


def _classes(name: str, folder: Path) -> Iterator[ast.ClassDef]:
    """Definitions of a class of that name in the files of a folder."""
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text("utf-8")
        if name in CLASS.findall(text):
            for node in ast.parse(text).body:
                if isinstance(node, ast.ClassDef) and node.name == name:
                    yield node

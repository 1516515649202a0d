"""What is not imported at inference is not needed: held against nnU-Net itself."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys

import pytest
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from backsplit.segment.startup import PlainTrainer, _trainers, is_plain, trainer_finder

NAMES = sorted(
    {
        name
        for path in _trainers().rglob("*.py")
        for name in re.findall(r"^class (nnUNetTrainer\w*)\(", path.read_text(), re.MULTILINE)
    }
)


def test_plain_trainers_are_those_whose_builder_is_the_base_s():
    plain = [name for name in NAMES if is_plain(name)]
    assert {"nnUNetTrainerNoMirroring", "nnUNetTrainer_4000epochs_NoMirroring"} <= set(plain)
    assert len(plain) < len(NAMES)
    theirs = nnUNetTrainer.build_network_architecture
    for name in plain:
        found = recursive_find_trainer_class_by_name(name)
        assert found.build_network_architecture is theirs, name


def test_the_stand_in_does_what_the_base_does():
    def body(builder):
        text = inspect.getsource(builder)
        return re.sub(r"\s", "", text[text.index("return get_network_from_plans(") :]).rstrip(",)")

    ours, theirs = PlainTrainer.build_network_architecture, nnUNetTrainer.build_network_architecture
    assert body(ours) == body(theirs)
    assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)


@pytest.mark.parametrize(
    "source",
    [
        "class T(nnUNetTrainer):\n    def build_network_architecture(self): ...\n",
        "class T(Unknown):\n    pass\n",
        "class T(nnUNetTrainer, Mixin):\n    pass\n",
        "class T(module.nnUNetTrainer):\n    pass\n",
        "class T(T):\n    pass\n",
        "",
    ],
)
def test_what_is_unclear_is_left_to_nnunet(tmp_path, source):
    (tmp_path / "trainer.py").write_text(source)
    assert not is_plain("T", tmp_path)
    asked = []
    assert trainer_finder(asked.append)("SomebodysOwn") is None
    assert asked == ["SomebodysOwn"]


SCRIPT = """
import sys
from backsplit.segment.startup import predictor_module
module = predictor_module()
print("torch._dynamo" in sys.modules, "seaborn" in sys.modules, module.nnUNetPredictor.__name__)
import torch._dynamo
print(torch._dynamo.OptimizedModule.__module__)
"""


def test_torch_s_compiler_stays_out_unless_asked_for_and_is_whole_afterwards():
    def said(**extra):
        environment = {**os.environ, "nnUNet_results": os.devnull, **extra}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        return [line for line in done.stdout.splitlines() if "nnUNet_" not in line]

    assert said()[-2:] == ["False False nnUNetPredictor", "torch._dynamo.eval_frame"]
    assert said(nnUNet_compile="true")[-2].startswith("True")

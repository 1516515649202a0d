"""What runs each command and block that a document shows.

A command runs in tests/integration/test_document_commands.py, unless a list here names the test
that runs it, or the reason why none does.
"""

from __future__ import annotations

import re

from support.documents import Command, shown

CONTAINER = (
    "needs Docker or Apptainer; `make test-container` builds the same Dockerfile with Buildah"
)
DOWNLOAD = "needs the internet"
MACHINE = "says where files are on the reader's machine"
SETUP = "makes an environment, or writes in the checkout"
LONG = "takes minutes or longer, and is not part of `make test`"

NOT_RUN = {
    "apptainer build backsplit.sif docker-archive://backsplit.tar": CONTAINER,
    "apptainer exec --nv --bind DATA --env BACKSPLIT_WEIGHTS=DATA/weights backsplit.sif "
    "snakemake --snakefile /opt/source/Snakefile --configfile mine.yaml": CONTAINER,
    "docker build --file envs/Dockerfile --tag backsplit:0.1.0 .": CONTAINER,
    'docker run --rm --gpus all --user "$(id -u):$(id -g)" --env USER --env HOME=/data '
    '--volume "$PWD:/data" backsplit:0.1.0 '
    "snakemake --snakefile /opt/source/Snakefile --configfile mine.yaml": CONTAINER,
    "docker save backsplit:0.1.0 --output backsplit.tar": CONTAINER,
    "id -u": CONTAINER,
    "id -g": CONTAINER,
    "backsplit weights get": DOWNLOAD,
    "backsplit weights get TASK": DOWNLOAD,
    "backsplit weights get total": DOWNLOAD,
    "backsplit weights get total --fastest": DOWNLOAD,
    "git clone https://github.com/neheller/kits23": DOWNLOAD,
    "pip install --editable kits23": DOWNLOAD,
    "kits23_download_data": DOWNLOAD,
    "du -sh kits23/dataset": DOWNLOAD,
    "pip install 'highdicom>=0.26'": DOWNLOAD,
    "pip install TPTBox": DOWNLOAD,
    "pip install monai": DOWNLOAD,
    "pip install moosez": DOWNLOAD,
    "pip install mrsegmentator": DOWNLOAD,
    "pip install totalspineseg": DOWNLOAD,
    "pip install snakemake-executor-plugin-NAME": DOWNLOAD,
    "pip install -c envs/constraints.txt --editable '.[dev,slurm]'": DOWNLOAD,
    "snakemake --sdm conda": DOWNLOAD,
    "make links": DOWNLOAD,
    "export BACKSPLIT_WEIGHTS=/shared/weights": MACHINE,
    "export nnUNet_raw=$PWD/mine/results/datasets/nnunet "
    "nnUNet_preprocessed=$PWD/preprocessed nnUNet_results=$PWD/trained": MACHINE,
    "source .venv/bin/activate": MACHINE,
    "make demo": SETUP,
    "make pictures": SETUP,
    "make pins": SETUP,
    "make schema": SETUP,
    "make bench": LONG,
    "make study": LONG,
    "backsplit demo train": LONG,
    "backsplit demo train OUT": LONG,
    "python tests/benchmarks/faults.py": LONG,
    "make test-container": LONG,
    "make test-incremental": LONG,
    "make test-recipes": LONG,
    "make test-survival": LONG,
}
"""Command to the reason why no test runs it."""

STUDY = "tests/integration/test_study_whole.py::"
PACK = "tests/integration/test_train_pack.py::"
TRAIN = "tests/integration/test_training.py::test_nnunet_plans_trains_and_tells_of_the_lesions"
KITS = "tests/integration/test_start_to_data_set.py::test_the_commands_of_the_tutorial_on_kits23"
RUN_BY = {
    ".ci/run": ["make test", "make test-cluster"],
    ".github/workflows/ci.yml": ["make lint", "make docs"],
    "tests/cluster/test_slurm.py::test_batches_go_as_one_slurm_array_where_configured": [
        "backsplit run --workflow-profile profiles/slurm",
        "backsplit run -c mine/config.yaml --workflow-profile profiles/slurm",
        "scontrol show config",
    ],
    "tests/cluster/test_slurm.py::test_the_whole_workflow_with_a_gpu_for_each_network": [
        "snakemake --workflow-profile profiles/slurm --configfile mine.yaml",
    ],
    "tests/integration/test_demo.py::test_the_data_set_is_whole_and_lesions_intact": [
        "backsplit demo make",
        "backsplit demo make demo",
        "backsplit run --config demo/config.yaml",
    ],
    KITS: [
        "backsplit study plan",
        "backsplit study plan --config mine/config.yaml",
        "backsplit study plan --config study/config.yaml",
    ],
    f"{STUDY}test_every_arm_case_and_target_has_a_row": [
        "backsplit study compare",
        "backsplit study evaluate",
        "backsplit study predict",
        "snakemake --configfile mine/config.yaml study",
        "snakemake --configfile study/config.yaml study",
        "snakemake study",
    ],
    f"{STUDY}test_a_data_set_is_preprocessed_again_beside_those_of_the_arms": [
        "backsplit study preprocess"
    ],
    f"{STUDY}test_advice_of_a_study_and_of_a_data_set_without_one": ["backsplit study advise"],
    f"{STUDY}test_the_price_is_told_before_anything_is_trained": ["backsplit study plan --measure"],
    f"{STUDY}test_two_studies_share_the_networks_that_would_be_the_same": [
        "backsplit study labels",
        "backsplit study train",
    ],
    f"{PACK}test_nnunet_alone_predicts_the_same_with_a_packed_model": [
        "backsplit train pack MODEL OUT"
    ],
    f"{PACK}test_train_predict_finds_our_trainers_by_itself": [
        "backsplit train predict",
        "backsplit train predict MODEL OUT",
        "backsplit train predict trained/Dataset501_X/nnUNetTrainer__nnUNetPlans__3d_fullres "
        "predicted",
        "backsplit weights accept trained/Dataset501_X/nnUNetTrainer__nnUNetPlans__3d_fullres",
    ],
    TRAIN: [
        "backsplit train evaluate",
        "backsplit train evaluate FOLDER",
        "backsplit train evaluate trained/Dataset501_*/nnUNetTrainerBackSplit__nnUNetPlans__"
        "3d_fullres/fold_0/validation",
        "backsplit train extend",
        "backsplit train extend MODEL DATASET",
        "backsplit train plan",
        "export nnUNet_extTrainer=$(backsplit train trainers)",
        "nnUNetv2_train 501 3d_fullres 0 -tr nnUNetTrainerBackSplit",
    ],
    "tests/integration/test_view.py::test_the_command_says_where_and_how_from_elsewhere": [
        "backsplit view",
        "backsplit view CASE",
        "backsplit view phantom_01 --config demo/config.yaml",
    ],
    "tests/integration/test_wheel.py::test_it_makes_a_data_set_far_from_any_checkout": [
        "pip install ."
    ],
    "tests/survival/test_other_faults.py::test_a_lock_of_another_machine_is_removed_only_by_hand": [
        "snakemake --unlock"
    ],
    "tests/unit/test_scheme.py::": ["python -m pytest tests/unit/test_scheme.py"],
}
"""Test, or script, to commands that it runs, with files of its own."""

WHOLE = {
    "docs/training.md": TRAIN,
    "docs/tutorial-phantoms.md": "tests/integration/test_demo.py::"
    "test_the_tutorial_goes_on_with_a_structure_more",
}
"""Document to the test that runs all its blocks."""

STARTS = "tests/unit/test_document_init.py::test_a_command_starts_a_project_without_faults"
"""Runs every `backsplit init` that is shown with a folder."""

MINE = "tests/integration/test_document_commands.py::"
SCRIPT = "tests/integration/test_script.py::"
OTHER_BLOCKS = {
    ("CONTRIBUTING.md", "python", 3): "tests/integration/test_contributing.py::",
    ("README.md", "python", 1): f"{SCRIPT}test_the_example_of_the_readme_runs",
    ("docs/segmenters.md", "python", 1): "tests/unit/test_recipes.py::"
    "test_the_program_that_is_shown_labels",
    ("docs/training.md", "python", 1): "tests/integration/test_training.py::"
    "test_monai_trains_on_the_data_list",
    ("docs/module.md", "", 1): "tests/integration/test_module.py::"
    "test_a_workflow_from_git_makes_the_data_set_of_another_one",
    ("docs/own-data.md", "", 1): f"{MINE}finished",
    ("docs/results.md", "", 1): f"{MINE}test_a_run_leaves_what_is_listed",
    ("docs/review.md", "", 1): f"{MINE}test_the_decisions_that_are_shown_count",
    ("docs/tutorial-kits23.md", "", 2): "tests/unit/test_document_init.py::"
    "test_the_tutorial_on_kits23_shows_what_is_written_and_said",
    ("docs/tutorial-phantoms.md", "", 1): f"{MINE}test_the_demo_has_the_table_that_is_shown",
}
"""Blocks that are neither commands nor configurations, with their number, to what tests them."""

PLACEHOLDERS = {
    "CASE": "pt_001",
    "COMMAND": "check",
    "NAME": "tissue",
    "SEGMENTER": "organs",
    "ours": "tissue",
    "spleen": "organs",
    "mine.yaml": "mine/config.yaml",
    "…": "tissue",
}
"""Word of a command to what it is in the project in which the rest runs."""

COMPLETED = {"backsplit weights accept": "backsplit weights accept organs"}
ELSEWHERE = {line: test for test, lines in RUN_BY.items() for line in lines}
SUBPROCESS = ("python ", "snakemake ", "backsplit run", "backsplit --install-completion")


def commands() -> list[Command]:
    """All that the documents show; a single word within a sentence names a program."""
    return [command for command in shown() if command.whole or " " in command.line]


def run_by(command: Command) -> str | None:
    """The test that runs a command, or the reason why none does; None if it runs with the rest."""
    if found := ELSEWHERE.get(command.line) or NOT_RUN.get(command.line):
        return found
    if command.whole and command.document in WHOLE:
        return WHOLE[command.document]
    if command.line.startswith("backsplit init"):
        return STARTS
    return None


def here(command: Command) -> str:
    """A command with the names of the project in which the rest runs."""
    line = " ".join(PLACEHOLDERS.get(word, word) for word in command.line.split(" "))
    line = COMPLETED.get(line, line)
    return re.sub(r"^(backsplit .*)(-c|--config) \S+", r"\1\2 mine/config.yaml", line)


HERE = sorted({here(command) for command in commands() if run_by(command) is None})
"""The rest."""

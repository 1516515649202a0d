"""What the rules need to know of the configuration and the case table.

All logic lives in the package; here are its answers, and named helpers around them. What a
person writes (the case table, decisions) is no input of a rule: keys tell when it changes, and
Snakemake would refuse a file that a wrong clock has dated in the future.
"""

import os
from pathlib import Path

from snakemake.exceptions import WorkflowError

from backsplit.errors import BacksplitError
from backsplit.export.nnunet import dataset_folder
from backsplit.flow.engine import settle_project, start
from backsplit.flow.plan import Plan
from backsplit.flow.ready import require_ready

IS_MODULE = not workflow.modifier.is_main_snakefile()

try:
    PROJECT = settle_project(config, workflow.configfiles, is_module=IS_MODULE)
    CONFIG = PROJECT.config
    PLAN = Plan(PROJECT)
    BATCHES = list(PLAN.batches)
    START = start(PLAN) if workflow.is_main_process else None
except BacksplitError as error:
    raise WorkflowError(f"\n{error}") from None

# for envs/backsplit.post-deploy.sh, and for jobs
os.environ.update(BACKSPLIT_SOURCE=str(Path(str(workflow.current_basedir)).parent))
os.environ.update(PLAN.environment())

RESULTS = PROJECT.results.root.as_posix()
CONFIG_FILE = PROJECT.results.config
COMPOSED = "unrestricted" if CONFIG.export.only_unrestricted else "labels"
DATASET = f"{dataset_folder(CONFIG).as_posix()}/dataset.json"

# profiles/default prints by the plan, and of what is said only what is marked
if START is not None:
    logger.info("", extra={"backsplit_plan": PLAN})
    for note in START.notes:
        logger.info(note, extra={"backsplit": True})
    if START.problem is not None:
        if IS_MODULE:  # whose `onstart` is not called
            raise WorkflowError(f"\n{START.problem}")
        logger.warning(str(START.problem), extra={"backsplit_later": True})


onstart:
    if START is not None:
        try:
            if START.problem is not None:
                raise START.problem
            require_ready(PROJECT, local=workflow.local_exec)
        except BacksplitError as error:
            raise WorkflowError(f"\n{error}") from None


pathvars:
    results=RESULTS,
    logs=f"{RESULTS}/logs",
    benchmarks=f"{RESULTS}/benchmarks",


wildcard_constraints:
    batch=r"\d{5}",
    segmenter="|".join(map(re.escape, CONFIG.used_segmenters)),


def key_of(stage, *names):
    """The parameter `key` of a rule: it changes when what the job is made from does.

    `names` are the rule's wildcards that tell its jobs apart, as the plan takes them.
    """
    make = getattr(PLAN, f"{stage}_key")

    def key(wildcards):
        return make(*(getattr(wildcards, name) for name in names))

    return key


def segment_gpus(wildcards):
    """One GPU for a network, none for what needs none."""
    network = CONFIG.segmenters[wildcards.segmenter].is_network
    return int(network and CONFIG.run.device != "cpu")


def segment_threads(wildcards):
    """Cores for reading and preparing ahead, and for a network without a GPU."""
    return 4 if CONFIG.segmenters[wildcards.segmenter].is_network else 1


def weight_of_cases(minutes_a_case):
    """Minutes that a job may take: a start-up, and so many for each of its cases."""

    def runtime(wildcards, attempt):
        return attempt * (30 + minutes_a_case * len(PLAN.batches[wildcards.batch]))

    return runtime


def more(amount):
    """Memory (MB) or time (minutes) that grows with each attempt."""

    def grown(wildcards, attempt):
        return attempt * amount

    return grown

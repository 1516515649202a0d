"""What the rules need to know of the configuration and the case table.

All logic lives in the package; here are its answers, and named helpers around them.
"""

from pathlib import Path

from snakemake.exceptions import WorkflowError

from backsplit.errors import BacksplitError, CaseError
from backsplit.export.nnunet import dataset_folder
from backsplit.plan import Plan, forget_incomplete, settle_config

try:
    CONFIG, CONFIG_FILE = settle_config(config, workflow.configfiles)
    PLAN = Plan(CONFIG)
    BATCHES = list(PLAN.batches)
except (BacksplitError, CaseError) as error:
    raise WorkflowError(f"\n{error}") from None

RESULTS = CONFIG.run.results.as_posix()
COMPOSED = "unrestricted" if CONFIG.export.only_unrestricted else "labels"
DATASET = f"{dataset_folder(CONFIG).as_posix()}/dataset.json"

if workflow.is_main_process:
    for path in forget_incomplete(PLAN):
        logger.info(f"{path} is out of date or names results that are gone")


pathvars:
    results=RESULTS,
    logs=f"{RESULTS}/logs",
    benchmarks=f"{RESULTS}/benchmarks",


wildcard_constraints:
    batch=r"\d{5}",
    segmenter="|".join(map(re.escape, CONFIG.used_segmenters)),


def segment_key(wildcards):
    return PLAN.segment_key(wildcards.segmenter, wildcards.batch)


def check_key(wildcards):
    return PLAN.check_key(wildcards.batch)


def decisions():
    """A person's verdicts, where there are any; a change of them judges the data set again."""
    path = CONFIG.decisions_path
    return [path.as_posix()] if path.exists() else []


def segment_gpus(wildcards):
    """One GPU for a network, none for what needs none."""
    kind = CONFIG.segmenters[wildcards.segmenter].kind
    return int(kind in ("totalsegmentator", "nnunet") and CONFIG.run.device != "cpu")


def weight_of_cases(minutes_a_case):
    """Minutes that a job may take: a start-up, and so many for each of its cases."""

    def runtime(wildcards, attempt):
        return attempt * (30 + minutes_a_case * len(PLAN.batches[wildcards.batch]))

    return runtime


def more_memory(mem_mb):
    """Memory that grows with each attempt."""

    def memory(wildcards, attempt):
        return attempt * mem_mb

    return memory

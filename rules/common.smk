"""What the rules need to know of the configuration and the case table.

All logic lives in the package; here are its answers, and named helpers around them. What a
person writes (the case table, decisions) is no input of a rule: keys tell when it changes, and
Snakemake would refuse a file that a wrong clock has dated in the future.
"""

import os
import socket
from pathlib import Path

from snakemake.exceptions import WorkflowError

from backsplit.errors import BacksplitError
from backsplit.export.nnunet import dataset_folder
from backsplit.flow.engine import (
    date_back,
    forget_incomplete,
    settle_config,
    write_config,
)
from backsplit.flow.plan import Plan
from backsplit.store.disk import remove_leftovers
from backsplit.store.locks import claim_run

try:
    CONFIG, CONFIG_FILE = settle_config(config, workflow.configfiles)
    PLAN = Plan(CONFIG)
    BATCHES = list(PLAN.batches)
except BacksplitError as error:
    raise WorkflowError(f"\n{error}") from None

# for envs/backsplit.post-deploy.sh
os.environ.update(BACKSPLIT_SOURCE=str(Path(str(workflow.current_basedir)).parent))

RESULTS = CONFIG.run.results.as_posix()
COMPOSED = "unrestricted" if CONFIG.export.only_unrestricted else "labels"
DATASET = f"{dataset_folder(CONFIG).as_posix()}/dataset.json"


def release_lock_of_a_killed_run():
    """Remove the lock that Snakemake keeps when it is killed, where that is known to be so.

    No other run is at work on the results: they are claimed. Only a lock made on this machine is
    judged, because a disk may be shared and not share its locks; of any other one Snakemake says
    what to do. Locks of other workflows name files that are not ours.
    """
    folder = Path(".snakemake/locks")
    machine = folder / "machine"
    locks = [
        lock
        for lock in folder.glob("*.lock")
        if all(name.startswith(f"{RESULTS}/") for name in lock.read_text().splitlines())
    ]
    if locks and (not machine.exists() or machine.read_text() != socket.gethostname()):
        return
    for lock in locks:
        lock.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    machine.write_text(socket.gethostname())


if workflow.is_main_process:
    CLAIM = claim_run(CONFIG.run.results)
    if CLAIM.problem is not None:
        logger.warning(str(CLAIM.problem))
    else:
        if CLAIM.certain:
            release_lock_of_a_killed_run()
        try:
            write_config(CONFIG, CONFIG_FILE)
            for path in remove_leftovers(CONFIG.run.results):
                logger.info(f"{path} was left by a killed job and is removed")
            for path in date_back(CONFIG.run.results):
                logger.info(f"{path} was dated in the future and is dated now")
            for path in forget_incomplete(PLAN):
                logger.info(f"{path} is out of date or names results that are gone")
        except BacksplitError as error:
            raise WorkflowError(f"\n{error}") from None


onstart:
    if CLAIM.problem is not None:
        raise WorkflowError(f"\n{CLAIM.problem}")


pathvars:
    results=RESULTS,
    logs=f"{RESULTS}/logs",
    benchmarks=f"{RESULTS}/benchmarks",


wildcard_constraints:
    batch=r"\d{5}",
    segmenter="|".join(map(re.escape, CONFIG.used_segmenters)),


def check_key(wildcards):
    return PLAN.check_key(wildcards.batch)


def cases_key(wildcards):
    return PLAN.cases_key()


def segment_key(wildcards):
    return PLAN.segment_key(wildcards.segmenter, wildcards.batch)


def compose_key(wildcards):
    return PLAN.compose_key(wildcards.batch)


def unrestricted_key(wildcards):
    return PLAN.unrestricted_key(wildcards.batch)


def judge_key(wildcards):
    return PLAN.judge_key()


def export_key(wildcards):
    return PLAN.export_key()


def manifest_key(wildcards):
    return PLAN.manifest_key()


def report_key(wildcards):
    return PLAN.report_key()


def is_network(segmenter):
    """Whether a segmenter is a network."""
    return CONFIG.segmenters[segmenter].kind in ("totalsegmentator", "nnunet")


def segment_gpus(wildcards):
    """One GPU for a network, none for what needs none."""
    return int(is_network(wildcards.segmenter) and CONFIG.run.device != "cpu")


def segment_threads(wildcards):
    """Cores for reading and preparing ahead, and for a network without a GPU."""
    return 4 if is_network(wildcards.segmenter) else 1


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

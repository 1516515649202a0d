"""What the rules of the study need to know of it; helpers only, as in common.smk."""

from backsplit.flow.study import StudyProject, forget_networks_that_are_gone
from backsplit.flow.study_keys import StudyKeys

STUDY = StudyProject(PROJECT)
STUDY_KEYS = StudyKeys(PLAN, STUDY)
JOB = "<results>/study/jobs/{arm}/fold_{fold}_seed_{seed}"

if START is not None and START.problem is None and CONFIG.study is not None:
    forget_networks_that_are_gone(STUDY)


def study_key(stage, *names):
    """The parameter `key` of a rule of the study, as `key_of` is that of a rule of the data set."""

    def key(wildcards):
        given = [getattr(wildcards, name) for name in names]
        return getattr(STUDY_KEYS, stage)(*given[:1], *map(int, given[1:]))

    return key


def of_every_job(name):
    """A file of every training of the study."""

    def files(wildcards):
        try:
            jobs = STUDY.jobs
        except BacksplitError as error:
            raise WorkflowError(f"\n{error}") from None
        folder = JOB.replace("<results>", RESULTS)
        return [
            f"{folder}/{name}".format(arm=job.arm.name, fold=job.fold, seed=job.seed)
            for job in jobs
        ]

    return files


def networks_before(wildcards):
    """The notes of the networks that are trained first: what it starts from, or would train again."""
    folder = JOB.replace("<results>", RESULTS)
    note = f"{folder}/trained.json"
    return [
        note.format(arm=arm, fold=wildcards.fold, seed=wildcards.seed)
        for arm in STUDY_KEYS.before(wildcards.arm)
    ]


def study_gpus(wildcards):
    """One GPU, unless the configuration says that there is none."""
    return int(CONFIG.run.device != "cpu")


def study_threads(wildcards):
    """The training, and the processes that make its patches."""
    return 1 + STUDY.study.augmenters

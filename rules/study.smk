"""Train arms that differ in their labels alone, and compare them; only when `study` is asked for.

in:  results/datasets/nnunet, the lesion files
out: results/study
"""

from backsplit.flow.study import StudyProject, forget_networks_that_are_gone
from backsplit.flow.study_keys import StudyKeys

STUDY = StudyProject(PROJECT)
STUDY_KEYS = StudyKeys(PLAN, STUDY)
JOB = "<results>/study/jobs/{arm}/fold_{fold}_seed_{seed}"

if START is not None and START.problem is None and CONFIG.study is not None:
    forget_networks_that_are_gone(STUDY)


wildcard_constraints:
    arm=r"[A-Za-z][A-Za-z0-9_.-]*",
    fold=r"\d+",
    seed=r"\d+",


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


def network_before(wildcards):
    """The note of the network that an arm starts from, where it does."""
    start = STUDY.arm(wildcards.arm).start
    folder = JOB.replace("<results>", RESULTS)
    note = f"{folder}/trained.json"
    return (
        [note.format(arm=start, fold=wildcards.fold, seed=wildcards.seed)]
        if start
        else []
    )


def study_gpus(wildcards):
    """One GPU, unless the configuration says that there is none."""
    return int(CONFIG.run.device != "cpu")


def study_threads(wildcards):
    """The training, and the processes that make its patches."""
    return 1 + STUDY.study.augmenters


rule study:
    """Whether splitting the background helps on this data set."""
    input:
        "<results>/study/report/index.html",


rule study_preprocess:
    """Make one plan for all arms, and preprocess the images once."""
    input:
        DATASET,
    output:
        "<results>/study/plan.json",
    log:
        "<logs>/study/preprocess.log",
    benchmark:
        "<benchmarks>/study/preprocess.tsv"
    conda:
        "../envs/backsplit.yaml"
    threads: 4
    resources:
        mem_mb=more(16000),
        runtime=more(720),
    params:
        config=CONFIG_FILE,
        key=study_key("preprocess"),
    shell:
        "backsplit study preprocess --config {params.config:q} --processes {threads}"
        " --log {log:q}"


rule study_labels:
    """Make the data set of an arm; lesions are the same voxels in every arm."""
    input:
        "<results>/study/plan.json",
    output:
        "<results>/study/arms/{arm}.json",
    log:
        "<logs>/study/labels/{arm}.log",
    benchmark:
        "<benchmarks>/study/labels/{arm}.tsv"
    conda:
        "../envs/backsplit.yaml"
    threads: 1
    resources:
        mem_mb=more(8000),
        runtime=more(240),
    params:
        config=CONFIG_FILE,
        key=study_key("labels", "arm"),
    shell:
        "backsplit study labels --arm {wildcards.arm:q} --config {params.config:q} --log {log:q}"


rule study_train:
    """Train an arm on a fold with a seed; a job that was cut off goes on where it was."""
    input:
        network_before,
        "<results>/study/arms/{arm}.json",
    output:
        f"{JOB}/trained.json",
    log:
        "<logs>/study/train/{arm}/fold_{fold}_seed_{seed}.log",
    benchmark:
        "<benchmarks>/study/train/{arm}/fold_{fold}_seed_{seed}.tsv"
    conda:
        "../envs/backsplit.yaml"
    threads: study_threads
    resources:
        gpu=study_gpus,
        mem_mb=more(32000),
        runtime=more(1440),
    params:
        config=CONFIG_FILE,
        key=study_key("train", "arm", "fold", "seed"),
    shell:
        "backsplit study train --arm {wildcards.arm:q} --fold {wildcards.fold}"
        " --seed {wildcards.seed} --config {params.config:q} --log {log:q}"


rule study_predict:
    """Predict the cases that a training's fold validates."""
    input:
        f"{JOB}/trained.json",
    output:
        f"{JOB}/predicted.json",
    log:
        "<logs>/study/predict/{arm}/fold_{fold}_seed_{seed}.log",
    benchmark:
        "<benchmarks>/study/predict/{arm}/fold_{fold}_seed_{seed}.tsv"
    conda:
        "../envs/backsplit.yaml"
    threads: 4
    resources:
        gpu=study_gpus,
        mem_mb=more(16000),
        runtime=more(480),
    params:
        config=CONFIG_FILE,
        key=study_key("predict", "arm", "fold", "seed"),
    shell:
        "backsplit study predict --arm {wildcards.arm:q} --fold {wildcards.fold}"
        " --seed {wildcards.seed} --config {params.config:q} --log {log:q}"


rule study_evaluate:
    """Score the predictions of a training against the lesions as they were drawn."""
    input:
        f"{JOB}/predicted.json",
    output:
        f"{JOB}/lesions.parquet",
        f"{JOB}/scores.parquet",
    log:
        "<logs>/study/evaluate/{arm}/fold_{fold}_seed_{seed}.log",
    benchmark:
        "<benchmarks>/study/evaluate/{arm}/fold_{fold}_seed_{seed}.tsv"
    conda:
        "../envs/backsplit.yaml"
    threads: 2
    resources:
        mem_mb=more(8000),
        runtime=more(240),
    params:
        config=CONFIG_FILE,
        key=study_key("evaluate", "arm", "fold", "seed"),
    shell:
        "backsplit study evaluate --arm {wildcards.arm:q} --fold {wildcards.fold}"
        " --seed {wildcards.seed} --threads {threads} --config {params.config:q} --log {log:q}"


rule study_compare:
    """Gather all scores, compare the arms, and write the page."""
    input:
        of_every_job("scores.parquet"),
    output:
        "<results>/study/scores.parquet",
        "<results>/study/lesions.parquet",
        "<results>/study/curves.parquet",
        "<results>/study/jobs.tsv",
        "<results>/study/report/arms.tsv",
        "<results>/study/report/figure.png",
        "<results>/study/report/index.html",
    log:
        "<logs>/study/compare.log",
    benchmark:
        "<benchmarks>/study/compare.tsv"
    conda:
        "../envs/backsplit.yaml"
    threads: 1
    resources:
        mem_mb=more(8000),
        runtime=more(60),
    params:
        config=CONFIG_FILE,
        key=study_key("compare"),
    shell:
        "backsplit study compare --config {params.config:q} --log {log:q}"

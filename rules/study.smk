"""Train arms that differ in their labels alone, and compare them; only when `study` is asked for.

in:  results/datasets/nnunet, the lesion files
out: results/study
"""


wildcard_constraints:
    arm=r"[A-Za-z][A-Za-z0-9_.-]*",
    fold=r"\d+",
    seed=r"\d+",


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
        networks_before,
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

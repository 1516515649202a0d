"""Measure every structure, flag what is wrong, give every case a verdict.

in:  the images, results/labels
out: results/qc
"""


rule measure:
    """Measure one batch of cases and draw a picture of each."""
    input:
        "<results>/labels/{batch}.tsv",
    output:
        "<results>/qc/cases/{batch}.tsv",
    log:
        "<logs>/measure/{batch}.log",
    benchmark:
        "<benchmarks>/measure/{batch}.tsv"
    conda:
        "../envs/backsplit.yaml"
    threads: 1
    resources:
        mem_mb=more(8000),
        runtime=weight_of_cases(2),
    params:
        config=CONFIG_FILE,
        key=key_of("measure", "batch"),
        pictures=CONFIG.run.pictures,
    shell:
        "backsplit measure --config {params.config:q} --batch {wildcards.batch} --log {log:q}"


rule judge:
    """Gather all cases; every case of the table gets a verdict."""
    input:
        expand("<results>/qc/cases/{batch}.tsv", batch=BATCHES),
        cases="<results>/cases.tsv",
    output:
        "<results>/labels/status.parquet",
        "<results>/qc/measures.parquet",
        "<results>/qc/lesions.parquet",
        "<results>/qc/agreement.parquet",
        "<results>/qc/drawn.parquet",
        "<results>/qc/parts.parquet",
        "<results>/qc/burden.tsv",
        report(
            "<results>/qc/flags.tsv",
            caption="../workflow/report/flags.rst",
            category="Cases",
            labels={"what": "flags"},
        ),
        report(
            "<results>/qc/verdicts.tsv",
            caption="../workflow/report/verdicts.rst",
            category="Cases",
            labels={"what": "verdicts"},
        ),
    log:
        "<logs>/judge.log",
    benchmark:
        "<benchmarks>/judge.tsv"
    conda:
        "../envs/backsplit.yaml"
    threads: 1
    resources:
        mem_mb=more(4000),
        runtime=more(60),
    params:
        config=CONFIG_FILE,
        key=key_of("judge"),
    shell:
        "backsplit judge --config {params.config:q} --log {log:q}"

"""Check every row of the case table before any GPU time is spent.

in:  the case table, headers of the images, the lesion files
out: results/cases.tsv, results/labels/labels.json, one status table a batch
"""


rule check:
    """Give every case of a batch a status; a bad one is refused, never dropped."""
    output:
        "<results>/check/{batch}.tsv",
    log:
        "<logs>/check/{batch}.log",
    benchmark:
        "<benchmarks>/check/{batch}.tsv"
    conda:
        "../envs/backsplit.yaml"
    threads: 2
    resources:
        mem_mb=more(8000),
        runtime=weight_of_cases(1),
    params:
        config=CONFIG_FILE,
        key=key_of("check", "batch"),
    shell:
        "backsplit check --config {params.config:q} --batch {wildcards.batch}"
        " --threads {threads} --log {log:q}"


rule cases:
    """Gather the status of every case, and the ids of every label."""
    input:
        expand("<results>/check/{batch}.tsv", batch=BATCHES),
    output:
        "<results>/cases.tsv",
        "<results>/labels/labels.json",
    log:
        "<logs>/cases.log",
    benchmark:
        "<benchmarks>/cases.tsv"
    conda:
        "../envs/backsplit.yaml"
    threads: 1
    resources:
        mem_mb=more(2000),
        runtime=more(30),
    params:
        config=CONFIG_FILE,
        key=key_of("cases"),
    shell:
        "backsplit cases --config {params.config:q} --log {log:q}"

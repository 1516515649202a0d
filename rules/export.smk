"""Write the data set in the trainers' own layouts.

in:  the images, results/labels, results/qc/verdicts.tsv
out: results/datasets
"""


rule export:
    """Write nnU-Net's raw layout, and from its files what else is asked for."""
    input:
        "<results>/qc/verdicts.tsv",
        "<results>/labels/labels.json",
        expand("<results>/{composed}/{batch}.tsv", composed=COMPOSED, batch=BATCHES),
    output:
        DATASET,
    log:
        "<logs>/export.log",
    benchmark:
        "<benchmarks>/export.tsv"
    conda:
        "../envs/backsplit.yaml"
    threads: 1
    resources:
        mem_mb=more(4000),
        runtime=more(240),
    params:
        config=CONFIG_FILE,
        key=key_of("export"),
    shell:
        "backsplit export --config {params.config:q} --log {log:q}"

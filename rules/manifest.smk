"""Say what the data set was made from, by what, under which licences; list every file.

in:  the data sets, sidecars of all stages, results/qc/verdicts.tsv
out: results/manifest.json, and results/manifest.parquet with a row for every file
"""


rule manifest:
    """Write the manifest; `backsplit verify` holds the disk against it."""
    input:
        DATASET,
        "<results>/qc/verdicts.tsv",
        "<results>/cases.tsv",
    output:
        "<results>/manifest.json",
    log:
        "<logs>/manifest.log",
    benchmark:
        "<benchmarks>/manifest.tsv"
    conda:
        "../envs/backsplit.yaml"
    threads: 2
    resources:
        mem_mb=more(4000),
        runtime=more(240),
    params:
        config=CONFIG_FILE,
        key=key_of("manifest"),
    shell:
        "backsplit manifest --config {params.config:q} --log {log:q}"

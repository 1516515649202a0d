"""Write the report: what came out, what went wrong, a picture of every case.

in:  results/qc, results/labels
out: results/report/index.html
"""


rule report:
    """Write one page that opens offline."""
    input:
        "<results>/qc/verdicts.tsv",
        "<results>/qc/flags.tsv",
        "<results>/qc/measures.parquet",
        "<results>/cases.tsv",
        DATASET,
    output:
        report("<results>/report/index.html", caption="../workflow/report/report.rst"),
    log:
        "<logs>/report.log",
    benchmark:
        "<benchmarks>/report.tsv"
    conda:
        "../envs/backsplit.yaml"
    threads: 1
    resources:
        mem_mb=more_memory(4000),
        runtime=60,
    params:
        config=CONFIG_FILE,
        key=report_key,
    shell:
        "backsplit report --config {params.config:q} --log {log:q}"

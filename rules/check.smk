"""Check the configuration and every row of the case table.

in:  the case table
out: results/cases.tsv, results/labels/labels.json
"""


rule check:
    """Give every case a status before any GPU time is spent."""
    input:
        CONFIG.dataset.cases,
    output:
        cases="<results>/cases.tsv",
        labels="<results>/labels/labels.json",
    log:
        "<logs>/check.log",
    benchmark:
        "<benchmarks>/check.tsv"
    conda:
        "../envs/backsplit.yaml"
    threads: 4
    resources:
        mem_mb=more_memory(8000),
        runtime=240,
    params:
        config=CONFIG_FILE,
        key=PLAN.table_key(),
        structures=CONFIG.model_dump_json(include={"structures", "segmenters"}),
    shell:
        "backsplit check --config {params.config:q} --threads {threads} --log {log:q}"

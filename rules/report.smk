"""Write the report: what came out, what went wrong, a picture of every case.

in:  results/qc, results/labels; for the cases to look at also the images and results/segment
out: results/report
"""


rule pages:
    """Draw a page for each case to review or rejected; those that still hold stay."""
    input:
        "<results>/qc/verdicts.tsv",
        "<results>/qc/flags.tsv",
        "<results>/qc/measures.parquet",
        "<results>/qc/lesions.parquet",
        "<results>/qc/agreement.parquet",
        "<results>/cases.tsv",
    output:
        "<results>/report/cases/status.tsv",
    log:
        "<logs>/pages.log",
    benchmark:
        "<benchmarks>/pages.tsv"
    conda:
        "../envs/backsplit.yaml"
    threads: 4
    resources:
        mem_mb=more(12000),
        runtime=more(240),
    params:
        config=CONFIG_FILE,
        key=key_of("report"),
    shell:
        "backsplit pages --config {params.config:q} --threads {threads} --log {log:q}"


rule report:
    """Write one page that opens offline, and its figures."""
    input:
        "<results>/qc/verdicts.tsv",
        "<results>/qc/flags.tsv",
        "<results>/qc/measures.parquet",
        "<results>/cases.tsv",
        "<results>/report/cases/status.tsv",
        DATASET,
    output:
        report(
            "<results>/report/index.html",
            caption="../workflow/report/report.rst",
            category="Report",
            labels={"what": "the whole report"},
        ),
        report(
            "<results>/report/figures/distributions.svg",
            caption="../workflow/report/distributions.rst",
            category="Structures",
            labels={"what": "distributions of volume and intensity"},
        ),
        report(
            "<results>/report/figures/overruled.svg",
            caption="../workflow/report/overruled.rst",
            category="Structures",
            labels={"what": "who was overruled by whom"},
        ),
        report(
            "<results>/report/tables/lesions.tsv",
            caption="../workflow/report/lesions.rst",
            category="Lesions",
            labels={"what": "lesions"},
        ),
    log:
        "<logs>/report.log",
    benchmark:
        "<benchmarks>/report.tsv"
    conda:
        "../envs/backsplit.yaml"
    threads: 1
    resources:
        mem_mb=more(4000),
        runtime=more(60),
    params:
        config=CONFIG_FILE,
        key=key_of("report"),
    shell:
        "backsplit report --config {params.config:q} --log {log:q}"

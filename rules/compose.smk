"""Put lesions and anatomy on one label map per case.

in:  the lesion files, results/segment
out: results/labels/<case>.nii.gz + .json, one status table a batch;
     results/unrestricted likewise, where export.only_unrestricted asks for it
"""


rule compose:
    """Compose one batch of cases; every promise is held against the written file."""
    input:
        expand(
            "<results>/segment/{segmenter}/{{batch}}.tsv",
            segmenter=CONFIG.used_segmenters,
        ),
        "<results>/check/{batch}.tsv",
    output:
        "<results>/labels/{batch}.tsv",
    log:
        "<logs>/compose/{batch}.log",
    benchmark:
        "<benchmarks>/compose/{batch}.tsv"
    conda:
        "../envs/backsplit.yaml"
    threads: 1
    resources:
        mem_mb=more(6000),
        runtime=weight_of_cases(2),
    params:
        config=CONFIG_FILE,
        key=key_of("compose", "batch"),
    shell:
        "backsplit compose --config {params.config:q} --batch {wildcards.batch} --log {log:q}"


rule compose_unrestricted:
    """Compose one batch of cases without segmenters that may not be used commercially."""
    input:
        expand(
            "<results>/segment/{segmenter}/{{batch}}.tsv",
            segmenter=CONFIG.used_segmenters,
        ),
        "<results>/check/{batch}.tsv",
    output:
        "<results>/unrestricted/{batch}.tsv",
    log:
        "<logs>/unrestricted/{batch}.log",
    benchmark:
        "<benchmarks>/unrestricted/{batch}.tsv"
    conda:
        "../envs/backsplit.yaml"
    threads: 1
    resources:
        mem_mb=more(6000),
        runtime=weight_of_cases(2),
    params:
        config=CONFIG_FILE,
        key=key_of("unrestricted", "batch"),
    shell:
        "backsplit compose --only-unrestricted --config {params.config:q}"
        " --batch {wildcards.batch} --log {log:q}"

"""Label anatomy with every segmenter that a structure asks for.

in:  results/check, the images
out: results/segment/<segmenter>/<case>.nii.gz + .json, one status table a batch
"""


rule segment:
    """Label one batch of cases with one segmenter; the network loads once."""
    input:
        "<results>/check/{batch}.tsv",
    output:
        "<results>/segment/{segmenter}/{batch}.tsv",
    log:
        "<logs>/segment/{segmenter}/{batch}.log",
    benchmark:
        "<benchmarks>/segment/{segmenter}/{batch}.tsv"
    conda:
        "../envs/backsplit.yaml"
    threads: segment_threads
    resources:
        gpu=segment_gpus,
        mem_mb=more(16000),
        runtime=weight_of_cases(10),
    params:
        config=CONFIG_FILE,
        key=key_of("segment", "segmenter", "batch"),
    shell:
        "backsplit segment {wildcards.segmenter:q} --config {params.config:q}"
        " --batch {wildcards.batch} --log {log:q}"

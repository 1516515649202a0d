"""From images with lesion labels to a BackSplit data set; see README.md.

snakemake                                   the embedded demo (make it first: backsplit demo make)
snakemake --configfile my.yaml              a data set of one's own
"""

from snakemake.utils import min_version

min_version("9.14")


# A file given on the command line replaces the demo's; merged, the demo would leak into it.
if not config:

    configfile: "config/config.yaml"


include: "rules/common.smk"
include: "rules/check.smk"
include: "rules/segment.smk"
include: "rules/compose.smk"
include: "rules/qc.smk"
include: "rules/export.smk"
include: "rules/report.smk"
include: "rules/manifest.smk"


rule all:
    """A finished data set, the report on how it came to be, and every label map on the way."""
    default_target: True
    input:
        expand("<results>/segment/{s}/{b}.tsv", s=CONFIG.used_segmenters, b=BATCHES),
        expand("<results>/labels/{b}.tsv", b=BATCHES),
        DATASET,
        "<results>/report/index.html",
        "<results>/manifest.json",

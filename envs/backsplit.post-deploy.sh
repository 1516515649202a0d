#!/bin/sh
# Snakemake runs this in the new environment. Editable, so that it is always the version of the
# rules that call it; the Snakefile says where they lie.
set -eu
python -m pip install --quiet --no-deps --editable "$BACKSPLIT_SOURCE"

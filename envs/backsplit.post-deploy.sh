#!/bin/sh
# Snakemake runs this in the new environment; the Snakefile says where backsplit's source is.
# Editable: the environment goes on with that checkout, whatever becomes of it, and with no other.
set -eu
if [ ! -f "$BACKSPLIT_SOURCE/pyproject.toml" ]; then
    echo "--sdm conda needs a checkout of backsplit: run the Snakefile of one" >&2
    exit 1
fi
python -m pip install --quiet --no-deps --editable "$BACKSPLIT_SOURCE"

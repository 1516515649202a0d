#!/bin/sh
# Snakemake runs this in the new environment; the Snakefile says where backsplit's source lies.
# Editable: the environment goes on with that checkout, whatever becomes of it, and with no other.
set -eu
python -m pip install --quiet --no-deps --editable "$BACKSPLIT_SOURCE"

# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
CORES ?= all
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export NO_MKDOCS_2_WARNING := 1
INSTALLED := .venv/.installed

.PHONY: demo study test coverage docs links pictures test-search test-cluster test-browser test-container test-recipes test-survival test-incremental test-mutation lint unit bench schema pins clean

demo: $(INSTALLED)  ## the whole pipeline on six phantoms
	backsplit demo make demo
	snakemake --cores $(CORES)
	@echo
	@echo "data set: $$(ls -d results/datasets/nnunet/*)"
	@echo "report:   $(CURDIR)/results/report/index.html"

study: $(INSTALLED)  ## the embedded study: a small network on phantoms, about 17 minutes of CPU time
	backsplit demo study demo/study
	snakemake --configfile config/study.yaml --cores $(CORES) study
	backsplit study advise --config config/study.yaml
	@echo
	@echo "report:   $(CURDIR)/results-study/study/report/index.html"

test: $(INSTALLED) lint unit  ## all checks and all tests

lint: $(INSTALLED)
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	snakefmt --check Snakefile rules workflow/Snakefile
	snakemake --lint
	backsplit schema | diff config/config.schema.json - || { echo "run: make schema"; exit 1; }
	backsplit schema reference | diff docs/configuration.md - || { echo "run: make schema"; exit 1; }
	mkdocs build --strict --quiet

# Files of tests are shared out, so that what a file prepares is prepared once.
TESTS_AT_ONCE ?= 2

unit: $(INSTALLED)
	python -m pytest --numprocesses $(TESTS_AT_ONCE) --dist loadfile $(PYTEST_ARGS)

coverage: $(INSTALLED)  ## unit tests with coverage, also of the jobs that they start; half as long again
	$(MAKE) unit PYTEST_ARGS="--cov=backsplit --cov-report=term:skip-covered $(PYTEST_ARGS)"

PROPERTIES = $(shell grep -l '^from support.examples import' tests/unit/*.py)
SEARCH_TIMES ?= 20

test-search: $(INSTALLED)  ## the tests of properties on many more and other examples than `make test`
	SEARCH_TIMES=$(SEARCH_TIMES) python -m pytest --numprocesses $(TESTS_AT_ONCE) $(PROPERTIES) $(PYTEST_ARGS)

# Slurm comes from Debian's or Ubuntu's packages, only where it is missing.
SUDO := $(shell test "$$(id -u)" = 0 || echo sudo)
SLURM := $(wildcard /usr/sbin/slurmctld /usr/local/sbin/slurmctld)

test-cluster: $(INSTALLED)  ## the workflow on a private one-node Slurm; about six minutes
ifeq ($(SLURM),)
	$(SUDO) apt-get update --quiet
	$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes slurm-wlm munge
endif
	$(BIN)/pip install --quiet --constraint envs/constraints.txt --editable '.[dev,slurm]'
	python -m pytest -m cluster tests/cluster $(PYTEST_ARGS)

CHROMIUM := $(shell command -v chromium || command -v chromium-browser)

test-browser: $(INSTALLED)  ## the demo's report in a real browser; about two minutes
ifeq ($(CHROMIUM),)
	$(SUDO) apt-get update --quiet
	$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes chromium
endif
	$(BIN)/pip install --quiet --constraint envs/constraints.txt --editable '.[dev,browser]'
	python -m pytest -m browser tests/browser $(PYTEST_ARGS)

BUILDERS := $(and $(shell command -v buildah),$(shell command -v podman),$(wildcard /usr/sbin/runc),$(wildcard /usr/sbin/debootstrap))

test-container: $(INSTALLED)  ## the image with the demo in it, and a program in a container; about eight minutes, as root
ifeq ($(BUILDERS),)
	$(SUDO) apt-get update --quiet
	$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes --no-install-recommends buildah debootstrap podman runc
endif
	$(SUDO) $(and $(SUDO),env BUILD_ARGS="$(BUILD_ARGS)") tests/container/run
	$(SUDO) $(CURDIR)/$(BIN)/python -m pytest -m container tests/container $(PYTEST_ARGS)

test-recipes: $(INSTALLED)  ## recipes of docs/segmenters.md against the packages on PyPI; a minute
	python -m pytest -m recipes tests/recipes $(PYTEST_ARGS)

test-survival: $(INSTALLED)  ## fifty kills of the demo, and other faults; about half an hour
	python -m pytest -m survival tests/survival -s $(PYTEST_ARGS)

test-mutation: $(INSTALLED)  ## small faults in the pure modules, which tests have to notice; about an hour
	$(BIN)/pip install --quiet --constraint envs/constraints.txt --editable '.[dev,mutation]'
	python tests/mutation/run.py $(MUTATION_ARGS)

test-incremental: $(INSTALLED)  ## every change between two runs, and pairs of them; about ten minutes
	python -m pytest -m incremental tests/incremental --numprocesses $(TESTS_AT_ONCE) $(PYTEST_ARGS)

docs: $(INSTALLED)  ## the documentation as a site, in site/
	mkdocs build --strict

LINKED := '*.md' 'docs/**/*.md' config/README.md profiles/README.md CITATION.cff 'workflow/src/**/*.py'

links: $(INSTALLED)  ## the web addresses in documents and code; needs the internet
	$(BIN)/pip install --quiet --constraint envs/constraints.txt --editable '.[dev,links]'
	lychee --config lychee.toml $(LINKED)

pictures: $(INSTALLED)  ## the documents' pictures, from the demo in a browser and a finished `make study`; about a minute
ifeq ($(CHROMIUM),)
	$(SUDO) apt-get update --quiet
	$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes chromium
endif
	$(BIN)/pip install --quiet --constraint envs/constraints.txt --editable '.[dev,browser]'
	python docs/pictures.py

bench: $(INSTALLED)  ## the engine against its peers, on phantoms; see tests/benchmarks for more
	python tests/benchmarks/engine.py phantoms --copies 8 --out results/benchmark

schema: $(INSTALLED)  ## write the schemas, and the reference of the configuration
	backsplit schema > config/config.schema.json
	backsplit schema manifest > workflow/src/backsplit/record/manifest.schema.json
	backsplit schema reference > docs/configuration.md

pins: $(INSTALLED)  ## rewrite the pinned versions
	python envs/pins.py

$(INSTALLED): pyproject.toml envs/constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; run: make PYTHON=python3.x ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint envs/constraints.txt --editable '.[dev]'
	touch $@

clean:  ## remove what the demo made, not the environment
	rm -rf demo results results-study .snakemake site

# make help lists the targets.
PYTHON ?= python3
BIN := .venv/bin
SNAKEMAKE_ARGS ?=
FUZZ_SECONDS ?= 60
FUZZ_SEED ?= 0

.DEFAULT_GOAL := reproduce
.PHONY: help environment reproduce first-look test check lint report schema claims robustness ladder long readme support tables config llms tested tutorial docs validator clean fuzz mutation faults beside benchmarks

help:  ## this list
	@awk -F ':.*  ## ' '/^[a-z-]+:.*  ## / {printf "make %-13s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

environment: .venv/installed  ## .venv from the pinned requirements.lock

reproduce: .venv/installed  ## the default study: environment, then snakemake --cores all; what a plain make does
	$(BIN)/python workflow_scripts/reproduce.py --cores all $(SNAKEMAKE_ARGS)

first-look: .venv/installed  ## the chain in one model, within minutes; the whole study makes none of it again
	$(BIN)/python workflow_scripts/reproduce.py --cores all first_look $(SNAKEMAKE_ARGS)

# A file of tests runs in one of five processes on two cores, some of which wait for a cluster or a signal, and those that take minutes begin first
# (tests/conftest.py).
PYTEST := -m pytest -n 5 --dist loadfile --no-loadscope-reorder

test: .venv/installed .venv/validator/installed  ## all tests
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python $(PYTEST)

check: lint  ## format, lint, types and the unit tests
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python $(PYTEST) tests/unit

report: .venv/installed  ## results in one HTML page, after make reproduce
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/snakemake --cores 1 --report report.html

lint: .venv/installed  ## format, lint and type checks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow rules
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/snakemake --lint
	$(BIN)/mypy

readme: .venv/installed  ## figures and tables of README.md, from the results of the default study
	$(BIN)/python docs/update_readme.py

support: .venv/installed  ## docs/support.md and its counts in README.md, by trying every decoder class of transformers
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/snakemake --cores 2 support
	$(BIN)/python docs/update_support.py

schema: .venv/installed  ## schemas/config.schema.json, from the config's models
	PYTHONPATH=src:workflow_scripts $(BIN)/python -c 'from harness.config.reading import json_schema; print(json_schema(), end="")' \
	  > schemas/config.schema.json

claims: .venv/installed  ## docs/claims.md, from the claims' declarations
	$(BIN)/python docs/update_claims.py

robustness: .venv/installed  ## docs/robustness.md, from the results of config.robustness.yaml
	$(BIN)/python docs/update_robustness.py

ladder: .venv/installed  ## docs/ladder.md, from the results of config.ladder.yaml
	$(BIN)/python docs/update_ladder.py

long: .venv/installed  ## docs/long.md, from the results of config.long.yaml
	$(BIN)/python docs/update_long.py

faults: .venv/installed  ## docs/faults.md, by killing, damaging and filling the disk of hundreds of runs of a tiny study
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python benchmarks/faults.py
	$(BIN)/python docs/update_faults.py

benchmarks: .venv/installed  ## docs/benchmarks.md: time and memory beside other programs, on an idle machine
	$(BIN)/python benchmarks/run_all.py
	$(BIN)/python docs/update_benchmarks.py

beside: .venv/beside/installed  ## TransformerLens and nnsight in .venv/beside, for make benchmarks

.venv/beside/installed: requirements.lock benchmarks/beside.lock
	$(PYTHON) -m venv .venv/beside
	.venv/beside/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock -r benchmarks/beside.lock
	touch $@

.venv/installed: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "sinkorigin needs Python 3.11 or newer, this is %d.%d; set PYTHON=/path/to/a/newer/python" % sys.version_info[:2])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -r requirements.lock
	@# what pip does on one core only; a file in the syntax of another version of Python is no failure
	@$(BIN)/python -m compileall -q -j 0 -x '/tests/' .venv/lib > /dev/null || true
	touch $@

tables: .venv/installed  ## docs/tables.md, with every column of every table, from the schemas
	$(BIN)/python docs/update_tables.py

config: .venv/installed  ## docs/config.md, with every setting, from the config's models
	$(BIN)/python docs/update_config.py

llms: .venv/installed  ## docs/llms.txt, from the navigation of mkdocs.yml and the pages
	$(BIN)/python docs/update_llms.py

tested: .venv/installed  ## docs/tested.md: which test runs which command of README and documentation
	$(BIN)/python docs/update_tested.py

tutorial: .venv/tutorial_installed  ## docs/tutorial.ipynb, run from beginning to end on the model of the default study
	$(BIN)/python docs/update_tutorial.py

.venv/tutorial_installed: docs/tutorial.lock .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r docs/tutorial.lock
	touch $@

docs: .venv/docs_installed  ## the documentation site, in site/; a broken link ends it
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

.venv/docs_installed: docs/requirements.lock .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r docs/requirements.lock
	touch $@

fuzz: .venv/installed  ## damaged files of every foreign format, FUZZ_SECONDS of each (60): what is not read right or refused is in fuzz/
	$(BIN)/python benchmarks/fuzz.py --seconds $(FUZZ_SECONDS) --seed $(FUZZ_SEED)

validator: .venv/validator/installed  ## roc-validator, which a test asks whether a published study is a valid RO-Crate

# of its own: it needs another version of rich than the environment has
.venv/validator/installed: tests/validator.lock .venv/installed
	$(PYTHON) -m venv .venv/validator
	.venv/validator/bin/python -m pip install --quiet --disable-pip-version-check -r tests/validator.lock
	touch $@

SAMPLE ?= 600
SEED ?= 1

mutation: .venv/mutation_installed  ## mutation score of statistics and claims, and docs/mutation.md; SAMPLE=600 SEED=1, or SAMPLE=all
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/mutation.py --sample $(SAMPLE) --seed $(SEED)
	$(BIN)/python docs/update_mutation.py

.venv/mutation_installed: tests/mutation.lock .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r tests/mutation.lock
	touch $@

clean:  ## removes .venv and Snakemake's records; results stay
	rm -rf .venv .snakemake

# make environment  .venv from the pinned requirements.lock
# make reproduce    the default study: environment, then snakemake --cores all
# make first-look   the chain in one model, within minutes; the whole study makes none of it again
# make test         all tests
# make check        format, lint, types and the unit tests
# make report       results in one HTML page, after make reproduce
# make schema       schemas/config.schema.json, from the config's models
# make claims       docs/claims.md, from the claims' declarations
# make robustness   docs/robustness.md, from the results of config.robustness.yaml
# make support      docs/support.md, by trying every decoder class of transformers
# make lint         format and lint checks
PYTHON ?= python3
BIN := .venv/bin
SNAKEMAKE_ARGS ?=

.PHONY: environment reproduce first-look test check report lint schema claims robustness readme support clean

reproduce: .venv/installed
	$(BIN)/python workflow_scripts/reproduce.py --cores all $(SNAKEMAKE_ARGS)

first-look: .venv/installed
	$(BIN)/python workflow_scripts/reproduce.py --cores all first_look $(SNAKEMAKE_ARGS)

# A file of tests runs in one of four processes, some of which wait for a cluster or a signal, and those that take minutes begin first
# (tests/conftest.py).
PYTEST := -m pytest -n 4 --dist loadfile --no-loadscope-reorder

test: .venv/installed
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python $(PYTEST)

check: lint
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python $(PYTEST) tests/unit

report: .venv/installed
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/snakemake --cores 1 --report report.html

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/snakemake --lint
	$(BIN)/mypy

# The figure and the claims table of the README, from the results of this study.
readme: .venv/installed
	$(BIN)/python docs/update_readme.py

# docs/support.md, and its counts in the README, from trying every decoder class of transformers.
support: .venv/installed
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/snakemake --cores 2 support
	$(BIN)/python docs/update_support.py

schema: .venv/installed
	PYTHONPATH=src:workflow_scripts $(BIN)/python -c 'from harness.config.reading import json_schema; print(json_schema(), end="")' \
	  > schemas/config.schema.json

claims: .venv/installed
	$(BIN)/python docs/update_claims.py

robustness: .venv/installed
	$(BIN)/python docs/update_robustness.py

environment: .venv/installed

.venv/installed: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "sinkorigin needs Python 3.11 or newer, this is %d.%d; set PYTHON=/path/to/a/newer/python" % sys.version_info[:2])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -r requirements.lock
	@# what pip does on one core only; a file in the syntax of another version of Python is no failure
	@$(BIN)/python -m compileall -q -j 0 -x '/tests/' .venv/lib > /dev/null || true
	touch $@

clean:
	rm -rf .venv .snakemake

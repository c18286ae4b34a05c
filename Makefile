# From a fresh clone, with only Python (3.11 or newer), git and make: `make train`.
# `make help` lists the targets.

ARGS ?=
KILLS ?= 100
CASES ?= 10000
WORKERS ?= 2
PYTHON ?=
export PYTHON

# Outside the lock: the oldest and the newest of everything that pyproject.toml allows.
OLDEST_PYTHON ?= 3.11
NEWEST_PYTHON ?= 3.13

LOCK := pyproject.toml uv.lock .ci/bootstrap

.DEFAULT_GOAL := help
.PHONY: help install install-dev train test test-slow torture test-oldest test-newest \
	lint format lock docs figures screenshots notebook clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/##/' | awk -F '##' '{printf "make %-12s%s\n", $$1, $$2}'

train: .venv/.installed  ## Train BipedalWalker-v3 with the defaults (options: ARGS="--seed 1")
	.venv/bin/posteriori train BipedalWalker-v3 $(ARGS)

install: .venv/.installed  ## Set up .venv with the library and its command line
install-dev: .venv/.installed-dev  ## Set up .venv with the tools of development as well

test: .venv/.installed-dev  ## Run the tests in WORKERS processes (options: ARGS="-k em -x" WORKERS=0)
	.venv/bin/pytest -q -n $(WORKERS) --dist loadfile $(ARGS)

test-slow: .venv/.installed-dev  ## Run the slow tests, which train
	.venv/bin/pytest -q -m slow $(ARGS)

torture: .venv/.installed-dev  ## Kill runs, mutate folders, fill disks; train for hours (KILLS=100 CASES=10000)
	.venv/bin/python tests/torture/fuzz.py --cases $(CASES)
	.venv/bin/python tests/torture/kill.py --kills $(KILLS)
	.venv/bin/python tests/torture/disk.py
	.venv/bin/python tests/torture/soak.py --out build/soak $(ARGS)
	.venv/bin/python tests/torture/soak.py --faults --minutes 30 --out build/soak-faults

test-oldest: .venv/.installed-dev  ## Run the tests with the oldest dependencies allowed
	$(call test_outside_the_lock,oldest,lowest-direct,$(OLDEST_PYTHON))

test-newest: .venv/.installed-dev  ## Run the tests with the newest dependencies allowed
	$(call test_outside_the_lock,newest,highest,$(NEWEST_PYTHON))

define test_outside_the_lock
.uv/bin/uv venv --quiet --clear --python $(3) .venv-$(1)
.uv/bin/uv pip install --quiet --python .venv-$(1) --resolution $(2) --editable . --group dev
.venv-$(1)/bin/python -m pytest -q $(ARGS)
endef

lint: .venv/.installed-dev  ## Check format, lint and types
	.venv/bin/ruff format --check
	.venv/bin/ruff check
	.venv/bin/pyright

format: .venv/.installed-dev  ## Format, and mend what the linter can mend
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

lock: .venv/.installed-dev  ## Bring uv.lock up to date with pyproject.toml (options: ARGS=--upgrade)
	.uv/bin/uv lock $(ARGS)

docs: .venv/.installed-docs  ## Build the documentation into site/, warnings as errors, and check its links
	rm -rf site
	.venv/bin/sphinx-build -qW --keep-going docs site
	.venv/bin/sphinx-build -qW --keep-going -c docs -D language=ja docs/ja site/ja
	.venv/bin/python docs/check_site.py site

figures: .venv/.installed-dev  ## Draw the figures of the derivation again
	.venv/bin/python docs/make_figures.py

screenshots: .venv/.installed-dev  ## Train three pendulums and photograph their report again (needs Chromium)
	rm -rf build/screenshots
	.venv/bin/python docs/make_screenshots.py

notebook: .venv/.installed-docs  ## Run the notebook and keep its outputs
	.venv/bin/python docs/run_notebook.py docs/learn/notebook.ipynb

clean:  ## Remove what the set-up made
	rm -rf .venv .venv-oldest .venv-newest .uv site jupyter_execute

.venv/.installed: $(LOCK)
	@.ci/bootstrap --no-dev
	@touch $@

.venv/.installed-dev: $(LOCK)
	@.ci/bootstrap
	@touch .venv/.installed $@

.venv/.installed-docs: $(LOCK)
	@.ci/bootstrap --group docs
	@touch .venv/.installed .venv/.installed-dev $@

# Two commands on a fresh machine: `make demo` and `make test`. `make` alone lists the rest.

SHELL := /bin/sh
.DEFAULT_GOAL := help

# Which Python makes the environment; empty: the first of python3, python3.14 ... python3.11 that
# is new enough.
PYTHON ?=
# What is installed beside the FAISS extra, which follows the machine (cpu or gpu).
EXTRAS ?= dev
# An index with torch's CPU wheels. auto: torch's own, on Linux without an NVIDIA GPU and where it
# can be reached; empty: none; else an address.
TORCH_INDEX ?= auto
export PYTHON EXTRAS TORCH_INDEX

comma := ,
STAMP := .venv/installed-$(subst $(comma),-,$(EXTRAS))
# Processes of tests, of one thread each: two do half as much again as one of two.
WORKERS ?= 2
PYTEST := HF_HUB_OFFLINE=1 .venv/bin/python -m pytest

.PHONY: help venv demo test test-smollm2 test-browser check clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

venv: $(STAMP) ## make .venv and install the project into it (once)

$(STAMP): pyproject.toml tools/venv.sh
	@sh tools/venv.sh
	@touch $@

demo: $(STAMP) ## learn four real corpora into ./knowledge and ask them; erase, remove, restore
	@.venv/bin/peer-cl demo

test: $(STAMP) ## the default tests: offline, on the CPU, some ten minutes on two cores
	OMP_NUM_THREADS=1 $(PYTEST) -n $(WORKERS) --dist loadfile -m "not smollm2 and not browser"

test-smollm2: $(STAMP) ## tests on the real SmolLM2-135M
	OMP_NUM_THREADS=1 $(PYTEST) -n $(WORKERS) --dist loadfile -m smollm2

test-browser: $(STAMP) ## the dashboard in a real Chromium (Debian: apt-get install chromium)
	$(PYTEST) -m browser

check: $(STAMP) ## lint, format, types, and who imports whom
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

clean: ## remove .venv and caches; stores and downloads stay
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

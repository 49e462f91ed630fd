# Two commands on a fresh machine: `make demo` and `make test`. `make` alone lists the rest.
# Written for GNU make 3.81 and later, which is what macOS ships.

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
# Processes of the default and the slow tests, of one thread each: two get half as much again done
# as one of two.
WORKERS ?= 2
PYTEST := HF_HUB_OFFLINE=1 .venv/bin/python -m pytest

.PHONY: help venv demo test test-slow test-smollm2 test-browser check readme sweep clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

venv: $(STAMP) ## make .venv and install the project into it (once)

$(STAMP): pyproject.toml tools/venv.sh
	@sh tools/venv.sh
	@touch $@

demo: $(STAMP) ## learn four real corpora into ./knowledge, evaluate, freeze, roll back, restore
	@.venv/bin/peer-cl demo

test: $(STAMP) ## the default tests: offline, on the CPU, under 10 minutes
	OMP_NUM_THREADS=1 $(PYTEST) -n $(WORKERS) --dist loadfile \
		-m "not smollm2 and not slow and not demo and not browser"

test-slow: $(STAMP) ## longer tests, some on corpora that are downloaded once
	OMP_NUM_THREADS=1 $(PYTEST) -n $(WORKERS) --dist loadfile -m "slow and not smollm2 and not demo"

test-smollm2: $(STAMP) ## tests on the real SmolLM2-135M, downloaded once
	$(PYTEST) -m "smollm2"

test-browser: $(STAMP) ## the dashboard in a real Chromium (Debian's: apt-get install chromium)
	$(PYTEST) -m "browser"

check: $(STAMP) ## lint, format, types, and who imports whom
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

readme: $(STAMP) ## write the README's file tree and result tables anew
	.venv/bin/python -m tools.readme

sweep: $(STAMP) ## measure the pool shapes and host layers that the defaults come from
	.venv/bin/python -m benchmarks sweep

clean: ## remove .venv and caches; stores and downloads stay
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

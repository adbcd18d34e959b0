# Everything a person or a build machine does here. `make` alone lists the targets.
# PYTHON, VENV, EXTRAS and PYTEST_ARGS can be given on the command line.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo test check wheel-test clean distclean

# The first Python 3.11 to 3.13 that runs and can make an environment.
SUPPORTED := import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3; do \
	if "$$name" -c '$(SUPPORTED)' >/dev/null 2>&1; then echo "$$name"; break; fi; done)
VENV ?= .venv
EXTRAS ?= dev,qm9,interop
PYTEST_ARGS ?=

# The pins choose a CPU build of torch where one is on disk; never install torch without them.
CONSTRAINTS := $(CURDIR)/constraints.txt
PIP_INSTALL = -m pip install --quiet --no-input --disable-pip-version-check --constraint "$(CONSTRAINTS)"
BIN = $(VENV)/bin
CORE = $(VENV)/.designloom-core
DEV = $(VENV)/.designloom-dev

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then
		echo "No Python 3.11, 3.12 or 3.13 with venv and pip found; name one: make PYTHON=/path/to/python" >&2
		exit 2
	fi
	echo "Making the environment $(VENV) with $(PYTHON)"
	"$(PYTHON)" -m venv "$(VENV)"

$(CORE): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing designloom and its pinned dependencies into $(VENV) (minutes, the first time)"
	"$(BIN)/python" $(PIP_INSTALL) --editable .
	touch "$@"

$(DEV): $(CORE)
	@echo "Installing the extras $(EXTRAS) into $(VENV)"
	"$(BIN)/python" $(PIP_INSTALL) --editable ".[$(EXTRAS)]"
	touch "$@"

demo: $(CORE)  ## Generate 100 molecules with the shipped weights, score them, write a report
	@mkdir -p demo
	"$(BIN)/designloom" generate molecules --number 100 --seed 0 --output demo/molecules.sdf --force
	"$(BIN)/designloom" evaluate demo/molecules.sdf --output demo/molecules.csv --force >/dev/null
	"$(BIN)/designloom" evaluate demo/molecules.sdf --output demo/report.html --force
	ls -l demo/molecules.sdf demo/molecules.csv demo/report.html

test: $(DEV)  ## Run the default tests (no slow or gpu ones)
	@"$(BIN)/python" -m pytest $(PYTEST_ARGS)

check: $(DEV)  ## Run ruff, mypy and the import contracts
	@"$(BIN)/ruff" check .
	"$(BIN)/ruff" format --check .
	"$(BIN)/mypy"
	"$(BIN)/lint-imports"

wheel-test: $(DEV)  ## Build the wheel, install it into an empty environment, use it from elsewhere
	@work=$$(mktemp -d)
	trap 'rm -rf "$$work"' EXIT
	unset PYTHONPATH
	"$(BIN)/python" -m build --outdir "$$work/dist" . >"$$work/build.log" 2>&1 \
		|| { tail -n 30 "$$work/build.log" >&2; exit 1; }
	"$(BIN)/python" -m venv "$$work/env"
	echo "Installing $$(ls "$$work"/dist/*.whl | xargs -n1 basename) into an empty environment"
	"$$work/env/bin/python" $(PIP_INSTALL) "$$work"/dist/*.whl
	mkdir "$$work/run"
	cd "$$work/run"
	"$$work/env/bin/designloom" --version
	"$$work/env/bin/designloom" generate molecules -n 4 --seed 0 -o molecules.sdf
	"$$work/env/bin/designloom" evaluate molecules.sdf -o report.html
	test "$$(grep -c '^M  END' molecules.sdf)" -eq 4
	test -s report.html
	"$$work/env/bin/python" -c 'import pathlib, sys, molgen; \
		home = pathlib.Path(molgen.__file__).resolve().parent; \
		assert home.is_relative_to(pathlib.Path(sys.prefix).resolve()), home; \
		assert list((home / "weights").glob("*.safetensors")), "no weights in the wheel"'
	echo "wheel-test: the installed wheel generated and scored 4 molecules outside the checkout"

clean:  ## Remove what builds, tests and the demo wrote
	rm -rf build dist demo .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	rm -rf ./*.egg-info
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean  ## Remove the environment too
	rm -rf "$(VENV)"

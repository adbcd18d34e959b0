# Everything a person or a build machine does here. `make` alone lists the targets.
# PYTHON, VENV, EXTRAS and PYTEST_ARGS can be given on the command line.

SHELL := bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo demo-webs demo-weights test check wheel-test clean distclean

# The first Python 3.11 to 3.13 that runs and can make an environment.
SUPPORTED := import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3; do \
	if "$$name" -c '$(SUPPORTED)' >/dev/null 2>&1; then echo "$$name"; break; fi; done)
VENV ?= .venv
EXTRAS ?= dev,qm9,interop,trust,conformers,docking,loops,solvents,tokens,webs
PYTEST_ARGS ?=

# The pins choose a CPU build of torch where one is on disk; never install torch without them.
PIP_INSTALL = -m pip install $(if $(CI),--quiet) --no-input --constraint constraints.txt
BIN = $(VENV)/bin
CORE = $(VENV)/.designloom-core
DEV = $(VENV)/.designloom-dev

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then \
		echo "No Python 3.11 to 3.13 with venv and pip found; name one: make PYTHON=/path/to/python" >&2; \
		exit 2; \
	fi
	@echo "Making the environment $(VENV) with $(PYTHON)"
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
	mkdir -p demo
	"$(BIN)/designloom" generate molecules --number 100 --seed 0 --output demo/molecules.sdf --force
	"$(BIN)/designloom" evaluate demo/molecules.sdf --output demo/molecules.csv --force >/dev/null
	"$(BIN)/designloom" evaluate demo/molecules.sdf --output demo/report.html --force
	ls -l demo/molecules.sdf demo/molecules.csv demo/report.html

demo-webs: $(DEV)  ## Draw webs, pull them to failure, assemble a helix of 40 and print it
	mkdir -p demo/webs
	"$(BIN)/designloom" generate webs --model orb --number 8 --condition n_nodes=36,mean_edge_length=4 \
		--output demo/webs/webs.jsonl --picture demo/webs/webs.png --force
	"$(BIN)/designloom" evaluate webs demo/webs/webs.jsonl --output demo/webs/webs.csv \
		--picture demo/webs/pull.png --page demo/webs/pull.html --force
	"$(BIN)/designloom" assemble demo/webs/webs.jsonl --target helix --blocks 40 \
		--output demo/webs/helix.jsonl --picture demo/webs/helix.png --force
	"$(BIN)/designloom" evaluate webs demo/webs/helix.jsonl --output demo/webs/helix.csv \
		--picture demo/webs/helix-pull.png --page demo/webs/helix.html --force
	"$(BIN)/designloom" print demo/webs/helix.jsonl --output demo/webs/helix.3mf --force
	ls -l demo/webs

demo-weights: $(DEV)  ## Generate networks for the wine data set, which no model was trained on
	mkdir -p demo
	"$(BIN)/python" -c 'from sklearn.datasets import load_wine; \
		load_wine(as_frame=True).frame.to_csv("demo/wine.csv", index=False)'
	"$(BIN)/designloom" generate weights --data demo/wine.csv --target target --number 20 \
		--output demo/wine-weights.safetensors --force
	ls -l demo/wine.csv demo/wine-weights.safetensors

test: $(DEV)  ## Run the default tests (no slow or gpu ones)
	"$(BIN)/python" -m pytest --timeout 300 $(PYTEST_ARGS)

check: $(DEV)  ## Run ruff, mypy and the import contracts
	"$(BIN)/ruff" check .
	"$(BIN)/ruff" format --check .
	"$(BIN)/mypy"
	"$(BIN)/lint-imports"

wheel-test: $(DEV)  ## Build the wheel, install it into an empty environment, use it from elsewhere
	.ci/wheel-test "$(BIN)/python"

clean:  ## Remove what builds, tests and the demo wrote
	rm -rf build dist demo .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	rm -rf ./*.egg-info
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean  ## Remove the environment too
	rm -rf "$(VENV)"

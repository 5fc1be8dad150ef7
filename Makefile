# PYTHON=/path/to/python   the Python (3.11 or later) to make environments with; without it, one is looked for
# PIP_ARGS="..."           more arguments for pip install, such as another package index
# ARGS="..."               more arguments for pytest: make test ARGS="-k moco -x"
# JOBS=2                   how many processes run the tests
# DEMO_RUN=FOLDER          the run directory of the demo

PYTHON ?=
PIP_ARGS ?=
ARGS ?=
JOBS ?= 2
DEMO_RUN ?= runs/demo

VENV := .venv
PEERS := .venv-peers
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help venv test lint demo demo-encoder docs peers clean

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile
	@sed -n 's/^# \([A-Z_]*=\)/             \1/p' Makefile

venv: $(VENV)/.stamp ## the environment, in .venv

test: $(VENV)/.stamp ## all tests
	@$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(VENV)/.stamp ## style, layout and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

demo: $(VENV)/.stamp ## instance alpha maps of microscope images, without a label, in 4 minutes
	@$(BIN)/genseg try embedded:nuclei/train --labels embedded:nuclei/test.json --minutes 3 --run $(DEMO_RUN)

demo-encoder: $(VENV)/.stamp ## an encoder of the embedded scenes, in 4 minutes
	@$(BIN)/genseg pretrain --config configs/pretrain/demo.yaml run=$(DEMO_RUN)-encoder

# Not --quiet: mkdocs then counts no warnings, and --strict finds nothing.
docs: $(VENV)/.stamp ## the documentation, in site/
	@$(BIN)/python tools/reference.py
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

peers: $(PEERS)/.stamp ## what tools/benchmark.py compares with, in .venv-peers

clean: ## remove environments and caches; runs/ and datasets/ stay
	@rm -rf $(VENV) $(PEERS) .mypy_cache .pytest_cache .ruff_cache build dist site
	@find genseg tests tools datasets -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.stamp: pyproject.toml
	@$(call environment,$(VENV))
	@echo "installing genseg and what it needs into $(VENV) (the first time this takes minutes)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) --editable '.[dev]'
	@touch $@

# Apart from .venv: lightly needs hydra-core, which excludes the omegaconf that genseg needs.
$(PEERS)/.stamp: Makefile
	@$(call environment,$(PEERS))
	@echo "installing lightly into $(PEERS)"
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) \
		'lightly>=1.5,<2' torch torchvision
	@touch $@

# $(call environment,FOLDER): a virtual environment there, unless a whole one exists; one whose Python is gone is made
# anew. Candidates are run, not only found: the command may be a shim that starts nothing, and Debian's Python has no
# ensurepip before python3-venv is installed.
define environment
	$(1)/bin/python -m pip --version >/dev/null 2>&1 && exit 0; \
	$(1)/bin/python -c '' >/dev/null 2>&1 && clear= || clear=--clear; \
	found=; \
	for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python3.14 python); do \
		if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
			found="$$python"; \
			if "$$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then \
				echo "making $(1) with $$("$$python" --version)"; \
				exec "$$python" -m venv $$clear $(1); \
			fi; \
		fi; \
	done; \
	if [ -n "$$found" ]; then \
		echo "$$found has no venv module: install it (Debian, Ubuntu: apt install python3-venv)" >&2; \
	else \
		echo "genseg needs Python 3.11 or later; tried: $(or $(PYTHON),python3 python3.11 to python3.14 python)." >&2; \
		echo "Install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; \
	fi; \
	exit 1
endef

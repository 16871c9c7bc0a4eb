# `make` alone says what there is. Everything runs in two environments that are made on first use:
# .venv (TensorFlow 2 and the tools) and, where Python 3.7 is found, .venv-tf1 (TensorFlow 1.15).

SHELL := bash
.DEFAULT_GOAL := help
.NOTPARALLEL:

VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/hubbridge.stamp
UNFINISHED := $(VENV)/unfinished

# Which Python makes .venv: PYTHON=/path/to/python, else the first of these that is suitable.
# A pyenv shim may stand for a version that is not selected, and a distribution's Python may lack
# ensurepip, so each is run before it is believed.
PYTHONS = $(or $(PYTHON),$(foreach version,3.11 3.12 3.13 3.10,\
	$$(type -ap python$(version)) "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/$(version).*/bin/python)\
	$$(type -ap python3))
SUITABLE := import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))

.PHONY: help
help: ## Say what there is
	@echo "hubbridge: TF1 Hub modules to TF2 SavedModels and back"
	@echo
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "The first run makes the environments it needs: a few minutes, about 3 GB."

.PHONY: demo
demo: $(READY) ## Show what hubbridge does, on a small module, there and back
	@$(PY) examples/demo.py

.PHONY: test
test: $(READY) tf1 ## Run the tests, against the real TensorFlow 1.15 where Python 3.7 is found
	@$(PY) -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

.PHONY: test-networks
test-networks: $(READY) tf1 ## Take the networks of Keras to TensorFlow 1.15 (under an hour)
	@$(PY) -m tests.networks --markdown docs/networks.md

.PHONY: lint
lint: $(READY) ## Check style, format and types
	@$(PY) -m ruff check
	@$(PY) -m ruff format --check
	@$(PY) -m mypy bridge

.PHONY: bench
bench: $(READY) ## Measure the time and memory of conversions, of inspecting, and of comparing
	@$(PY) benchmarks/run.py
	@$(PY) benchmarks/inspect_speed.py
	@$(PY) benchmarks/parity_overhead.py

.PHONY: testdata
testdata: $(READY) ## Make testdata/ anew with the real TensorFlow 1.15
	@python=$$($(PY) tools/tf1_env.py) && \
		CUDA_VISIBLE_DEVICES= TF_CPP_MIN_LOG_LEVEL=3 "$$python" -W ignore testdata/make_modules.py testdata

.PHONY: clean
clean: ## Remove what runs leave behind, but not the environments
	@rm -rf build dist htmlcov .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find . -path './.venv*' -prune -o -name __pycache__ -prune -exec rm -rf {} +

.PHONY: distclean
distclean: clean ## Remove the environments too
	@rm -rf .venv .venv-tf1

.PHONY: setup
setup: $(READY) tf1 ## Make both environments and do nothing else

# Only the lack of a Python 3.7 (exit status 3) is forgiven, unless HUBBRIDGE_REQUIRE_TF1=1.
.PHONY: tf1
tf1: $(READY)
	@[ -n "$$HUBBRIDGE_TF1_PYTHON" ] || $(PY) tools/tf1_env.py >/dev/null || { \
		status=$$?; \
		[ $$status = 3 ] && [ "$$HUBBRIDGE_REQUIRE_TF1" != 1 ] || exit $$status; \
		echo "Going on without it: what needs it is skipped" >&2; \
	}

# An environment that an interrupt left unfinished is made anew; a good one is kept and updated.
$(READY): pyproject.toml
	@if [ -e $(UNFINISHED) ] || ! $(PY) -m pip --version >/dev/null 2>&1; then \
		for python in $(PYTHONS); do \
			"$$python" -c '$(SUITABLE)' 2>/dev/null || continue; \
			echo "Making $(VENV) with $$python" >&2; \
			rm -rf $(VENV) && mkdir $(VENV) && touch $(UNFINISHED); \
			"$$python" -m venv $(VENV) && break; \
		done; \
	fi
	@$(PY) -m pip --version >/dev/null 2>&1 || { \
		echo "error: no Python 3.10 to 3.13 that can make an environment" >&2; \
		echo "hint: install Python 3.11 with venv and ensurepip (apt: python3.11-venv)," >&2; \
		echo "      or name one: make PYTHON=/path/to/python" >&2; \
		exit 1; \
	}
	@echo "Installing hubbridge, TensorFlow 2 and the tools into $(VENV) (a few minutes, once)" >&2
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-input --editable '.[parity,dev]'
	@rm -f $(UNFINISHED)
	@touch $@

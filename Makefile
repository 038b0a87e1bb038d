# The two commands for everybody: `make demo` and `make test`. Each does all its own set-up.

SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
BUILD ?= build

VENV := .venv
# What set-up installs on the host where it is missing; everything else is built in the cache folder.
HOST_PACKAGES := mmdebstrap bubblewrap iproute2 procps mount util-linux gcc libc6-dev make debian-archive-keyring python3-venv

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: packages
packages:
	@missing=""; for package in $(HOST_PACKAGES); do \
	  dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$package"; done; \
	if [ -n "$$missing" ]; then \
	  if ! command -v apt-get >/dev/null || [ "$$(id -u)" != 0 ]; then \
	    echo "gpushare: set-up needs root on Debian 12 or 13 to install:$$missing" >&2; exit 1; fi; \
	  echo "set-up: installing$$missing"; \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; } >$(VENV).log 2>&1 \
	    || { tail -n 20 $(VENV).log >&2; echo "gpushare: set-up could not install:$$missing" >&2; exit 1; }; \
	  rm -f $(VENV).log; fi

$(VENV)/.complete: pyproject.toml
	@echo "set-up: Python packages into $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "gpushare: Python 3.11 or newer is needed, $(PYTHON) is older" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

.PHONY: setup
setup: packages ## install what the host lacks, and the Python environment
	@$(MAKE) --no-print-directory $(VENV)/.complete

.PHONY: demo
demo: setup ## the main job in a one-machine Slurm lab, then the accounting report
	@$(VENV)/bin/python -m slurm_gpushare.lab.demo

.PHONY: picture
picture: demo ## README's picture, of the demo's report
	@$(VENV)/bin/python -m tests.tools
	@$(VENV)/bin/python -m tests.picture

.PHONY: demo-tensorflow
demo-tensorflow: setup ## four quarters of a GPU train a network with TensorFlow, in containers, in such a lab
	@$(VENV)/bin/python -m slurm_gpushare.lab.demo.tensorflow

.PHONY: test
test: setup ## all tests
	@$(VENV)/bin/gpushare lab build
	@$(VENV)/bin/gpushare lab build --slurm 26.05
	@$(VENV)/bin/python -m tests.tools
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/python -m pytest --numprocesses=3 --dist=loadgroup $(PYTEST_ARGS)

.PHONY: test-long
test-long: setup ## what takes longer: TensorFlow in the lab, long random runs
	@$(VENV)/bin/gpushare lab build
	@$(VENV)/bin/gpushare lab build --slurm 26.05
	@$(VENV)/bin/python -m pytest -m long $(PYTEST_ARGS)

.PHONY: test-vm
test-vm: setup ## what needs a kernel of its own: systemd, NFS, reboots, in a virtual machine
	@$(VENV)/bin/python -m pytest -m vm $(PYTEST_ARGS)

.PHONY: bench
bench: setup ## what it costs, against peers and floors; NAME=… runs one
	@$(VENV)/bin/python -m bench $(NAME)

.PHONY: plugin
plugin: ## compile the SPANK plugin for the Slurm whose headers are installed
	@$(MAKE) --no-print-directory -C spank BUILD=$(abspath $(BUILD))/spank

.PHONY: man completion reference
man: $(VENV)/.complete ## manual pages, into build/man
	@$(VENV)/bin/python -m slurm_gpushare.reference man $(BUILD)/man

completion: $(VENV)/.complete ## completions for bash, zsh and fish, into build/share
	@$(VENV)/bin/python -m slurm_gpushare.reference completion $(BUILD)/share

reference: $(VENV)/.complete ## the pages of docs/ that the code writes
	@$(VENV)/bin/python -m slurm_gpushare.reference docs docs
	@$(VENV)/bin/gpushare policy reference >docs/policy.md
	@$(VENV)/bin/python -m slurm_gpushare.backends.enforcement >docs/enforcement.md

include packaging/install.mk

.PHONY: clean
clean: ## stop every lab, remove the lab's cache and run folders, the environment and what was built
	@if [ -x $(VENV)/bin/gpushare ]; then $(VENV)/bin/gpushare lab clean; fi
	@rm -rf $(VENV) $(BUILD) dist *.egg-info slurm_gpushare/lab/standins/*/build

# The two commands for everybody: `make demo` and `make test`. Each does all its own set-up.

SHELL := /bin/bash
.DEFAULT_GOAL := help

PREFIX ?= /opt/gpushare
SYSCONFDIR ?= /etc
SLURM_CONFIG_DIR ?= $(SYSCONFDIR)/slurm
DESTDIR ?=
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

.PHONY: bench
bench: setup ## what it costs, against peers and floors; NAME=… runs one
	@$(VENV)/bin/python -m bench $(NAME)

.PHONY: plugin
plugin: ## compile the SPANK plugin for the Slurm whose headers are installed
	@$(MAKE) --no-print-directory -C spank BUILD=$(abspath $(BUILD))/spank

.PHONY: install
install: ## install on a Slurm host (as root): plugin, Lua, prolog, epilog, policy, command
	install -d $(DESTDIR)$(PREFIX)/libexec/shield $(DESTDIR)$(PREFIX)/share/gpushare $(DESTDIR)$(SLURM_CONFIG_DIR)/gpushare $(DESTDIR)$(SYSCONFDIR)/gpushare
	test -x $(DESTDIR)$(PREFIX)/bin/python3 || $(PYTHON) -m venv $(DESTDIR)$(PREFIX)
	$(DESTDIR)$(PREFIX)/bin/python3 -c 'import setuptools' 2>/dev/null || $(DESTDIR)$(PREFIX)/bin/python3 -m pip install --quiet setuptools
	$(DESTDIR)$(PREFIX)/bin/python3 -m pip install --quiet --disable-pip-version-check --no-warn-script-location --no-build-isolation .
	$(MAKE) -C spank install BUILD=$(abspath $(BUILD))/spank DESTDIR=$(DESTDIR)
	$(MAKE) -C etc/libexec/inside install BUILD=$(abspath $(BUILD))/inside DESTDIR=$(DESTDIR) LIBEXEC=$(PREFIX)/libexec
	install -m 0755 etc/libexec/gpushare-launch etc/libexec/gpushare-hook etc/libexec/gpushare-sweep $(DESTDIR)$(PREFIX)/libexec/
	sed -i "1s|.*|#!$$(readlink -f $(DESTDIR)$(PREFIX)/bin/python3) -IS|" $(DESTDIR)$(PREFIX)/libexec/gpushare-launch
	install -m 0755 etc/libexec/shield/squashfuse_ll $(DESTDIR)$(PREFIX)/libexec/shield/squashfuse_ll
	install -m 0644 etc/libexec/client.env $(DESTDIR)$(PREFIX)/libexec/client.env
	cp -R etc job_scripts $(DESTDIR)$(PREFIX)/share/gpushare/
	install -m 0644 etc/slurm/gpushare.lua etc/slurm/job_submit.lua etc/slurm/cli_filter.lua $(DESTDIR)$(SLURM_CONFIG_DIR)/
	install -m 0644 etc/slurm/gpushare/*.lua $(DESTDIR)$(SLURM_CONFIG_DIR)/gpushare/
	install -m 0755 etc/slurm/prolog etc/slurm/epilog $(DESTDIR)$(SLURM_CONFIG_DIR)/
	install -m 0644 etc/slurm/plugstack.conf $(DESTDIR)$(SLURM_CONFIG_DIR)/plugstack.conf
	test -e $(DESTDIR)$(SYSCONFDIR)/gpushare/gpushare.yaml || install -m 0644 etc/gpushare.yaml $(DESTDIR)$(SYSCONFDIR)/gpushare/gpushare.yaml
	test -n "$(DESTDIR)" || $(PREFIX)/bin/gpushare policy compile

.PHONY: clean
clean: ## stop every lab, remove the lab's cache and run folders, the environment and what was built
	@if [ -x $(VENV)/bin/gpushare ]; then $(VENV)/bin/gpushare lab clean; fi
	@rm -rf $(VENV) $(BUILD) dist *.egg-info slurm_gpushare/lab/standins/*/build

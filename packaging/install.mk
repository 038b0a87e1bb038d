# make install, uninstall, wheel, deb, rpm. What lies where: docs/coexistence.md; how a site uses it: docs/install.md.

PREFIX ?= /opt/gpushare
SYSCONFDIR ?= /etc
SLURM_CONFIG_DIR ?= $(SYSCONFDIR)/slurm
SYSTEMD_DIR ?= /usr/lib/systemd/system
TMPFILES_DIR ?= /usr/lib/tmpfiles.d
DESTDIR ?=
# Optional parts of the Python package (pyproject.toml). What is made for others to install has all that servers need.
EXTRAS ?=
PACKAGE_EXTRAS ?= html,mariadb,postgresql
PACKAGE := $(BUILD)/package
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

units := $(wildcard etc/systemd/*.service etc/systemd/*.timer)
root := $(DESTDIR)$(PREFIX)
lua := $(DESTDIR)$(SLURM_CONFIG_DIR)
# Files name the usual prefix.
prefixed = sed -i 's|/opt/gpushare|$(PREFIX)|g'

.PHONY: install
install: ## install on a host of the cluster (as root); nothing is in force by that: docs/install.md
	packaging/venv.sh "$(PYTHON)" "$(DESTDIR)" "$(PREFIX)" "$(EXTRAS)"
	$(MAKE) -C spank install BUILD=$(abspath $(BUILD))/spank DESTDIR=$(DESTDIR)
	$(MAKE) -C etc/libexec/inside install BUILD=$(abspath $(BUILD))/inside DESTDIR=$(DESTDIR) LIBEXEC=$(PREFIX)/libexec
	install -d $(root)/libexec/shield $(root)/share/gpushare $(lua)/gpushare $(DESTDIR)$(SYSTEMD_DIR) $(DESTDIR)$(TMPFILES_DIR) $(DESTDIR)$(SYSCONFDIR)/gpushare
	install -m 0755 etc/libexec/gpushare-launch etc/libexec/gpushare-hook etc/libexec/gpushare-sweep etc/libexec/gpushare-health $(root)/libexec/
	install -m 0755 etc/libexec/shield/squashfuse_ll $(root)/libexec/shield/squashfuse_ll
	install -m 0644 etc/libexec/client.env $(root)/libexec/client.env
	install -m 0755 etc/slurm/prolog $(root)/libexec/gpushare-prolog
	install -m 0755 etc/slurm/epilog $(root)/libexec/gpushare-epilog
	rm -rf $(root)/share/gpushare/etc $(root)/share/gpushare/job_scripts
	cp -R etc job_scripts $(root)/share/gpushare/
	install -m 0644 etc/slurm/gpushare.lua $(lua)/
	install -m 0644 etc/slurm/gpushare/*.lua $(lua)/gpushare/
	install -m 0644 $(units) $(DESTDIR)$(SYSTEMD_DIR)/
	install -m 0644 etc/systemd/gpushare.tmpfiles $(DESTDIR)$(TMPFILES_DIR)/gpushare.conf
	$(root)/bin/python3 -B -m slurm_gpushare.reference man $(root)/share/man
	$(root)/bin/python3 -B -m slurm_gpushare.reference completion $(root)/share
	$(prefixed) $(root)/libexec/gpushare-* $(addprefix $(DESTDIR)$(SYSTEMD_DIR)/,$(notdir $(units)))
	$(prefixed) $(root)/share/gpushare/etc/slurm/p* $(root)/share/gpushare/etc/systemd/* $(root)/share/man/man*/*
	sed -i "1s|.*|#!$$(readlink -f $(root)/bin/python3) -IS|" $(root)/libexec/gpushare-launch
	test -n "$(DESTDIR)" || test ! -e $(SYSCONFDIR)/gpushare/gpushare.yaml || $(PREFIX)/bin/gpushare policy compile

.PHONY: uninstall
uninstall: ## remove what install wrote; what the administrator wrote stays
	@packaging/in-use.sh $(PREFIX) $(SLURM_CONFIG_DIR) || test -n "$(DESTDIR)"
	$(MAKE) -C spank uninstall DESTDIR=$(DESTDIR)
	rm -rf $(lua)/gpushare $(lua)/gpushare.lua $(lua)/gpushare_policy.lua $(DESTDIR)$(SYSCONFDIR)/gpushare/node.json
	rm -f $(addprefix $(DESTDIR)$(SYSTEMD_DIR)/,$(notdir $(units))) $(DESTDIR)$(TMPFILES_DIR)/gpushare.conf
	test ! -e $(root)/libexec/gpushare-launch || rm -rf $(root)

.PHONY: wheel
wheel: $(VENV)/.complete ## the Python package alone, into dist/
	rm -rf build/lib build/bdist.*
	$(VENV)/bin/python -m pip wheel --quiet --no-deps --wheel-dir dist .

.PHONY: deb
deb: ## a Debian package for the Slurm whose headers are installed, into dist/
	rm -rf $(PACKAGE)
	$(MAKE) install DESTDIR=$(abspath $(PACKAGE)) PREFIX=/opt/gpushare SYSCONFDIR=/etc SLURM_CONFIG_DIR=/etc/slurm EXTRAS=$(PACKAGE_EXTRAS)
	packaging/deb/build.sh $(abspath $(PACKAGE)) $(VERSION) dist

.PHONY: rpm
rpm: ## an RPM package for the Slurm whose headers are installed, into dist/
	packaging/rpm/build.sh $(VERSION) dist

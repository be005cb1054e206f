PREFIX ?= /usr/local
DESTDIR ?=
CARGO ?= cargo
CARGO_TARGET_DIR ?= target
BINARY := $(CARGO_TARGET_DIR)/release/glbd
SHELL_SCRIPTS := init/glbd init/keepalived/check-glbd scripts/demo scripts/install-test-tools scripts/watch-http scripts/watch-mysql .ci/run

# The tests make namespaces and change users, which only root may. Building them needs no root.
ifneq ($(shell id -u),0)
HOST := $(shell rustc -vV | sed -n 's/^host: //p' | tr a-z- A-Z_)
export CARGO_TARGET_$(HOST)_RUNNER := sudo --preserve-env
endif

.PHONY: build run test bench check install uninstall clean help

build: $(BINARY)

$(BINARY): Cargo.toml $(wildcard Cargo.lock) $(shell find src -type f)
	$(CARGO) build --release
	@touch $@

help:
	@echo 'make            build $(BINARY)'
	@echo 'make run        three small web servers with glbd in front of them, until Ctrl-C'
	@echo 'make test       install what the tests need, and run all of them (as root, or with sudo)'
	@echo 'make check      format, clippy and shellcheck'
	@echo 'make bench      compare with HAProxy, nginx and Pen: writes docs/benchmarks.md'
	@echo 'make install    to PREFIX ($(PREFIX)) below DESTDIR, with init script, settings and systemd unit'
	@echo 'make uninstall  take it away again, but for the settings'
	@echo 'make clean      remove what was built'

run:
	scripts/install-test-tools demo
	$(MAKE) build
	@scripts/demo $(BINARY)

test:
	scripts/install-test-tools
	$(CARGO) test

bench:
	scripts/install-test-tools bench
	$(MAKE) build
	$(CARGO) bench --bench pick -- --quiet
	python3 -B scripts/benchmark $(BINARY) --output docs --picks $(CARGO_TARGET_DIR)/criterion

check:
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	shellcheck --external-sources $(SHELL_SCRIPTS)

install: $(BINARY)
	install -D -m 755 $(BINARY) $(DESTDIR)$(PREFIX)/sbin/glbd
	install -D -m 755 init/glbd $(DESTDIR)/etc/init.d/glbd
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	sed 's,/usr/sbin/glbd,$(PREFIX)/sbin/glbd,' init/glbd.service >$(DESTDIR)$(PREFIX)/lib/systemd/system/glbd.service
	chmod 644 $(DESTDIR)$(PREFIX)/lib/systemd/system/glbd.service
	@# The settings may have been edited.
	test -e $(DESTDIR)/etc/default/glbd || test -e $(DESTDIR)/etc/sysconfig/glbd || \
		install -D -m 644 init/glbd.default $(DESTDIR)/etc/default/glbd

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/sbin/glbd $(DESTDIR)/etc/init.d/glbd $(DESTDIR)$(PREFIX)/lib/systemd/system/glbd.service

clean:
	$(CARGO) clean

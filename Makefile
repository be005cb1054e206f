PREFIX ?= /usr/local
DESTDIR ?=
CARGO ?= cargo
CARGO_TARGET_DIR ?= target
BINARY := $(CARGO_TARGET_DIR)/release/glbd
# How long `make soak` takes.
MINUTES ?= 60
SOAK := soak::after_an_hour_of_everything_no_byte_was_wrong_and_nothing_is_left_behind
UNITS := init/glbd.service init/glbd.socket init/glbd-control.socket
# The manual page and the shells' completions, which are made from the program's own definition of its options.
MANUAL = $(dir $(BINARY))manual
DEB_DIR ?= $(CARGO_TARGET_DIR)/debian
CARGO_DEB_FLAGS ?=
SHELL_SCRIPTS := init/glbd $(addprefix init/debian/,postinst postrm prerm) init/keepalived/check-glbd scripts/demo \
	scripts/fuzz scripts/install-test-tools scripts/test scripts/valgrind scripts/watch-http scripts/watch-mysql .ci/run

# The tests make namespaces and change users, which only root may. Building them needs no root.
ifneq ($(shell id -u),0)
HOST := $(shell rustc -vV | sed -n 's/^host: //p' | tr a-z- A-Z_)
export CARGO_TARGET_$(HOST)_RUNNER := sudo --preserve-env
endif

.PHONY: build run test loom valgrind fuzz soak bench attack observed check deny install uninstall deb deb-tools clean help

build: $(BINARY) $(MANUAL)/glbd.8

SOURCES := Cargo.toml $(wildcard Cargo.lock) $(shell find src -type f)

$(BINARY): $(SOURCES)
	$(CARGO) build --release
	@touch $@

$(MANUAL)/glbd.8: $(SOURCES) $(wildcard scripts/manual/*)
	$(CARGO) build --example manual
	$(CARGO_TARGET_DIR)/debug/examples/manual $(MANUAL)

help:
	@echo 'make            build $(BINARY) and its manual page'
	@echo 'make run        three small web servers with glbd in front of them, until Ctrl-C'
	@echo 'make test       install what the tests need, and run all of them (as root, or with sudo)'
	@echo 'make loom       run every interleaving of the threads that wake workers'
	@echo 'make valgrind   run a part of the tests with glbd under valgrind'
	@echo 'make fuzz       fuzz the parsers of all that comes from outside, for two minutes'
	@echo 'make soak       everything at once for an hour (MINUTES=60), to the byte and to the descriptor'
	@echo 'make check      format, clippy and shellcheck'
	@echo 'make deny       check licenses, sources and versions of the dependencies, and advisories where they can be fetched'
	@echo 'make bench      compare with HAProxy, nginx and Pen, and attack: writes docs/benchmarks.md'
	@echo 'make attack     measure a client while others flood its service or abuse HTTP: sections of docs/benchmarks.md'
	@echo 'make observed   measure what metrics, page, watching and connection log cost: a section of docs/benchmarks.md'
	@echo 'make install    to PREFIX ($(PREFIX)) below DESTDIR, with init script, settings and systemd unit'
	@echo 'make uninstall  take it away again, but for the settings'
	@echo 'make deb        build a Debian package in $(DEB_DIR)'
	@echo 'make clean      remove what was built'

run:
	scripts/install-test-tools demo
	$(MAKE) $(BINARY)
	@scripts/demo $(BINARY)

test:
	scripts/install-test-tools
	CARGO="$(CARGO)" scripts/test

# A target directory of its own: the flag would have everything else built anew, here and in the next `make test`.
loom:
	CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/loom RUSTFLAGS='--cfg glbd_loom' \
		$(CARGO) test --lib loom -- --show-output

valgrind:
	scripts/install-test-tools valgrind
	CARGO="$(CARGO)" scripts/valgrind

fuzz:
	scripts/install-test-tools fuzz
	CARGO="$(CARGO)" scripts/fuzz

soak:
	scripts/install-test-tools
	GLBD_SOAK_MINUTES=$(MINUTES) $(CARGO) test --test system -- --ignored --exact --nocapture $(SOAK)

bench:
	scripts/install-test-tools bench
	$(MAKE) $(BINARY)
	$(CARGO) bench --bench pick -- --quiet
	python3 -B scripts/benchmark $(BINARY) --output docs --picks $(CARGO_TARGET_DIR)/criterion
	$(MAKE) attack observed

attack:
	scripts/install-test-tools bench
	$(MAKE) $(BINARY)
	python3 -B scripts/benchmark/attack.py $(BINARY) --output docs/benchmarks.md
	python3 -B scripts/benchmark/web_attack.py $(BINARY) --output docs/benchmarks.md

observed:
	scripts/install-test-tools bench
	$(MAKE) $(BINARY)
	python3 -B scripts/benchmark/observed.py $(BINARY) --output docs/benchmarks.md

check:
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	shellcheck --external-sources $(SHELL_SCRIPTS)

deny:
	scripts/install-test-tools deny
	$(CARGO) deny check -D warnings bans licenses sources
	@# The database of advisories is a git repository, which not every machine reaches.
	@if $(CARGO) deny fetch db; then $(CARGO) deny check advisories; else echo 'advisories: not checked'; fi

install: $(BINARY) $(MANUAL)/glbd.8
	install -D -m 755 $(BINARY) $(DESTDIR)$(PREFIX)/sbin/glbd
	install -D -m 755 $(dir $(BINARY))glbctl $(DESTDIR)$(PREFIX)/bin/glbctl
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man8 $(MANUAL)/glbd.8 $(MANUAL)/glbctl.8
	install -D -m 644 $(MANUAL)/glbd.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/glbd
	install -D -m 644 $(MANUAL)/glbctl.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/glbctl
	install -D -m 644 $(MANUAL)/_glbd $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_glbd
	install -D -m 644 $(MANUAL)/_glbctl $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_glbctl
	install -D -m 644 $(MANUAL)/glbd.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/glbd.fish
	install -D -m 644 $(MANUAL)/glbctl.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/glbctl.fish
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/share/glbd scripts/watch-http scripts/watch-mysql
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/glbd init/glbd.schema.json
	install -D -m 755 init/glbd $(DESTDIR)/etc/init.d/glbd
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/systemd/system $(UNITS)
	sed -i 's,/usr/sbin/glbd,$(PREFIX)/sbin/glbd,' $(DESTDIR)$(PREFIX)/lib/systemd/system/glbd.service
	install -D -m 644 init/sysusers.conf $(DESTDIR)$(PREFIX)/lib/sysusers.d/glbd.conf
	@# The settings may have been edited.
	test -e $(DESTDIR)/etc/default/glbd || test -e $(DESTDIR)/etc/sysconfig/glbd || \
		install -D -m 644 init/glbd.default $(DESTDIR)/etc/default/glbd
	test -e $(DESTDIR)/etc/glbd/glbd.toml || install -D -m 644 init/glbd.toml $(DESTDIR)/etc/glbd/glbd.toml

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/sbin/glbd $(DESTDIR)/etc/init.d/glbd $(DESTDIR)$(PREFIX)/lib/sysusers.d/glbd.conf
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/lib/systemd/system/,$(notdir $(UNITS)))
	rm -f $(DESTDIR)$(PREFIX)/share/man/man8/glbd.8 $(DESTDIR)$(PREFIX)/share/bash-completion/completions/glbd
	rm -f $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_glbd
	rm -f $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/glbd.fish
	rm -f $(DESTDIR)$(PREFIX)/bin/glbctl $(DESTDIR)$(PREFIX)/share/man/man8/glbctl.8
	rm -f $(DESTDIR)$(PREFIX)/share/bash-completion/completions/glbctl
	rm -f $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_glbctl
	rm -f $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/glbctl.fish
	rm -rf $(DESTDIR)$(PREFIX)/share/glbd

deb: deb-tools $(BINARY) $(MANUAL)/glbd.8
	gzip --best --no-name --force --keep $(MANUAL)/glbd.8 $(MANUAL)/glbctl.8
	$(CARGO) deb --quiet --no-build --output $(DEB_DIR)/ $(CARGO_DEB_FLAGS)

deb-tools:
	scripts/install-test-tools deb

clean:
	$(CARGO) clean

# fota: what a person types. Each target sets up what it needs.
#   make demo    the whole story on the virtual device     make test   every test
#   make check   format, lint, types, import directions    make size   flash, RAM and stack of the bootloader
#   make bench   instructions and times, beside imgtool    make campaign  every power cut, glitch and bus attack
#   make fuzz    every parser, SECONDS=60 for each         make prove  parsers by CBMC, up to stated bounds
#   make audit   what is known against the server's pinned requirements, where that can be asked
#   make agent-firmware   the agent as the chip's own firmware: MicroPython, mbedTLS, frozen Python
#   make clean   forget everything built

VENV  := .venv
BIN   := $(VENV)/bin
READY := $(VENV)/.ready
C_SOURCES = $(shell git ls-files 'bootloader/*.c' 'bootloader/*.h' 'agent/firmware/*.c' 'agent/firmware/*.h')

.PHONY: demo test check format size bench bench-server campaign fuzz prove audit requirements firmware agent-firmware agent-firmware-if-any agent-toolchain toolchain oracles clean

demo:
	@command -v python3 >/dev/null || { echo "make: needs Python 3.11 or newer" >&2; exit 1; }
	@MAKE='$(MAKE)' python3 tests/demo/phases.py $(if $(CHIP),'$(CHIP)')

test: $(READY) firmware agent-firmware-if-any oracles
	$(BIN)/pytest -n 2 --dist loadfile tests

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(C_SOURCES)
	$(BIN)/pytest -q tests/layout

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/clang-format -i $(C_SOURCES)

size: $(READY) toolchain
	$(MAKE) --no-print-directory -C bootloader size PYTHON=$(CURDIR)/$(BIN)/python

bench: $(READY) firmware agent-firmware-if-any oracles
	$(BIN)/python tests/bench/bench.py

bench-server: $(READY) oracles
	$(BIN)/python tests/bench/bench_server.py

campaign: $(READY) firmware agent-firmware-if-any oracles
	$(BIN)/python tests/campaign/run.py
	$(BIN)/python tests/campaign/campaign_rollouts.py
	$(BIN)/python tests/campaign/campaign_fleet.py
	EVERY=1 $(BIN)/pytest -q tests/agent/test_agent_cuts.py tests/firmware/test_firmware_campaign.py tests/firmware/test_firmware_log.py

fuzz: $(READY) toolchain
	$(MAKE) --no-print-directory -C tests/fuzz fuzz SECONDS=$(or $(SECONDS),60)

prove: $(READY)
	$(MAKE) --no-print-directory -C tests/fuzz prove PYTHON=$(CURDIR)/$(BIN)/python

# The server's requirements by hash, and what is known against them; their tools have a place of their own.
SERVER_PINS := update-server/requirements.txt
requirements: build/audit/.ready
	@sed '/^[^#]/,$$d' $(SERVER_PINS) > build/audit/pins
	@build/audit/bin/pip-compile -q --generate-hashes --strip-extras --no-emit-find-links --no-emit-index-url \
	  --no-emit-trusted-host --no-annotate --no-header --extra server --extra postgresql --extra s3 --extra oidc \
	  -c constraints.txt -o - pyproject.toml 2>build/audit/said >>build/audit/pins || { cat build/audit/said; exit 1; }
	@mv build/audit/pins $(SERVER_PINS)

audit: $(READY) build/audit/.ready
	@$(BIN)/python tests/supply/audit.py build/audit/bin/pip-audit

# A certified OpenID Connect provider, for tests/server/test_server_login.py.
build/oidc/.ready: tests/server/oidc/package-lock.json
	@mkdir -p build/oidc && cp tests/server/oidc/package.json tests/server/oidc/package-lock.json build/oidc/ && \
	  cd build/oidc && npm ci --silent --no-audit --no-fund && touch .ready

# Asks what the operator plane's OpenAPI document allows, for tests/server/test_server_openapi.py.
build/schemathesis/.ready: Makefile
	@python3 -m venv build/schemathesis && build/schemathesis/bin/pip install --quiet --disable-pip-version-check schemathesis==4.32.5
	@touch $@

# Know what GitHub Actions, GitLab CI and pre-commit take, for tests/cli/test_cli_pipelines.py and tests/signer.
build/check-jsonschema/.ready: Makefile
	@python3 -m venv build/check-jsonschema && build/check-jsonschema/bin/pip install --quiet --disable-pip-version-check check-jsonschema==0.39.0 pre-commit==4.7.0
	@touch $@

# Know what DSSE, in-toto, CycloneDX and SPDX are, for tests/evidence_judges.py.
EVIDENCE := cyclonedx-python-lib[json-validation]==11.12.0 securesystemslib[crypto]==1.6.0 \
  in-toto-attestation==0.9.3 spdx-python-model==0.0.6
build/evidence-judges/.ready: Makefile
	@python3 -m venv build/evidence-judges && build/evidence-judges/bin/pip install --quiet --disable-pip-version-check $(EVIDENCE)
	@touch $@

# Looks at who speaks TLS, for tests/server/test_server_sslyze.py.
build/sslyze/.ready: Makefile
	@python3 -m venv build/sslyze && build/sslyze/bin/pip install --quiet --disable-pip-version-check sslyze==6.3.1
	@touch $@

build/audit/.ready: Makefile
	@python3 -m venv build/audit && build/audit/bin/pip install --quiet --disable-pip-version-check pip-audit==2.10.1 pip-tools==7.6.2
	@touch $@

# The bootloader, and the releases of the sample application that demo, tests and benchmark use.
firmware: toolchain $(READY)
	@$(MAKE) --no-print-directory -C bootloader host
	@for port in stm32l4 stm32u5 esp32c3; do \
	  make_port="$(MAKE) --no-print-directory -C bootloader PORT=$$port PYTHON=$(CURDIR)/$(BIN)/python"; \
	  $$make_port bootloader recovery || exit 1; \
	  for version in 1.0.0 1.1.0 1.3.0; do $$make_port sample VERSION=$$version || exit 1; done; \
	  $$make_port sample VERSION=1.2.0 SELF_TEST=fail || exit 1; \
	done

# The agent as the chip's own firmware, in the versions that demo, tests and benchmark use. The sources of
# MicroPython and mbedTLS come from Debian's archive (agent/firmware/README.md).
AGENT_VERSIONS := 1.0.0 1.1.0 1.2.0-fail
agent-firmware: agent-toolchain
	@for chip in stm32l4 stm32u5 esp32c3; do for version in $(AGENT_VERSIONS); do \
	  $(MAKE) --no-print-directory -C agent/firmware CHIP=$$chip VERSION=$$version || exit 1; done; done
	@$(MAKE) --no-print-directory -C agent/firmware CHIP=stm32l4 TLS12=1
	@$(MAKE) --no-print-directory -C agent/firmware CHIP=stm32l4 unix

# The same, but no error where the sources cannot be had: whoever needs them says so and goes on.
agent-firmware-if-any: toolchain
	@mkdir -p build/micropython; \
	if ! $(MAKE) --no-print-directory agent-toolchain; \
	  then echo "no picolibc for both chips, xz-utils or bzip2 on this machine" > build/micropython/unavailable; \
	elif agent/firmware/fetch_sources.sh build/micropython; \
	  then $(MAKE) --no-print-directory agent-firmware; fi

AGENT_TOOLCHAIN := picolibc-arm-none-eabi picolibc-riscv64-unknown-elf xz-utils bzip2
agent-toolchain: toolchain
	@[ -f /usr/lib/picolibc/arm-none-eabi/picolibc.specs ] && [ -f /usr/lib/picolibc/riscv64-unknown-elf/picolibc.specs ] || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(AGENT_TOOLCHAIN); \
	} || { echo "make: needs Debian's packages $(AGENT_TOOLCHAIN): apt-get install them as root" >&2; exit 1; }

# The compilers come from Debian; without the right to install them, say their names and stop.
TOOLCHAIN := gcc-arm-none-eabi gcc-riscv64-unknown-elf gcc libc6-dev
toolchain:
	@command -v arm-none-eabi-gcc >/dev/null && command -v riscv64-unknown-elf-gcc >/dev/null && command -v cc >/dev/null || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(TOOLCHAIN); \
	} || { echo "make: needs Debian's packages $(TOOLCHAIN): apt-get install them as root" >&2; exit 1; }

# What the demo shows besides (a gateway's token), and what tests hold our own work against; without them demo
# and tests say what they leave out. gcc-multilib is there on amd64 alone: the agent in a chip's small memory.
# XTENSA: the classic ESP32's core in QEMU, of which nothing recommended (a desktop) is wanted.
XTENSA := gcc-xtensa-lx106 qemu-system-misc
# HAWKBIT: a client of hawkBit's device API; as a program alone, the services of its package stay off.
HAWKBIT := swupdate curl
# FRONT: what may stand before the server; as a program alone, its service stays off.
FRONT := nginx-light
# TLOG: Go's own readers of transparency logs.
TLOG := golang-go golang-golang-x-mod-dev
ORACLES := softhsm2 strace clang lld cmake systemd nftables postgresql-15 $(if $(filter x86_64,$(shell uname -m)),gcc-multilib)
oracles:
	@command -v softhsm2-util >/dev/null && command -v strace >/dev/null && command -v clang >/dev/null && command -v ld.lld >/dev/null && \
	command -v cmake >/dev/null && ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 && command -v systemd-analyze >/dev/null && ls /usr/sbin/nft >/dev/null 2>&1 && { [ "$$(uname -m)" != x86_64 ] || dpkg -s gcc-multilib >/dev/null 2>&1 || ! command -v dpkg >/dev/null; } || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(ORACLES); \
	} || echo "make: without Debian's packages $(ORACLES) some of it is left out"
	@command -v xtensa-lx106-elf-gcc >/dev/null && command -v qemu-system-xtensa >/dev/null || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(XTENSA); \
	} || echo "make: without Debian's packages $(XTENSA) the classic ESP32's core is not tried"
	@command -v swupdate >/dev/null && command -v curl >/dev/null || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && mkdir -p /etc/systemd/system && \
	  for unit in swupdate.service swupdate.socket swupdate-progress.service; do \
	    ln -sfn /dev/null /etc/systemd/system/$$unit || exit 1; done && \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(HAWKBIT); \
	} || echo "make: without Debian's packages $(HAWKBIT) no client of hawkBit's is tried"
	@command -v nginx >/dev/null || ls /usr/sbin/nginx >/dev/null 2>&1 || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && mkdir -p /etc/systemd/system && \
	  ln -sfn /dev/null /etc/systemd/system/nginx.service && \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(FRONT); \
	} || echo "make: without Debian's package $(FRONT) no server is tried behind nginx"
	@command -v promtool >/dev/null || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && folder=$$(mktemp -d) && cd $$folder && \
	  apt-get download -qq prometheus && dpkg-deb -x prometheus_*.deb . && install usr/bin/promtool /usr/local/bin/promtool; \
	  found=$$?; [ -z "$$folder" ] || rm -r "$$folder"; [ $$found = 0 ]; \
	} || echo "make: without promtool (of Debian's package prometheus) metrics and alerts are not held against it"
	@command -v go >/dev/null && [ -d /usr/share/gocode/src/golang.org/x/mod ] || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(TLOG); \
	} || echo "make: without Debian's packages $(TLOG) no stranger reads the release log"
	@command -v npm >/dev/null && $(MAKE) --no-print-directory build/oidc/.ready || echo "make: without Node.js no OpenID provider is tried"
	@$(MAKE) --no-print-directory build/schemathesis/.ready || echo "make: without schemathesis no stranger reads the OpenAPI document"
	@$(MAKE) --no-print-directory build/check-jsonschema/.ready || echo "make: without check-jsonschema no stranger reads the pipelines and the hook"
	@$(MAKE) --no-print-directory build/evidence-judges/.ready || echo "make: without in-toto's, CycloneDX's and SPDX's packages no stranger reads the evidence"
	@$(MAKE) --no-print-directory build/sslyze/.ready || echo "make: without sslyze no stranger looks at TLS"
	@$(MAKE) --no-print-directory build/audit/.ready || echo "make: without pip-audit nothing is asked of known vulnerabilities"

$(READY): pyproject.toml constraints.txt
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: needs Python 3.11 or newer" >&2; exit 1; }
	@test -x $(BIN)/pip || python3 -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "make: needs Debian's package python3-venv: apt-get install it as root" >&2; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[server,postgresql,s3,oidc,vdev,gateway,kms,pkcs11,test]'
	@touch $@

clean:
	rm -rf build $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

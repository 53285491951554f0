# `make demo` and `make test` each install what is missing first; a second run installs nothing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Command or library that must be there -> Debian package that brings it.
SYSTEM_NEEDS := pvpython:paraview paraview:paraview Xvfb:xvfb xdotool:xdotool libEGL.so.1:libegl1 \
                libGL.so.1:libgl1 swrast_dri.so:libgl1-mesa-dri libQt5Svg.so.5:libqt5svg5

.PHONY: setup system demo test all-tests test-paraviews lint format pictures bench fuzz soak

setup: system $(VENV)/.ready

# TORCH: the CPU build is enough for the tests; an environment that has torch already keeps its own.
$(VENV)/.ready: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c "import torch" 2>/dev/null || $(BIN)/python -m pip install --quiet torch==2.13.0
	@$(BIN)/python -m pip install --quiet --editable ".[examples,test]"
	@touch $@

system:
	@missing=""; \
	$(PYTHON) -c "import ensurepip, venv" 2>/dev/null || missing="$$missing python3-venv"; \
	for need in $(SYSTEM_NEEDS); do \
	  name=$${need%%:*}; package=$${need##*:}; \
	  case $$name in \
	    pvpython) test -n "$$TENSORVIEW_PVPYTHON" || command -v pvpython >/dev/null || missing="$$missing $$package python3-paraview" ;; \
	    libQt5Svg*) test -n "$$TENSORVIEW_PVPYTHON" || /sbin/ldconfig -p | grep -q "$$name" || missing="$$missing $$package" ;; \
	    lib*) /sbin/ldconfig -p | grep -q "$$name" || missing="$$missing $$package" ;; \
	    *_dri.so) ls /usr/lib/*/dri/$$name /usr/lib*/dri/$$name 2>/dev/null | grep -q . || missing="$$missing $$package" ;; \
	    *) command -v $$name >/dev/null || missing="$$missing $$package" ;; \
	  esac; \
	done; \
	missing=$$(echo $$missing | tr ' ' '\n' | sort -u | tr '\n' ' '); \
	if [ -z "$$(echo $$missing)" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "Installing $$missing"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing >/dev/null; \
	else \
	  echo "Missing on this machine. As root, run:"; \
	  echo "    apt-get install --no-install-recommends $$missing"; \
	  echo "(on other systems, the packages of the same purpose), then this command again."; \
	  exit 1; \
	fi

# BENCH: options of benchmarks/speed, as in `make bench BENCH="--theme training"`.
bench: setup
	@$(BIN)/python -m benchmarks.speed $(BENCH)

pictures: setup
	@$(BIN)/python -m tests.gui.pictures

demo: setup
	@$(BIN)/python examples/demo.py

# Lint and types beside the tests: mypy takes one core.
# Compiled files are kept, whatever the environment says: else each of hundreds of processes
# compiles the package anew.
test: export PYTHONDONTWRITEBYTECODE :=
test: setup
	@$(MAKE) --no-print-directory --jobs=2 lint all-tests

# Three at once on two cores: many wait, for a screen, a viewer or a worker.
all-tests: setup
	@$(BIN)/python -m pytest -n 3 --no-loadscope-reorder

# ParaView 5.13 and 6.1, as Debian has them; as root. The first run takes some minutes and 5 GB.
test-paraviews: setup
	@tests/paraviews/run.sh trixie sid

# CASES: of each target, each in a process of its own. SEED: to repeat a run that failed.
CASES ?= 20000
SEED ?= $(shell date +%s)
fuzz: setup
	@$(BIN)/python -m tests.fuzz --cases $(CASES) --seed $(SEED)

# The tests that have a long form, in that form. MINUTES: then, of a training under every fault at once.
MINUTES ?= 10
soak: setup
	@TENSORVIEW_LONG_TESTS=1 $(BIN)/python -m pytest -n 2 --no-loadscope-reorder -m long
	@$(BIN)/python -m tests.faults.soak --minutes $(MINUTES)

lint: setup
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

format: setup
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

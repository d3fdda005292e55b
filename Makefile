# The only commands anyone needs. `make` alone lists them; `make test PYTHON=python3.13` uses another Python,
# in a virtual environment of its own.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test check fix bench fuzz conform docs wheel browser desktop clean

PYTHON ?=
VENV := .venv$(if $(PYTHON),-$(notdir $(PYTHON)))
BIN := $(VENV)/bin
# On a terminal, or on a CI server, nothing here asks a question.
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYO3_PYTHON := $(CURDIR)/$(BIN)/python
RUST_SOURCES := $(shell find wire core -name '*.rs' -not -path '*/tests/*' 2>/dev/null) $(wildcard Cargo.* */Cargo.toml)
PYTHON_SOURCES := python tests examples tools bench conformance
# core's tests are programs that embed Python, so they must find its library (pyenv and conda keep it to themselves).
CARGO_TEST = LD_LIBRARY_PATH="$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))')" cargo test

help:
	@sed -n 's/^\([a-z]*\):.*## */make \1	/p' $(MAKEFILE_LIST) | expand -t 16

setup: $(VENV)/built ## make .venv and build the extension into it (quick when nothing changed)

$(VENV)/tools: pyproject.toml tools/setup
	tools/setup $(VENV) $(PYTHON)
	@touch $@

$(VENV)/built: $(VENV)/tools $(RUST_SOURCES)
	VIRTUAL_ENV=$(CURDIR)/$(VENV) PIP_QUIET=1 $(BIN)/maturin develop --release --quiet
	@touch $@

demo: setup ## chat, a clock, and what happens when Python is held (http://127.0.0.1:8000)
	$(BIN)/portico demo

test: setup browser desktop ## run every test
	cargo test --quiet -p portico-wire
	$(CARGO_TEST) --quiet -p portico-core
	$(BIN)/pytest -q

# Playwright drives Debian's Chromium; without one the browser tests are skipped with a line that says so.
browser:
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y chromium >/dev/null; } \
	  || echo "no chromium, and no way to install it: the browser tests will be skipped"

# The GUIs that tests run in: Tk on a virtual display, GLib from the system, Qt from PyPI with the libraries it needs.
DESKTOP := xvfb python3-gi libegl1 libgl1 libxkbcommon0 libdbus-1-3 libfontconfig1

desktop: $(VENV)/tools
	@dpkg -s $(DESKTOP) >/dev/null 2>&1 || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y $(DESKTOP) >/dev/null; } \
	  || echo "no way to install $(DESKTOP): tests of GUIs may be skipped"
	@$(BIN)/python -m pip install --quiet --group desktop \
	  || echo "no PySide6 or matplotlib for this Python: the tests of Qt and of figures will be skipped"

check: setup ## formatting, lints, types, the seam's stub, versions
	cargo fmt --all --check
	cargo clippy --quiet --workspace --all-targets -- -D warnings
	$(BIN)/ruff format --check $(wildcard $(PYTHON_SOURCES))
	$(BIN)/ruff check $(wildcard $(PYTHON_SOURCES))
	$(BIN)/mypy --strict python/portico
	$(BIN)/stubtest portico._core --allowlist tools/stubtest_allowed.txt
	$(BIN)/python tools/check_version.py
	$(BIN)/pytest -q tests/test_imports.py

fix: setup ## let the formatters and linters repair what they can
	cargo fmt --all
	$(BIN)/ruff check --fix $(wildcard $(PYTHON_SOURCES))
	$(BIN)/ruff format $(wildcard $(PYTHON_SOURCES))

bench: setup ## measure throughput and the latency under a held interpreter
	$(BIN)/python bench/run.py
	$(BIN)/python bench/tls.py
	$(BIN)/python bench/held.py
	$(BIN)/python bench/held_rate.py
	$(BIN)/python bench/homes/measure.py
	$(BIN)/python bench/idle.py
	$(BIN)/python bench/send_latency.py
	$(BIN)/python bench/memory.py
	$(BIN)/python bench/uploads.py
	$(BIN)/python bench/stalled.py
	$(BIN)/python bench/clients.py

fuzz: ## feed every parser random bytes, 20 seconds each (FUZZ_S=600 for longer)
	tools/fuzz $(or $(FUZZ_S),20)

conform: setup ## the protocol conformance suites
	tools/conform $(BIN)/python

docs: setup ## the documentation, in build/docs
	$(BIN)/python -m pip install --quiet --group docs
	$(BIN)/python tools/make_docs.py build/docs

wheel: $(VENV)/tools ## sdist and wheel in dist/, the wheel tried in a clean environment
	rm -rf dist
	$(BIN)/maturin build --release --sdist --quiet --out dist --interpreter $(BIN)/python
	tools/try_wheel $(BIN)/python dist/*.whl

clean: ## remove what the other commands made
	rm -rf .venv .venv-* target fuzz/target build dist
	find python tests -name __pycache__ -prune -exec rm -rf {} + ; rm -f python/portico/_core*.so

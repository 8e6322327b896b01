# Everything that a developer runs. The targets make what they need: `make demo` and `make test` work on a
# fresh machine that has Python 3.11 or newer, make and, for the tests' programs, apt.

PYTHON ?= python3
PORT ?= 8000
BIN := .venv/bin
SHELL := /bin/bash
# $(call install,environment,what): uv takes seconds; pip, which takes minutes, knows more kinds of configuration.
install = .venv/bin/uv pip install --quiet --python $(1)/bin/python $(2) \
  || $(1)/bin/python -m pip install --quiet --disable-pip-version-check $(2)

.DEFAULT_GOAL := help
.PHONY: help setup setup-test system-packages interop demo check test test-newest lint format docs bench messages clean

help:
	@echo "make setup       create .venv with everything that development needs"
	@echo "make demo        run the demo project on http://localhost:$(PORT)/"
	@echo "make check       what needs no server and no browser: lint, types, most tests (2 minutes)"
	@echo "make test        lint, JavaScript tests, Python tests (installs what they need)"
	@echo "make lint        ruff, mypy, and the JavaScript linter and type checker"
	@echo "make format      let ruff rewrite the Python files"
	@echo "make docs        build the documentation into build/docs; warnings are errors"
	@echo "make bench       measure what a call costs"
	@echo "make messages    regenerate the protobuf module from its .proto file"
	@echo "make clean       remove everything that these targets made"

setup: .venv/.installed

.venv/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "voicews needs Python 3.11 or newer; say which: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' \
	  || { echo "this Python cannot make environments; on Debian: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1' 'uv>=0.9'
	$(call install,.venv,--editable '.[uvicorn]' --group dev)
	@touch $@

.venv/.installed-demo: pyproject.toml
	@if [ .venv/.installed -nt pyproject.toml ]; then touch $@; exit 0; fi; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "voicews needs Python 3.11 or newer; say which: make PYTHON=python3.12"; exit 1; }; \
	$(PYTHON) -c 'import ensurepip, venv' \
	  || { echo "this Python cannot make environments; on Debian: apt-get install python3-venv"; exit 1; }; \
	echo "installing the demo into .venv: Django, Channels and what they need"; \
	[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1' && \
	$(BIN)/python -m pip install --disable-pip-version-check --editable '.[telephony]' --group demo && \
	touch $@

setup-test: setup system-packages node_modules/.package-lock.json interop

# Pairs of program:Debian package. Only what is missing gets installed, so a machine that has them needs neither
# apt nor root. Debian keeps PostgreSQL's own programs off the PATH.
PROGRAMS := redis-server:redis-server initdb:postgresql chromium:chromium node:nodejs npm:npm

system-packages:
	@missing=(); \
	PATH=$$(printf '%s:' /usr/lib/postgresql/*/bin)$$PATH; \
	for pair in $(PROGRAMS); do command -v "$${pair%%:*}" >/dev/null || missing+=("$${pair##*:}"); done; \
	if [ "$${#missing[@]}" -eq 0 ]; then exit 0; fi; \
	if ! command -v apt-get >/dev/null; then \
	  echo "The tests need these programs, please install them: $${missing[*]}"; exit 1; fi; \
	sudo=; if [ "$$(id -u)" -ne 0 ]; then sudo=sudo; fi; \
	echo "installing $${missing[*]}"; \
	$$sudo apt-get update -qq && \
	$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$${missing[@]}"

node_modules/.package-lock.json: package.json package-lock.json | system-packages
	npm ci --no-fund --no-audit
	@touch $@

interop: setup system-packages
	$(BIN)/python -m tests.interop.environment

# The demo needs little of what development needs; it makes do with what is there.
demo: .venv/.installed-demo
	SIMULATED_PROVIDERS=http://127.0.0.1:8999 \
	VOICEWS_PUBLIC_URL=$${VOICEWS_PUBLIC_URL:-http://localhost:$(PORT)} \
	PORT=$(PORT) $(BIN)/python manage.py demo

# Most tests wait for something, so more of them run than there are processors. A file stays in one process, as
# its tests share servers and browsers. xdist's own order would leave the files with few, long tests to the end.
check: setup lint docs
	npm test
	$(BIN)/python -m pytest -n auto -m 'not program and not alone'

test: setup-test lint docs test-newest
	npm test
	$(BIN)/python -m pytest -m 'not alone' -n 3 --dist loadfile --no-loadscope-reorder
	$(BIN)/python -m pytest -m alone

# The newest Python of this machine, which is what the newest Django needs. All tests that start no program run
# there, and some of those that do.
NEWEST_PYTHON ?= $(shell for minor in 14 13 12; do \
  for python in python3.$$minor "$$HOME"/.pyenv/versions/3.$$minor.*/bin/python; do \
    if "$$python" -c '' 2>/dev/null; then echo "$$python"; exit; fi; done; done)
NEWEST_PROGRAM_TESTS := tests/consumers/test_calls.py tests/sessions/test_takeover.py tests/test_project.py

test-newest: setup-test
ifeq ($(NEWEST_PYTHON),)
	@echo "No Python newer than 3.11 on this machine: not tested with the newest Django."
else
	test -x .venv-newest/bin/python || $(NEWEST_PYTHON) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(call install,.venv-newest,--upgrade --editable '.[uvicorn]' --group test --group demo)
	.venv-newest/bin/python -c 'import django, sys; print("Django", django.__version__, "on Python", sys.version)'
	.venv-newest/bin/python -m pytest -q -n 3 -m 'not program and not alone'
	.venv-newest/bin/python -m pytest -q -n 3 -m 'not alone' --dist loadfile $(NEWEST_PROGRAM_TESTS)
endif

lint: setup node_modules/.package-lock.json
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	npm run lint

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup
	$(BIN)/python -m sphinx --builder html --fail-on-warning --keep-going --quiet --jobs auto docs build/docs

bench: setup interop
	$(BIN)/python -m tests.benchmarks

messages:
	test -x .venv-messages/bin/python || $(PYTHON) -m venv .venv-messages
	.venv-messages/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	.venv-messages/bin/python -m pip install --quiet --group messages
	.venv-messages/bin/python -m grpc_tools.protoc --proto_path=. --python_out=. --pyi_out=. \
	  voicews/serializers/frames.proto

clean:
	rm -rf .venv .venv-messages .venv-newest .venv-pipecat node_modules tests/interop/node_modules tests/interop/build build dist \
	  .mypy_cache .ruff_cache .pytest_cache .hypothesis db.sqlite3 db.sqlite3-shm db.sqlite3-wal
	find voicews project tests -name __pycache__ -type d -prune -exec rm -rf {} +

# make demo   install, train RPCL on a generated corpus with text, audio and vision, show results
# make test   install, run all tests
# make check  formatting, lint and types

PYTHON ?= $(shell for p in python3.12 python3.11 python3; do \
	$$p -c 'import sys; assert (3, 11) <= sys.version_info < (3, 13)' 2>/dev/null && echo $$p && break; done)
VENV := .venv

.PHONY: demo test check
demo: $(VENV)/installed
	$(VENV)/bin/python -m rpcl_jax.main --config=configs/demo.py

test: $(VENV)/installed-dev
	$(VENV)/bin/python -m pytest -n auto --dist loadfile

check: $(VENV)/installed-dev
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

$(VENV)/installed: requirements.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/bin/python -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.txt requirements-tools.txt requirements-features.txt
	$(VENV)/bin/python -m pip install --quiet -r requirements-dev.txt
	touch $@

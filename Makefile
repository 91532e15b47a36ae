# make demo   install, train RPCL on a generated corpus with text, audio and vision, show results
# make test   install, run all tests but those of processes that share work, of Ray and of kills
# make test-all   and those, as .ci/run does
# make quick  install without PyTorch, run the tests that take less than a second each
# make check  formatting, lint and types; installs no more than these need
# make bench  how fast this machine trains, predicts, makes batches and starts, added to
#             benchmarks/history.csv; BENCH="--config=FILE …" measures another config, RUN another run

# The newest supported Python there is; PYTHON=/path/to/python3.13 chooses another.
NAMES := python3.14 python3.13 python3.12 python3.11 python3 python
SUPPORTED := import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))
PYTHON ?= $(shell for name in $(NAMES); do \
	$$name -c '$(SUPPORTED)' 2>/dev/null && echo $$name && break; done)
VENV := .venv
# Without the warnings of setuptools.
INSTALL = PYTHONWARNINGS=ignore $(VENV)/bin/python -m pip install --quiet --editable
# tests/conftest.py orders the files.
PARALLEL := -n auto --dist loadfile --no-loadscope-reorder

BENCH := --config=configs/demo.py
RUN := runs/demo/rpcl-tav-seed42

.PHONY: demo test test-all quick check bench
demo: $(VENV)/installed
	$(VENV)/bin/python -m rpcl_jax.main --config=configs/demo.py

test: $(VENV)/installed-dev
	$(VENV)/bin/python -m pytest $(PARALLEL) -m "not long"

test-all: $(VENV)/installed-dev
	$(VENV)/bin/python -m pytest $(PARALLEL)

quick: $(VENV)/installed-test
	$(VENV)/bin/python -m pytest $(PARALLEL) -m "not slow" tests

check: $(VENV)/installed-check
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

bench: $(VENV)/installed $(RUN)/result.json
	$(VENV)/bin/python -m benchmarks.run --processes=2 $(BENCH)
	$(VENV)/bin/python -m benchmarks.train_step --processes=2 --rounds=5 $(BENCH)
	$(VENV)/bin/python -m benchmarks.predict --processes=2 --workdir=$(RUN)
	$(VENV)/bin/python -m benchmarks.host --processes=2 $(BENCH)
	$(VENV)/bin/python -m benchmarks.startup --processes=2 $(BENCH)

runs/demo/rpcl-tav-seed42/result.json: | $(VENV)/installed
	$(VENV)/bin/python -m rpcl_jax.main --config=configs/demo.py

$(VENV)/installed: requirements.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "requires Python 3.11 to 3.14 with venv; found: $$(for name in \
	$(NAMES); do $$name -V 2>/dev/null; done | sort -u | paste -sd, -); make PYTHON=/path/to/python"; \
	exit 1; }
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(INSTALL) .
	touch $@

$(VENV)/installed-%: $(VENV)/installed
	$(INSTALL) ".[$*]"
	touch $@

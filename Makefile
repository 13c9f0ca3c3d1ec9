PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint unit peers simulate docs clean

demo: $(VENV)/.ready
	$(BIN)/ottla demo

test: lint unit

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# What runs in virtual time may share the cores; what measures or waits for real processes may not.
unit: $(VENV)/.ready
	$(BIN)/python -m pytest -n logical tests/simulation/storms
	$(BIN)/python -m pytest -n logical tests/simulation --ignore=tests/simulation/storms
	$(BIN)/python -m pytest --ignore=tests/simulation

# Against tools that are no Python packages: kcat (Debian: apt install kcat), and Apache Kafka's own from its jars
# (java; APACHE_KAFKA_JARS=DIRECTORY).
peers: $(VENV)/.ready
	$(BIN)/python -m pytest tests/compatibility/peer_*.py

$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Ottla needs Python 3.11 or newer: make PYTHON=python3.13" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@

# make simulate SEEDS=1000 MINUTES=5 NODES=3 JOBS=2 ARGS='--faults kill,pause'
SEEDS := 100
MINUTES := 5
NODES := 3
simulate: $(VENV)/.ready
	$(BIN)/ottla simulate --seeds $(SEEDS) --minutes $(MINUTES) --nodes $(NODES) $(if $(JOBS),--jobs $(JOBS)) $(ARGS)

docs: $(VENV)/.ready
	$(BIN)/python -m docs.generate

clean:
	rm -rf $(VENV)

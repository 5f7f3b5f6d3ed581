# creditd: every command a developer or CI runs. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.locked

.DEFAULT_GOAL := help
.PHONY: help setup run test test-faults test-sim lint proto proto-check docs docs-check clients clients-check test-clients chart lock dist image bench pictures clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## create .venv with the locked dependencies and creditd itself

# Hash-checked, exactly as locked; nothing but Python and make is needed before. pip brings uv, and uv the rest in
# half of the time; where uv finds no index, as behind one that only pip's settings name, pip does it all.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
$(STAMP): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is not Python 3.11 or later; name one that is: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "setting up .venv with the locked dependencies: half a minute or so, once"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
	@sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > $(VENV)/uv.txt
	@$(PIP) --require-hashes -r $(VENV)/uv.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock \
	  || $(PIP) --require-hashes -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

run: setup ## the whole service on embedded servers, with a demo catalog and account
	@exec $(BIN)/creditd dev --demo

test: setup ## the whole Python test suite on embedded servers
	$(BIN)/python -m pytest

# FIRST=n begins at sequence n and leaves the faults alone out: what is wrong in a run says how to see it again.
SEED ?= 1
ROUNDS ?= 20
test-faults: setup ## load while everything breaks, then an audit: SEED=n ROUNDS=n
	$(BIN)/python -m tests.faults --seed $(SEED) --rounds $(ROUNDS) $(if $(FIRST),--first $(FIRST),--alone)

SEEDS ?= 500:1000
test-sim: setup ## SEEDS=500:1000 of the simulator: whole lives in simulated time, with faults at every step
	$(BIN)/python -m tests.simulator --seeds $(SEEDS) --ops 200

lint: setup ## ruff, mypy --strict, buf lint, hadolint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/buf lint
	$(BIN)/hadolint Dockerfile

proto: setup ## regenerate src/creditd/v1 from protos/
	$(BIN)/python scripts/generate_protos.py

proto-check: setup ## fail when generated code is stale or the API breaks the last commit's
	$(BIN)/python scripts/generate_protos.py --check
	$(BIN)/python scripts/check_breaking.py

docs: setup ## regenerate docs/api.md from the protos and docs/configuration.md from the settings
	$(BIN)/python scripts/generate_docs.py

docs-check: setup ## fail when a generated page is stale
	$(BIN)/python scripts/generate_docs.py --check

# LANGUAGES='go python' names some of them; all by default.
clients: setup ## regenerate the clients of every language from protos/
	$(BIN)/python scripts/clients.py generate $(LANGUAGES)

clients-check: setup ## fail when a client's committed code is stale
	$(BIN)/python scripts/clients.py check $(LANGUAGES)

test-clients: setup ## the examples of every language against `creditd dev` on both transports
	$(BIN)/python scripts/clients.py test $(LANGUAGES)

chart: setup ## regenerate what the Helm chart says of the settings and values
	$(BIN)/python scripts/generate_chart.py

lock: setup ## resolve pyproject.toml anew into requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra dev --group test --universal --python-version 3.11 \
	  --generate-hashes --no-header --no-annotate --quiet --output-file requirements.lock

# With hatchling as locked, and nothing from any index.
dist: setup ## wheel and sdist into dist/
	$(BIN)/uv build --quiet --offline --no-build-isolation --python $(BIN)/python --sdist --wheel --out-dir dist

IMAGE ?= creditd
image: setup ## the container image, tagged with the version; needs Docker
	version=$$($(BIN)/python -c 'import creditd; print(creditd.__version__)') && \
	  docker build --build-arg VERSION=$$version --build-arg REVISION=$$(git rev-parse HEAD) --tag $(IMAGE):$$version .

bench: setup ## calls a second and latencies of both hosts beside an empty call
	$(BIN)/python -m bench

pictures: setup ## take the pictures of the command line in docs/images anew
	$(BIN)/python scripts/cli_pictures.py

clean: ## remove what setup and the tools made
	rm -rf $(VENV) .cache/roots .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build

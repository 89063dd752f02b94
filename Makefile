# Everything one can do here. `make` prints this list.
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || echo python3)
VENV ?= .venv
BIN := $(VENV)/bin
DATA ?= digits
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --retries 10
PROTOS := $(shell cd protos && find plumbline -name '*.proto')

.DEFAULT_GOAL := help

.PHONY: help
help:  ## Print this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV)/installed  ## Run the main job end to end on real digits with decoys (DATA=mnist: on MNIST)
	$(BIN)/python -m benchmarks.decoy.demo --data $(DATA)

.PHONY: test
test: $(VENV)/installed  ## All tests that need no GPU, no big data and less than a minute each
	$(BIN)/python -m pytest -m "not slow and not bigdata and not gpu"

.PHONY: unit
unit: $(VENV)/installed  ## Unit tests: no servers, under a minute
	$(BIN)/python -m pytest tests/unit

.PHONY: integration
integration: $(VENV)/installed  ## Tests that start real Triton, Redis, workers and gRPC servers
	$(BIN)/python -m pytest -m "integration and not slow"

.PHONY: test-slow
test-slow: $(VENV)/installed  ## Tests that take more than a minute
	$(BIN)/python -m pytest -m "slow and not bigdata and not gpu"

.PHONY: check
check: $(VENV)/installed protos-check  ## Format, lint, imports, stubs: all that needs no server
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

.PHONY: format
format: $(VENV)/installed  ## Format the code
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

.PHONY: protos
protos: $(VENV)/installed  ## Generate the stubs from protos/
	$(BIN)/python -m grpc_tools.protoc -Iprotos --python_out=. --pyi_out=. --grpc_python_out=. $(PROTOS)

.PHONY: protos-check
protos-check: $(VENV)/installed  ## Lint the protos and fail when the stubs are stale
	$(BIN)/python -m pytest -q tests/unit/protos

OVERLAY ?= local-cpu

.PHONY: k8s-render
k8s-render:  ## Print the manifests of an overlay (OVERLAY=local-cpu, gpu or hospital-airgap)
	kubectl kustomize deploy/k8s/overlays/$(OVERLAY)

.PHONY: k8s-check
k8s-check: $(VENV)/installed  ## Render, validate and hold the manifests to the policies
	$(BIN)/python -m pytest -q tests/unit/deploy

IMAGE_BASE ?= /

.PHONY: images-check
images-check: $(VENV)/installed  ## Build and run what the Dockerfiles say, without an engine (root; 20 minutes; IMAGE_BASE=folder with a Debian)
	PLUMBLINE_IMAGE_BASE=$(IMAGE_BASE) $(BIN)/python -m pytest -v --log-cli-level=INFO tests/e2e/test_images.py

.PHONY: sbom
sbom: $(VENV)/supply-chain  ## Write what each image holds as CycloneDX into .plumbline/sbom
	$(BIN)/python -m tests.support.sbom .plumbline/sbom

# Another service than PyPI's: make audit AUDIT_OPTIONS='-s osv', or '-s osv --osv-url https://…' of a mirror.
AUDIT_OPTIONS ?=

# --strict: an index that has no advisories, such as a mirror, knows nothing, which must not pass for nothing wrong.
.PHONY: audit
audit: $(VENV)/supply-chain  ## Ask what is known against the pinned packages (needs an advisory service on the network)
	$(BIN)/pip-audit --strict --no-deps --disable-pip --progress-spinner off $(AUDIT_OPTIONS) \
		-r constraints.txt -r <(grep -om1 'torch==[0-9.]*' pyproject.toml) \
		|| { echo "audit: something is known against the packages above, or the service could not be asked about all of them" >&2; exit 1; }

# Enough for two cores. With a GPU: make nano NANO_SHARDS=48 NANO_MINUTES=12 NANO_SCALE=8 NANO_WORKERS=14
NANO_SHARDS ?= 24
NANO_MINUTES ?= 150
NANO_SCALE ?= 1
NANO_WORKERS ?= 1

.PHONY: nano
nano: $(VENV)/installed  ## Train the embedded model from scratch (three hours on 2 cores, minutes on a GPU; resumable)
	for world in digits skin films; do \
		$(BIN)/python -m services.lvlm.nano.draw --cache .plumbline/nano/shards --world $$world --shards $(NANO_SHARDS) --pictures ../shared/data || exit 1; done
	$(BIN)/python -m services.lvlm.nano.train --shards .plumbline/nano/shards --minutes $(NANO_MINUTES) --scale $(NANO_SCALE) --workers $(NANO_WORKERS) \
		--resume --work .plumbline/nano/all --out services/lvlm/nano/model
	$(BIN)/python -m services.lvlm.nano.plot --log .plumbline/nano/all/log.jsonl --out services/lvlm/nano/model/learning-curve.png

.PHONY: nano-evaluate
nano-evaluate: $(VENV)/installed  ## Measure the embedded model on pictures it has not seen
	$(BIN)/python -m benchmarks.nano.evaluate --out benchmarks/nano/results/evaluation.json

.PHONY: install
install: $(VENV)/installed  ## Install everything into .venv

# torch first and on its own: anything that depends on it would bring gigabytes of CUDA packages along.
$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0
	$(PIP) -c constraints.txt -e '.[dev]'
	touch $@

$(VENV)/supply-chain: $(VENV)/installed
	$(PIP) -c constraints.txt -e '.[supply-chain]'
	touch $@

.PHONY: clean
clean:  ## Remove the environment and everything that was made
	rm -rf $(VENV) .plumbline .pytest_cache .ruff_cache .import_linter_cache *.egg-info

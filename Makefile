# The front door. `make run` is all a newcomer needs.
SHELL := /bin/bash
PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin
# Where CPU builds of PyTorch are had. Used only on Linux without an NVIDIA GPU, where it saves gigabytes of CUDA packages;
# without one there (TORCH_INDEX=, or the index out of reach) pip takes the build of the default index, with CUDA.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
HAS_GPU := $(shell nvidia-smi -L >/dev/null 2>&1 && echo yes)
LOCKS   := requirements.lock $(addprefix supply_chain/,dev.lock torch.lock torch-cpu.lock)
PIP     := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Only files of the lock, by their hashes; wheels, so that nothing runs while it is installed.
LOCKED  := $(PIP) --require-hashes --only-binary :all: --no-deps
INSTALLED := $(VENV)/.installed
# Tools that look at the environment from outside it.
TOOLS   := .tools

.PHONY: help install run test faults secrets test-stack soak check deploy-check backup restore up data base fair-play bench bench-gpu
.PHONY: fuzz clean lock sbom audit kubernetes-check

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

install: $(INSTALLED) ## create .venv with exactly the locked versions

$(INSTALLED): $(LOCKS) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "make: $(PYTHON) is not a Python 3.11 or newer; name one with PYTHON=..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing PyTorch ($(if $(HAS_GPU),CUDA,CPU) build where there is one) ..."
ifeq ($(HAS_GPU)$(filter Linux,$(shell uname -s)),Linux)
	$(if $(TORCH_INDEX),$(LOCKED) --requirement supply_chain/torch-cpu.lock --extra-index-url $(TORCH_INDEX) --retries 1 ||) $(LOCKED) --requirement supply_chain/torch.lock
else
	$(LOCKED) --requirement supply_chain/torch.lock
endif
	@echo "installing everything else ..."
	$(LOCKED) --requirement requirements.lock --requirement supply_chain/dev.lock
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

run: $(INSTALLED) ## the whole flow on the shipped workbook: minutes on two cores, no GPU (ARGS='--profile seed' for others)
	$(BIN)/pii-finetune run $(ARGS)

test: $(INSTALLED) ## all tests that run without a GPU, but the longest of `make faults` and the containers of `make test-stack`
	$(BIN)/python -m pytest -m "not faults and not stack" $(ARGS)

faults: $(INSTALLED) ## the tests of docs/faults.md, all of them: processes and servers killed, disks full
	$(BIN)/python -m pytest tests/faults $(addprefix tests/integration/test_,$(addsuffix .py,checkpoints several_processes several_machines score_ray_kills)) $(ARGS)

secrets: ## write .env with strong passwords for the containers of docker-compose.yml; what is there stays
	@$(PYTHON) -m cli.make_secrets

test-stack: $(INSTALLED) ## build the containers with docker or podman, bring them up, try every door, train, load the model
	$(BIN)/python -m pytest tests/stack $(ARGS)

soak: $(INSTALLED) ## thirty runs under random kills of processes and servers
	$(BIN)/python -m benchmarks.soak $(ARGS)

check: $(INSTALLED) ## lint, format, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports --no-cache

deploy-check: $(INSTALLED) ## is prefect.yaml in order, and what would deploying change on the server? changes nothing
	$(BIN)/pii-finetune deploy-check $(ARGS)

backup: ## both databases and the artifacts of the running containers into a folder (TO=backups KEEP=7)
	@$(PYTHON) -m cli.backup.take $(if $(TO),--to '$(TO)') $(if $(KEEP),--keep '$(KEEP)')

restore: ## a backup into the containers (FROM=backups/..., FORCE=1 over runs that are there)
	@$(PYTHON) -m cli.backup.restore '$(FROM)' $(if $(FORCE),--force)

up: $(INSTALLED) ## Prefect server, MLflow server, work pool, deployments and a worker; ctrl-C stops all of it
	$(BIN)/python -m cli.stack

data: $(INSTALLED) ## build the workbooks in data/ from the glossaries
	$(BIN)/python -m make_data.workbook

base: $(INSTALLED) ## pretrain data/embedded-base (wants a GPU)
	$(BIN)/python -m make_data.pretrain

fair-play: $(INSTALLED) ## show which phrases of the pretraining text lean most to one answer
	$(BIN)/python -m make_data.fair_play

bench: $(INSTALLED) ## quality of the embedded profile over three seeds; its training and scoring beside TRL's and generate()
	$(BIN)/python -m benchmarks.embedded_quality
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.scoring

bench-gpu: $(INSTALLED) ## training and scoring of the seed profile on a GPU (ARGS='--base FOLDER', or '--shape-only TOKENIZER')
	$(BIN)/python -m benchmarks.training --profile seed --fused-steps 60 --parts steps overlay whole growth $(ARGS)
	$(BIN)/python -m benchmarks.scoring --profile seed --repeat 3 $(ARGS)
	$(BIN)/python -m benchmarks.fast_quality

fuzz: $(INSTALLED) ## read 10,000 mutants of real workbooks: none may crash or hang a reader
	$(BIN)/python -m benchmarks.fuzz_reader

$(TOOLS)/.installed: supply_chain/tools.lock
	test -x $(TOOLS)/bin/python || $(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --requirement $<
	@touch $@

lock: $(TOOLS)/.installed ## write the lock files anew, with hashes (ARGS='--upgrade-package NAME', or '--upgrade')
	$(TOOLS)/bin/python -m supply_chain.relock $(ARGS)

sbom: $(INSTALLED) $(TOOLS)/.installed ## write what is installed to dist/sbom.cdx.json (CycloneDX)
	mkdir -p dist
	$(TOOLS)/bin/cyclonedx-py environment --spec-version 1.6 --output-reproducible --mc-type application --pyproject pyproject.toml --output-file dist/sbom.cdx.json $(BIN)/python

audit: $(TOOLS)/.installed ## look every locked version up among known vulnerabilities (ARGS='--service osv')
	$(TOOLS)/bin/python -m supply_chain.audit $(ARGS)

kubernetes-check: $(TOOLS)/.installed ## hold deploy/kubernetes against the schemas of Kubernetes and Prefect's own worker
	$(TOOLS)/bin/python deploy/kubernetes/check.py

clean: ## remove the environment and what runs left behind, but not mlruns/
	rm -rf $(VENV) $(TOOLS) dist outputs .pytest_cache .ruff_cache

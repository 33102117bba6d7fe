# make quickstart   set up and train a small LLaMA with AlphaDecay under ZeRO-3, on CPU or the GPUs found
# make test         set up and run the tests
# make help         everything else

VENV := .venv
PYTHON := $(VENV)/bin/python
READY := $(VENV)/.ready
# The environment's own tools first; one thread a rank, for two ranks share the cores.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM := false
GPUS = $(shell $(PYTHON) -c "import torch; print(torch.cuda.device_count())")
# Two ranks on CPU; on GPUs the largest power of two there is, so that the batch divides.
RANKS ?= $(shell $(PYTHON) -c "import torch; n = min(torch.cuda.device_count(), 8); print(1 << n.bit_length() - 1 if n else 2)")
LAUNCH = DS_ACCELERATOR=$(if $(filter 0,$(GPUS)),cpu,cuda) deepspeed --num_gpus $(RANKS) --log_level error

# Another builder: DOCKER=podman or DOCKER=buildah. FLAVOUR=cpu or cuda.
DOCKER ?= docker
FLAVOUR ?= cpu
BUILD = $(DOCKER) build --file docker/Dockerfile --build-arg FLAVOUR=$(FLAVOUR)

.PHONY: help install quickstart test oldest slow cluster integrations lint docs dist bench gpu kill week image sbom base clean

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(READY) ## the environment in .venv, with the program and its tests

$(VENV)/bin/python:
	python3 -m venv $(VENV)

# torch by itself first: what follows then finds it there and fetches no other build.
$(READY): pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PYTHON) -m pip install --quiet --constraint constraints.txt torch setuptools wheel
	$(PYTHON) -m pip install --quiet --constraint constraints.txt --editable '.[train,wandb,tensorboard,test]'
	@touch $@

quickstart: $(READY) ## train the quickstart recipe; again: goes on from its last checkpoint
	@$(LAUNCH) train/pretrain.py --config train/recipes/quickstart.yaml $(ARGS)

test: $(READY) ## the tests, without the slow ones
	$(PYTHON) -m pytest -n 2 $(ARGS)

# What pyproject.toml admits at the least, in an environment of its own.
OLDEST := .venv-oldest
OLDEST_PINS = $(shell sed -nE 's/^ *"(torch|transformers|deepspeed|accelerate)>=([0-9.]+)".*/\1==\2.*/p' pyproject.toml | sort -u)

$(OLDEST)/.ready: pyproject.toml
	python3 -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet $(filter torch%,$(OLDEST_PINS)) setuptools wheel
	$(OLDEST)/bin/python -m pip install --quiet --no-build-isolation $(OLDEST_PINS) pytest hypothesis powerlaw
	@touch $@

oldest: $(OLDEST)/.ready ## unit tests of the library on the oldest torch, transformers and deepspeed it admits
	PYTHONPATH=. $(OLDEST)/bin/python -m pytest tests/unit/alphadecay $(ARGS)

slow: $(READY) ## the long trials
	$(PYTHON) -m pytest -m slow $(ARGS)

cluster: $(READY) ## the scripts of launch/ on clusters made of this machine; installs Debian packages, needs root
	apt-get install -y --no-install-recommends $$(cat tests/cluster/packages.txt)
	$(PYTHON) -m pytest -m slow tests/cluster $(ARGS)

# An environment of its own, for torchtitan and transformers ask for different releases of
# huggingface_hub: torchtitan comes without what its optimizer container does not import.
LOOPS := .venv-integrations
LOOPS_PIP = $(LOOPS)/bin/python -m pip install --quiet --constraint tests/integrations/constraints.txt

$(LOOPS)/.ready: pyproject.toml tests/integrations/constraints.txt
	python3 -m venv $(LOOPS)
	$(LOOPS_PIP) torch setuptools wheel
	$(LOOPS_PIP) --editable '.[hf,deepspeed]' lightning pytest
	$(LOOPS_PIP) --no-deps torchtitan spmd_types torch_checkpointing torchdata tyro typeguard \
		docstring_parser einops
	@touch $@

integrations: $(LOOPS)/.ready ## AlphaDecay in Lightning's, Accelerate's, torchtitan's and transformers' loops
	$(LOOPS)/bin/python -m pytest -m integrations tests/integrations $(ARGS)

lint: $(READY) ## ruff and mypy
	ruff check .
	mypy

docs: $(READY) ## pages and the reference of the code, as a site that needs no network: build/docs
	$(PYTHON) -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(PYTHON) -m sphinx --builder html --conf-dir docs --fail-on-warning --quiet . build/docs
	@echo open build/docs/index.html

dist: $(READY) ## a wheel and an sdist in dist/, tried where nothing but torch is installed, and with what they ask for
	$(PYTHON) -m pip install --quiet --constraint constraints.txt --editable '.[dist]'
	rm -rf dist build/lib build/bdist.* build/empty
	$(PYTHON) -m build --no-isolation --outdir dist
	$(PYTHON) -m venv build/empty
	build/empty/bin/python -m pip install --quiet --constraint constraints.txt torch numpy
	for file in dist/*; do \
		build/empty/bin/python -m pip install --quiet --force-reinstall --no-deps $$file && \
		build/empty/bin/python -P tests/unit/packaging/installed.py || exit 1; \
	done
	for file in dist/*; do \
		build/empty/bin/python -m pip install --quiet --force-reinstall --no-deps $$file && \
		build/empty/bin/python -m pip install --quiet --constraint constraints.txt $$file && \
		build/empty/bin/python -m pip check && \
		build/empty/bin/python -P tests/unit/packaging/installed_whole.py || exit 1; \
	done

bench: $(READY) ## the benchmarks; JSON beside them
	$(PYTHON) tests/bench/spectral.py --out tests/bench/results/spectral-cpu.json
	$(PYTHON) tests/bench/plan.py --out tests/bench/results/plan-cpu.json
	$(PYTHON) tests/bench/step.py --out tests/bench/results/step-cpu.json
	$(PYTHON) tests/bench/step.py --fused --out tests/bench/results/step-fused-cpu.json
	$(PYTHON) tests/bench/step.py --size 60m --stages 1 --repeats 16 \
		--arms cautious awd adadecay_parameters lawn hyperball llr alphadecay stock_again \
		--out tests/bench/results/step-methods-cpu.json
	$(PYTHON) tests/bench/step.py --size 60m --stages 1 --repeats 8 \
		--arms uniform adadecay gradient_norm both stock_again \
		--out tests/bench/results/step-methods-rest-cpu.json
	$(PYTHON) tests/bench/step.py --size 60m-row --stages 1 --repeats 8 \
		--arms cautious awd adadecay_parameters lawn hyperball llr alphadecay stock_again \
		--out tests/bench/results/step-methods-row-cpu.json
	$(PYTHON) tests/bench/refresh.py --out tests/bench/results/refresh-cpu.json
	$(PYTHON) tests/bench/host.py --out tests/bench/results/host-cpu.json
	$(PYTHON) tests/bench/analyze.py --out tests/bench/results/analyze-cpu.json
	$(PYTHON) tests/bench/train.py --size toy 60m --out tests/bench/results/train-cpu.json
	$(PYTHON) tests/bench/save.py --out tests/bench/results/save-cpu.json
	$(PYTHON) tests/bench/save_deepspeed.py --out tests/bench/results/save-deepspeed-cpu.json

# Seconds in all, so that it fits a short lease of a machine.
BUDGET ?= 480

gpu: $(READY) ## what needs a GPU, in order of worth, within BUDGET seconds; JSON in tests/gpu/results
	-$(PYTHON) -m pip install --quiet --constraint constraints.txt ".[liger]"  # the faster of two losses without logits
	$(PYTHON) -m tests.gpu --budget $(BUDGET) $(ARGS)

kill: $(READY) ## 500 kills -9 of two ranks, both engines, with second jobs, and naive writers beside; JSON
	$(PYTHON) -m tests.trials.kill --out tests/trials/results/kill.json
	$(PYTHON) -m tests.trials.kill --engine deepspeed fsdp2 --async --trials 300 --naive 90 --out tests/trials/results/kill-async.json

# Under slurm: a SLURM made of this machine, with root and the packages of tests/cluster/packages.txt.
UNDER ?= torchrun
WEEK = bad-week$(if $(filter slurm,$(UNDER)),-slurm)

week: $(READY) ## one run through a bad week: kills, stops, second jobs, failing file calls; JSON; UNDER=slurm too
	$(PYTHON) -m tests.trials.bad_week --under $(UNDER) --out tests/trials/results/$(WEEK).json $(ARGS)

image: ## the image alphadecay:$(FLAVOUR)
	$(BUILD) --target run --tag alphadecay:$(FLAVOUR) $(ARGS) .

sbom: ## what is in that image, as CycloneDX JSON: build/sbom-$(FLAVOUR)/sbom.json
	$(BUILD) --target sbom --output type=local,dest=build/sbom-$(FLAVOUR) $(ARGS) .

base: ## pin the image's base to what its tag means today
	docker/renew_base.sh

clean: ## remove the environment, caches and runs
	rm -rf $(VENV) $(OLDEST) $(LOOPS) .cache .pytest_cache .mypy_cache .ruff_cache build *.egg-info runs data

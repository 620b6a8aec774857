# The project's commands; `make help` lists them. Slow results are cached in $(TOXICITY_CACHE), outside the checkout.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# As toxicity_cluster.settings decides it; a test compares the two.
ROOT := $(filter 0,$(shell id -u))
export TOXICITY_CACHE ?= $(if $(ROOT),/var/cache,$(or $(filter /%,$(XDG_CACHE_HOME)),$(HOME)/.cache))/toxicity-model
export TOXICITY_STATE ?= $(if $(ROOT),/var/lib,$(or $(filter /%,$(XDG_STATE_HOME)),$(HOME)/.local/state))/toxicity-model
export TORCH_WHEELS ?= $(abspath $(wildcard ../shared/wheels))
export TOXICITY_DATASET ?= $(abspath $(wildcard ../shared/data/russian_toxic_comments.csv.gz))
export UV_CACHE_DIR := $(TOXICITY_CACHE)/uv
export PIP_CACHE_DIR := $(TOXICITY_CACHE)/pip
export OMP_NUM_THREADS ?= $(shell nproc)
export UV_SYSTEM_CERTS := 1
export UV_LINK_MODE := copy
# where PYTHONDONTWRITEBYTECODE is set, each process would compile all that it imports
export UV_COMPILE_BYTECODE := 1

DATASET ?=
PYTHON := .venv/bin/python
TRAINING := $(PYTHON) -m toxicity_cluster environment training --
COMMENTS = $(or $(DATASET),$(TOXICITY_DATASET),manifests/samples/data/comments.csv)
OTHER_DOMAIN ?= $(wildcard $(dir $(COMMENTS))other_domain.csv.gz)
PREVIOUS ?=
BASE_MODEL = "$$($(PYTHON) -m toxicity_cluster base-model)"
RUNS := $(TOXICITY_CACHE)/runs
MODEL ?= $(firstword $(wildcard $(RUNS)/quality/train-*/model))
CONFIGS := training-job/src/toxicity_training/configs
experiments = $(TRAINING) python -m toxicity_training.experiments $(CONFIGS)/$(1).yaml --dataset $(COMMENTS) \
	--base-model $(BASE_MODEL) --work $(RUNS)/$(1)
TEST_PARTS := check binaries unit test-pairs test-deadlines test-cluster
TEST_WORKERS ?= 3
IN_PARALLEL = -n $(TEST_WORKERS) --dist worksteal
# a unit test that hangs ends its worker, so that the run goes on and names the test
STOP_HANGING = -o faulthandler_timeout=300 -o faulthandler_exit_on_timeout=true
CRD_COPIES := manifests/crd/toxicitymodels.yaml helm/toxicity-operator/files/toxicitymodels.yaml
REFERENCE := PYTHONPATH=docs/tools $(PYTHON) -m toxicity_reference
# an end-to-end test waits a third of its time; a session of its own, because a priority counts only within one
IN_THE_BACKGROUND = setsid -w sh -c '{ echo 10 > /proc/self/autogroup; } 2>/dev/null; exec nice "$$0" "$$@"'
PACKAGES = $(shell cat cluster/packages.txt)
TEST_PACKAGES = $(shell cat tests/packages.txt)
TEST_PROGRAMS = busybox chromium chromedriver git
WITHOUT_CLUSTER = not api and not e2e and not engine and not gpu and not interruption and not keda and not registry

.PHONY: $(shell grep -oE "^[a-z0-9-]+:" Makefile | tr -d ":")

help: ## list the commands
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 20

demo: $(if $(filter current,$(CLUSTER)),,packages) .venv/ready ## get to a Ready ToxicityModel from an empty machine, or on your cluster (DATASET=file.csv[.gz] CLUSTER=current REGISTRY=host/path)
	$(PYTHON) -m toxicity_cluster demo $(if $(DATASET),--dataset $(DATASET)) \
	  $(if $(CLUSTER),--cluster $(CLUSTER)) $(if $(REGISTRY),--registry $(REGISTRY)) $(if $(ENGINE),--engine $(ENGINE)) \
	  $(if $(PULL_SECRET),--pull-secret $(PULL_SECRET))

test: packages ## run everything, from the checks to the end-to-end tests, then print how long each part took
	@took=(); begun=$$SECONDS; tell() { printf '%5d:%02d  %s\n' $$(($$2 / 60)) $$(($$2 % 60)) "$$1"; }; \
	trap 'echo "minutes  part"; for line in "$${took[@]}"; do tell $$line; done; tell all $$((SECONDS - begun))' EXIT; \
	for part in $(TEST_PARTS); do \
	  since=$$SECONDS; status=0; $(MAKE) --no-print-directory $$part || status=$$?; \
	  took+=("$$part $$((SECONDS - since))"); [ $$status = 0 ] || exit $$status; \
	done

check: .venv/ready check-generated check-workflows ## check formatting, lint, types, layers, generated files and workflows
	.venv/bin/ruff format --check . && .venv/bin/ruff check .
	.venv/bin/mypy && .venv/bin/lint-imports

check-generated: .venv/ready
	$(PYTHON) -m toxicity_api.crd --check $(CRD_COPIES)
	$(REFERENCE) --check .
	$(PYTHON) -m toxicity_cluster bake --check docker-bake.json
	@$(MAKE) --no-print-directory docs

check-workflows: .venv/ready # without shellcheck and pyflakes, which actionlint runs only where they are installed
	"$$($(PYTHON) -m toxicity_cluster program actionlint)" -shellcheck= -pyflakes=

unit: test-packages .venv/ready ## run the tests that need no cluster and no root
	@$(PYTHON) -m toxicity_cluster program versitygw >/dev/null
	.venv/bin/pytest tests $(IN_PARALLEL) $(STOP_HANGING) -m "$(WITHOUT_CLUSTER)$(if $(TOXICITY_DATASET),, and not dataset)"

test-training: packages .venv/ready ## run the tests with torch on a tiny model, with the packages of the training image
	$(TRAINING) python -m pytest tests/training -m "engine and not gpu"

test-pairs: packages .venv/ready ## run test-training, test-quantization, test-evaluation and test-api, three at a time with one thread each
	$(MAKE) --no-print-directory -j3 -Oline OMP_NUM_THREADS=1 test-training test-evaluation-service test-quantization \
		test-evaluation-stage test-api

test-quantization: packages .venv/ready ## run the tests of each AWQ backend on a tiny model, with the packages of its image
	$(PYTHON) -m toxicity_cluster environment quantization -- python -m pytest tests/quantization -m "engine and not gpu and not autoawq"
	$(PYTHON) -m toxicity_cluster environment quantization-autoawq -- python -m pytest tests/quantization -m "engine and not gpu"

test-evaluation: test-evaluation-service test-evaluation-stage ## run the tests with vLLM on a tiny model, with the packages of the serving image

test-evaluation-stage test-evaluation-service: test-evaluation-%: packages .venv/ready
	$(PYTHON) -m toxicity_cluster environment serving -- python -m pytest tests/evaluation/test_$*.py -m "engine and not gpu"

test-gpu: packages .venv/ready ## run the tests that need an NVIDIA GPU, with the packages of each image
	$(TRAINING) python -m pytest tests/training -m gpu
	$(PYTHON) -m toxicity_cluster environment quantization -- python -m pytest tests/quantization -m "gpu and not autoawq"
	$(PYTHON) -m toxicity_cluster environment quantization-autoawq -- python -m pytest tests/quantization -m gpu
	$(PYTHON) -m toxicity_cluster environment serving -- python -m pytest tests/evaluation -m gpu

test-gpu-loop: .venv/ready ## run the whole loop on one GPU of KUBECONFIG's cluster, with a small model (TOXICITY_REGISTRY=host/path)
	TORCH_SOURCE=cuda .venv/bin/pytest tests/e2e/test_gpu_loop.py -m gpu -v --on-given-cluster

test-api: packages .venv/ready ## run the tests against a kube-apiserver
	$(PYTHON) -m toxicity_cluster up
	.venv/bin/pytest tests -m api

test-interruption: test-schedules test-deadlines ## interrupt the operator at every write, in memory and on a separate kube-apiserver

test-schedules: packages binaries # most of test-interruption
	$(IN_THE_BACKGROUND) .venv/bin/pytest tests/interruption $(IN_PARALLEL) -m "not clock" --durations 10

test-deadlines: packages binaries # test-interruption's operator processes
	.venv/bin/pytest tests/interruption $(IN_PARALLEL) -m clock --durations 10

test-e2e: packages .venv/ready ## run the tests of the whole loop on a cluster
	.venv/bin/pytest tests -m e2e -v --durations 10

test-cluster: packages .venv/ready ## run test-e2e, and most of test-interruption while it waits
	$(MAKE) --no-print-directory -j2 test-e2e test-schedules # unsynchronized: to see how far each is

test-keda: packages .venv/ready ## test autoscaling by requests in flight on the embedded cluster (15 min; builds Prometheus and KEDA)
	$(PYTHON) -m toxicity_cluster build --keda
	.venv/bin/pytest tests -m keda -v

test-registry: packages .venv/ready ## run the demo on an embedded cluster that pulls from a registry with TLS and a login (20 min, 16 GiB of disk)
	.venv/bin/pytest tests -m registry -v -s

mutation: .venv/ready ## test the unit tests of the pure modules by mutations (30 min of CPU time; MODULES="quality records" for some)
	.venv/bin/uv pip install -q -p $(PYTHON) -e '.[mutation]'
	PYTHONPATH=tests nice -n 19 $(PYTHON) -m mutation.run --work $(TOXICITY_CACHE)/mutation $(MODULES)

explore: packages .venv/ready ## count labels and lengths of DATASET and plot them, without training
	$(TRAINING) python -m toxicity_training.explore --dataset $(COMMENTS) --base-model $(BASE_MODEL) --output $(RUNS)/explore

quality: packages .venv/ready ## cross-validate the CPU configuration on all rows of DATASET (hours; resumes; OTHER_DOMAIN=FILE PREVIOUS=FILE)
	$(TRAINING) python -m toxicity_training.folds $(CONFIGS)/quality.yaml --dataset $(COMMENTS) --base-model $(BASE_MODEL) \
		--work $(RUNS)/folds $(OTHER_DOMAIN:%=--other-domain %) $(PREVIOUS:%=--previous %)

quality-model: packages .venv/ready ## train the CPU configuration on one split of DATASET and compare it with TF-IDF (1 h)
	$(call experiments,quality)
	$(TRAINING) python -m toxicity_training.quality --experiments $(RUNS)/quality/quality.json

experiments: packages .venv/ready ## run the five experiments of the original service on the CPU model, as a table (30 min)
	$(call experiments,cpu-steps)

bench-training: packages .venv/ready ## measure training samples per second by batching method and by engine
	$(TRAINING) python tests/benchmarks/bench_training.py --dataset $(COMMENTS) --base-model $(BASE_MODEL)

bench-gpu-training: packages .venv/ready ## measure GPU memory and speed of training a model of the shape of Gemma 2 2B
	$(TRAINING) python -m benchmarks.bench_gpu_training --dataset $(COMMENTS) --tokenizer $(BASE_MODEL)

bench-quantization: packages .venv/ready ## measure quality, size and speed of 4-bit models by backend and group size, after `make quality-model`
	$(PYTHON) tests/benchmarks/bench_quantization.py --trained $(firstword $(wildcard $(RUNS)/quality/train-*/)) \
		--work $(RUNS)/quantization

bench-loadtest: .venv/ready ## compare the load generator with vegeta and, if it is installed, wrk; measure its memory (MINUTES="1 10 60")
	$(PYTHON) tests/benchmarks/bench_loadtest.py --vegeta "$$($(PYTHON) -m toxicity_cluster program vegeta)"
	$(PYTHON) tests/benchmarks/bench_records.py --minutes $(or $(MINUTES),1 10 60)

report-image: test-packages .venv/ready ## run a load test against a simulated service and save its report as the image of the docs
	PYTHONPATH=tests $(PYTHON) tests/benchmarks/report_image.py docs/images/load-test-report.png

bench-serving: packages .venv/ready ## measure throughput and latency of the API, vLLM and Transformers (MODEL=model folder of a training stage)
	$(PYTHON) -m toxicity_cluster environment serving -- python -m benchmarks.bench_serving --model-dir $(MODEL) --dataset $(COMMENTS)

bench-soak: packages .venv/ready ## measure what clients of the API see beside hostile ones, and its memory (MODEL=model folder, 11 min)
	$(PYTHON) -m toxicity_cluster environment serving -- python -m benchmarks.bench_soak --model-dir $(MODEL)

tiny-model: packages .venv/ready ## write a tiny random model with the tokenizer of the base model, for bench-serving and bench-soak
	$(TRAINING) python -m benchmarks.tiny_model --base $(BASE_MODEL) --output $(RUNS)/tiny-model

bench-operator: packages binaries ## measure the cost of the operator with 10, 100 and 1000 resources on a kube-apiserver
	PYTHONPATH=tests $(PYTHON) tests/benchmarks/bench_operator.py

bench-storage: packages .venv/ready ## measure how soon a serving pod starts from a volume, an object store and a cache on the node (embedded cluster; 15 min with STARTS=3)
	PYTHONPATH=tests $(PYTHON) tests/benchmarks/bench_storage.py --starts $(or $(STARTS),5)

generate: .venv/ready ## write the CRD, the reference pages, the README of the chart and docker-bake.json from the code
	$(PYTHON) -m toxicity_api.crd --write $(CRD_COPIES)
	$(REFERENCE) --write .
	$(PYTHON) -m toxicity_cluster bake --write docker-bake.json

docs: .venv/ready ## build the documentation into build/docs; a broken link or anchor is an error
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --site-dir build/docs

binaries: packages .venv/ready ## build the cluster's programs (the chart tests need helm)
	$(PYTHON) -m toxicity_cluster build

images: packages .venv/ready ## build the container images
	$(PYTHON) -m toxicity_cluster images

push: $(if $(ENGINE),,packages) .venv/ready ## push the images to REGISTRY (host/path), and write values and a sample that name them (ALSO=quantization-autoawq PULL_SECRET=name)
	$(PYTHON) -m toxicity_cluster push $(or $(REGISTRY),$(error set REGISTRY, for example REGISTRY=registry.example/team)) \
	  $(if $(DATASET),--dataset $(DATASET)) $(addprefix --also ,$(ALSO)) $(if $(ENGINE),--engine $(ENGINE)) \
	  $(addprefix --pull-secret ,$(PULL_SECRET))

up: packages .venv/ready ## start the embedded cluster (NODES=2 for a second node)
	$(PYTHON) -m toxicity_cluster up $(if $(NODES),--nodes $(NODES))

down: .venv/ready ## stop the embedded cluster and remove its state
	$(PYTHON) -m toxicity_cluster down

status: .venv/ready ## list the problems of the embedded cluster
	$(PYTHON) -m toxicity_cluster status

packages: ## install the Debian packages that are missing
	@cluster/install-packages.sh $(PACKAGES)

test-packages: ## install what only the tests need (as root on Debian)
	@command -v $(TEST_PROGRAMS) | wc -l | grep -qx $(words $(TEST_PROGRAMS)) || \
	  [ -z "$(ROOT)" ] || ! command -v apt-get >/dev/null || cluster/install-packages.sh $(TEST_PACKAGES)

.venv/ready: pyproject.toml cluster/pyproject.toml
	test -x $(PYTHON) || python3 -m venv .venv
	.venv/bin/pip install -q --disable-pip-version-check uv
	.venv/bin/uv pip install -q -p $(PYTHON) -e '.[test,docs]' -e cluster
	touch $@

clean: .venv/ready ## remove the embedded cluster, the virtual environment and the cache
	env -u KUBECONFIG $(PYTHON) -m toxicity_cluster down
	rm -rf .venv $(TOXICITY_CACHE)

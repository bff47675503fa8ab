# The commands that everything hangs on; `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help build test unit integration e2e asan tsan soak image demo bench cluster cluster-down fmt lint clean

PRESET ?= dev

help: ## List the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Compile everything (PRESET=dev|release|asan|tsan)
	@testbed/install.sh build
	@cmake --preset $(PRESET) > build/$(PRESET)-configure.log 2>&1 || { cat build/$(PRESET)-configure.log; exit 1; }
	@cmake --build --preset $(PRESET)
build: | build/
build/:
	@mkdir -p build

test: ## Install what is needed and run every test: unit, integration, sanitizers, end to end on pods
	@tests/run.sh

unit: build ## Unit tests only: seconds, nothing but the compiler needed
	@ctest --preset $(PRESET) -L unit

integration: build ## Unit and integration tests: a real apiserver, Postgres 17 and PgBouncer as processes
	@testbed/programs.sh etcd kube-apiserver kubectl
	@testbed/rootfs.sh 17
	@ctest --preset $(PRESET) -L 'unit|integration'

image: ## Build the images and hand them to the cluster, if one is up
	@$(MAKE) --no-print-directory build PRESET=release
	@rm -rf build/image
	@cmake --install build/release --strip --prefix build/image > /dev/null
	@testbed/images.sh

e2e: ## End-to-end tests on pods of a real cluster
	@tests/run.sh e2e

asan: ## Unit and integration tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@$(MAKE) --no-print-directory integration PRESET=asan

tsan: ## Unit tests under ThreadSanitizer
	@$(MAKE) --no-print-directory unit PRESET=tsan

soak: ## Audit histories against an application while all breaks: SEEDS=n or MINUTES=n, SEED=first to try one again
	@tests/soak.sh

demo: ## From nothing: a cluster, pgtier by Helm, real load, and the climb that it causes
	@demo/run.sh

bench: ## Measure, and print a table (JSON in build/bench/)
	@bench/run.sh

cluster: ## Bring up a one-node Kubernetes; prints the KUBECONFIG to export
	@testbed/cluster.sh up

cluster-down: ## Take it down; nothing of it is left
	@testbed/cluster.sh down

fmt: ## Format the C++ sources
	@git ls-files '*.cc' '*.h' | xargs clang-format -i

lint: ## clang-format, clang-tidy on what differs from BASE (default: main), and shellcheck
	@tests/lint.sh

clean: ## Remove build/
	@rm -rf build

# What there is to do here. `make help` lists it.

CARGO ?= cargo
# Where cargo puts the binaries that demo and the tests start; they are built once and shared.
BIN := $(or $(CARGO_TARGET_DIR),target)/debug

.PHONY: help demo test check soak fuzz envoy bins corpora cluster cluster-down images charts

help:
	@echo 'make demo           start a mesh and a sample application on this machine, until Ctrl-C'
	@echo 'make demo ONCE=1    drive the scenario through real Envoys, print what was expected and seen'
	@echo 'make check          formatting, lints, layers of the workspace'
	@echo 'make test           all tests, with real Envoys; the corpora too where ARGOSY_SHARED is set'
	@echo 'make soak           the same tests with larger budgets: SOAK_CASES=5000, SOAK_ROUNDS=25'
	@echo 'make fuzz           each fuzz target for FUZZ_SECONDS=60; FUZZ_TARGETS names some (docs/bad-input.md)'
	@echo 'make cluster        a Kubernetes cluster of one node for tests, with the images (root; docs/kubernetes.md)'
	@echo 'make cluster-down   removes it'
	@echo 'make images         the images, static and optimised: HUB=localhost/argosy TAG=0.1.0'
	@echo 'make charts         the charts as packages, and deploy/, into target/charts'
	@echo 'Needs Rust, Python with pip (for Envoy), openssl, no root, no cluster. ENVOY_BIN names an Envoy of your own.'
	@echo 'Tests with a Kubernetes API need Go too, or binaries in KUBEBUILDER_ASSETS; without, they are left out.'

demo: bins envoy
	$(BIN)/demo $(if $(ONCE),--once) $(DEMO_FLAGS)

check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) test -p layering

# --all-targets builds binaries and tests in one go, with the same features, so that nothing is built twice.
# Building Kubernetes' API server and an OpenTelemetry Collector takes minutes the first time, so it begins first. Where that
# fails, the tests that need them say so.
test: envoy
	@scripts/fetch-redis >/dev/null
	-@scripts/fetch-prometheus >/dev/null
	@(scripts/fetch-kubernetes; scripts/fetch-collector; scripts/fetch-kubernetes helm; \
	  [ "$$(id -u)" != 0 ] || scripts/cluster fetch) >/dev/null & fetch=$$!; \
	$(CARGO) build --workspace --all-targets && { wait $$fetch || true; }
	$(CARGO) test --workspace --no-fail-fast
	@$(MAKE) --no-print-directory corpora

# Cases made from other projects' data; they are not part of the repository.
CORPORA ?= analyze cexl inputs simulate validation validation-1.4
corpora:
ifdef ARGOSY_SHARED
	$(BIN)/corpora $(ARGOSY_SHARED)/corpora $(CORPORA)
else
	@echo 'ARGOSY_SHARED is not set: the corpora are left out'
endif

SOAK_CASES ?= 5000
SOAK_ROUNDS ?= 25
soak: envoy
	-@scripts/fetch-kubernetes >/dev/null
	$(CARGO) build --workspace --all-targets
	PROPTEST_CASES=$(SOAK_CASES) ARGOSY_KILL_ROUNDS=$(SOAK_ROUNDS) ARGOSY_API_AWAY_SECONDS=600 ARGOSY_PODS=500 ARGOSY_CHANGES=1000 ARGOSY_CHANGES_RATE=500 ARGOSY_KILL_RATE=500 \
	ARGOSY_RANDOM_REQUESTS=1000000 ARGOSY_HISTORIES=100000 ARGOSY_ROTATIONS=20 ARGOSY_ROTATION_TTL=10 ARGOSY_HANDSHAKES=100000 ARGOSY_DECISIONS=10 \
	ARGOSY_COMPILED=3000 ARGOSY_NEIGHBOURS=20000 $(CARGO) test --workspace

# Without sanitizers, so that the pinned toolchain can build it: there is no unsafe code here.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= yaml json settings object csr pem jwt spiffe_id policy expression attributes admission
FUZZ_LIMITS := -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=1024 -print_final_stats=1
fuzz:
	for target in $(FUZZ_TARGETS); do \
		mkdir -p fuzz/corpus/$$target && \
		RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run -s none $(FUZZ_FLAGS) --features "$$(case $$target in admission) echo admission;; csr|pem|jwt|spiffe_id) echo identity;; policy) echo policy;; expression) echo expressions;; attributes) echo mixer;; esac)" \
			$$target fuzz/corpus/$$target crates/cli/src/sample -- $(FUZZ_LIMITS) || exit 1; \
	done

# The cluster of tests/cluster, to look around in: scripts/cluster exec kubectl get pods -A. KUBECONFIG names another one.
cluster: bins
	@scripts/cluster up
	@[ -z "$$KUBECONFIG" ] || { echo "Its images are yours to import (docs/kubernetes.md)"; exit 0; }; \
	out=$$(mktemp -d) && scripts/images --bin $(BIN) --out $$out && scripts/cluster import $$out/*.tar; rm -rf $$out

cluster-down:
	@scripts/cluster down

HUB ?= localhost/argosy
TAG ?= 0.1.0
images:
	@scripts/images --release --hub $(HUB) --tag $(TAG)

charts:
	@helm=$$(scripts/fetch-kubernetes helm) && mkdir -p target/charts && \
	for chart in base galley pilot citadel mixer injector gateway argosy; do \
		$$helm package helm/$$chart --destination target/charts; done

bins:
	$(CARGO) build --workspace --bins

envoy:
	@scripts/fetch-envoy >/dev/null

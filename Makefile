# The project's commands. A recipe has at most three lines; what needs more is a script in scripts/.

# Queries are checked against the checked-in .sqlx, not against whatever database DATABASE_URL names.
export SQLX_OFFLINE ?= true

.DEFAULT_GOAL := help
.PHONY: help run test soak test-clients lint bench bench-retrieval k8s-check setup sqlx-prepare

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## start toolcrib on this machine, database and all; Ctrl-C stops it
	@scripts/setup run
	@cargo build --locked -p node
	@cargo run --quiet --locked -p node -- up

# One build for both: built by itself, the binary would have its dependencies compiled a second time, because
# the tests switch on more of their features.
test: ## run every test, against a PostgreSQL and MCP servers of its own
	@scripts/setup test
	cargo build --locked --workspace --all-targets
	cargo test --locked --workspace

soak: ## kill processes under load for ten minutes, and see whether anything was lost or done twice
	@scripts/setup test
	cargo build --locked -p node -p tests --bin toolcrib --bin soak
	cargo run --quiet --locked -p tests --bin soak -- $(SOAK)

test-clients: ## test a running toolcrib with the Python and the Go client
	@scripts/test-clients

lint: ## check format, clippy, contracts, dependencies, scripts and house rules
	@scripts/setup lint
	@scripts/lint

bench: ## measure what a call costs, in some five minutes; BENCH=--quick sees that it works
	@scripts/setup test
	@cargo build --locked --release -p tests --bin bench
	@cargo run --quiet --locked --release -p tests --bin bench -- $(BENCH)

bench-retrieval: ## measure how well and how fast tools are found; BENCH=--quick sees that it works
	@scripts/setup test
	@cargo build --locked --release -p tests --bin bench-retrieval
	@cargo run --quiet --locked --release -p tests --bin bench-retrieval -- $(BENCH)

k8s-check: ## check the Kubernetes manifests without a cluster
	@scripts/k8s-check

setup: ## install what the commands above need and this machine lacks
	@scripts/setup test lint

sqlx-prepare: ## write .sqlx anew, after a query or a migration has changed
	@scripts/setup run
	@scripts/sqlx-prepare

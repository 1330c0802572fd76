# `make help` lists the targets.

.PHONY: help demo test release bench fmt lint
.DEFAULT_GOAL := help

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## Start a sharded sample shop on this machine; Ctrl-C removes it (ARGS='--shards 3')
	@./.ci/setup demo
	@cargo build --release --bin shardway
	@exec target/release/shardway demo $(ARGS)

test: ## Run everything that CI runs
	@./.ci/test

release: ## Build target/optimized/shardway, laid out after a profile of itself
	@./.ci/setup release
	@./bench/optimize

bench: release ## Compare with PgBouncer, a bare forwarder and no proxy (ARGS='--quick')
	@./.ci/setup bench
	@cargo build --release --example forwarder
	@exec ./bench/run --binary target/optimized/shardway $(ARGS)

fmt: ## Format the code
	@cargo fmt

lint: ## Check format and lints
	@cargo fmt --check
	@cargo clippy --quiet --all-targets -- -D warnings

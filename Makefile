# Every target is a short call; the work is in scripts/, so that nothing here needs make.
.DEFAULT_GOAL := help
.PHONY: help quickstart test test-full build install lint fmt deny measure bench clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\): ## /\1	/p' Makefile | expand -t 14

quickstart: ## install what is missing, build, run a real container from the example bundle
	@bash scripts/quickstart.sh

test: ## install what is missing, run the lints and all tests
	@bash scripts/test.sh

test-full: ## the same with all checks in every lane: uml with two kernels, the full machine
	@bash scripts/test-full.sh

build: ## build the release binary of corten
	@bash scripts/setup.sh build
	@bash scripts/build.sh corten

install: ## build, and copy binaries, manual pages and completions below PREFIX (/usr/local), for packages below DESTDIR
	@bash scripts/setup.sh build
	@PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' bash scripts/install.sh

lint: ## rustfmt, clippy and shellcheck; a warning is an error
	@bash scripts/setup.sh test
	@bash scripts/lint.sh

fmt: ## format the Rust sources
	cargo fmt --all

deny: ## check licences, advisories and duplicates of the dependencies (installs cargo-deny)
	@command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
	cargo deny check

measure: ## repeat the measurements of docs/measured.md
	@bash scripts/setup.sh measure
	@bash scripts/measure.sh

bench: ## measure containers beside crun, runc and the kernel's floor into docs/bench (root)
	@bash scripts/setup.sh measure
	@bash scripts/build.sh corten
	cargo build --release -p corten-conformance -p corten-examples -p corten-shim
	cargo run --release -p corten-conformance -- bench --output docs/bench

clean: ## remove everything that was built
	cargo clean

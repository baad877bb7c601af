# taskgate: `make help` lists what there is.
.PHONY: help check test bench

help: ## list the targets
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*## /\t/'

check: ## fixers and linters; fails on a dirty tree
	@.ci/check

test: ## all tests (installs Go modules only, through the Go proxy)
	@echo "make test: fetches the Go modules of go.mod, installs nothing else"
	go test ./...

bench: ## the benchmarks beside the hot paths
	go test -run '^$$' -bench . -benchmem ./...

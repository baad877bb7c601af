# taskgate: `make help` lists what there is.
.PHONY: help check test bench

help: ## list the targets
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*## /\t/'

check: ## fixers and linters; fails on a dirty tree
	@.ci/check

test: ## all tests (installs PostgreSQL 15 from Debian where it is missing)
	@echo "make test: fetches the Go modules of go.mod; installs the Debian packages postgresql-15 and postgresql-client if they are missing"
	@.ci/install
	go test -timeout 10m ./...

bench: ## the benchmarks beside the hot paths
	go test -run '^$$' -bench . -benchmem ./...

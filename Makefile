# make demo and make test do everything on a fresh Debian with Go, make and git.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := build

ARCH    ?= $(shell go env GOARCH)
VERSION ?= $(shell scripts/version.sh)
PLUGIN  ?= weftnet/weft:latest
# KEY=VALUE settings for make install, separated by blanks.
PLUGIN_SETTINGS ?=
HOST    ?= 1
HOSTS   ?= 3
FUZZTIME ?= 20s
# This machine's own, and those of the Debian releases with Docker 26.1 and 28.5.
ENGINES ?= installed trixie sid

LDFLAGS := -s -w -X main.version=$(VERSION)
GO_BUILD := CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'

# Tools, pinned. They are built once into build/tools.
GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
SHFMT         := mvdan.cc/sh/v3/cmd/shfmt@v3.14.1
DEADCODE      := golang.org/x/tools/cmd/deadcode@v0.52.0
GOVULNCHECK   := golang.org/x/vuln/cmd/govulncheck@v1.9.0
tool = build/tools/$(subst @,-,$(notdir $(1)))
SCRIPTS := $(wildcard scripts/*.sh) .ci/run examples/systemd/weft-install

.PHONY: build
build: ## the static binary build/weft, for ARCH=amd64 or arm64
	GOOS=linux GOARCH=$(ARCH) $(GO_BUILD) -o build/weft .

.PHONY: lab
lab: ## build/lab, which runs several hosts on this machine
	$(GO_BUILD) -o build/lab ./lab/cmd/lab

.PHONY: plugin
plugin: build ## build/plugin, for docker plugin create
	rm -rf build/plugin
	mkdir -p build/plugin/rootfs
	cp config.json build/plugin/
	cp build/weft build/plugin/rootfs/

.PHONY: nextlevel
nextlevel: ## build/nextlevel, a plugin of the next feature level: tests upgrade to it
	rm -rf build/nextlevel
	mkdir -p build/nextlevel/rootfs
	cp config.json build/nextlevel/
	GOOS=linux GOARCH=$(ARCH) $(GO_BUILD) -tags nextlevel -o build/nextlevel/rootfs/weft .

# What a release is built for, and where it lies.
ARCHES  ?= amd64 arm64
RELEASE ?= build/release/$(VERSION)

# The same source gives the same bytes, whoever packs it, where and when.
PACK := tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 --mode=u=rwX,go=rX

.PHONY: release
release: ## static binaries and managed plugins for ARCHES with checksums, in build/release/VERSION
	rm -rf $(RELEASE)
	mkdir -p $(RELEASE)/weft-plugin/rootfs
	cp config.json $(RELEASE)/weft-plugin/
	for arch in $(ARCHES); do \
		GOOS=linux GOARCH=$$arch $(GO_BUILD) -o $(RELEASE)/weft-$(VERSION)-linux-$$arch .; \
		cp $(RELEASE)/weft-$(VERSION)-linux-$$arch $(RELEASE)/weft-plugin/rootfs/weft; \
		$(PACK) -C $(RELEASE) -c weft-plugin | gzip -n >$(RELEASE)/weft-plugin-$(VERSION)-linux-$$arch.tar.gz; \
	done
	rm -r $(RELEASE)/weft-plugin
	cd $(RELEASE) && sha256sum -- * >SHA256SUMS

.PHONY: install
install: plugin ## create and enable the plugin here; PLUGIN_SETTINGS="WEFT_JOIN=192.0.2.1"
	scripts/install-plugin.sh $(PLUGIN) build/plugin $(PLUGIN_SETTINGS)

.PHONY: uninstall
uninstall: ## remove the plugin; its state stays in /var/lib/weft
	docker plugin disable -f $(PLUGIN) || true
	docker plugin rm -f $(PLUGIN)

.PHONY: deps
deps: ## install missing Debian packages
	scripts/install-deps.sh

.PHONY: demo
demo: deps plugin lab ## three hosts on this machine, one network
	build/lab demo --hosts $(HOSTS) --plugin build/plugin

.PHONY: demo-shell
demo-shell: ## a shell on a host of the demo: HOST=2
	@build/lab shell $(HOST)

.PHONY: demo-down
demo-down: ## take the demo down
	build/lab down

# Where the simulations leave what they met; another place each time, so that none is
# cached: the seeds of the whole one are fresh ones.
TALLY := $(CURDIR)/build/tally/$(shell date +%s)

# The end-to-end tests have deadlines and run alone. Of the others go test starts those that take longest first, so
# many at once.
LONGEST := ./sim/exact ./plugin ./sim ./ledger ./lab/...
AT_ONCE := 2

# lint goes first and go test last, so that the end of the output is the tests', and
# what the simulations met. A second or so of fuzzing for each decoder: it finds what a
# change broke, make fuzz what was always wrong. The seeds of the exact simulation derive
# from the tree: each change meets others, and a run says what the next one of it will say.
.PHONY: test
test: deps plugin nextlevel lab lint ## everything: lint, fuzz, unit, kernel, simulation, real Docker
	scripts/fuzz.sh 2000x
	rm -rf build/tally && mkdir -p $(TALLY)
	go test -tags nextlevel -run Level ./ledger/state ./ledger
	export WEFT_TREE=$$(scripts/tree.sh) WEFT_LAB_REQUIRED=1 WEFT_TALLY=$(TALLY); \
		go test -timeout 45m ./e2e || failed=1; \
		go test -p $(AT_ONCE) -timeout 45m $(LONGEST) $$(go list ./... | grep -v /e2e$$) || failed=1; \
		cat $(TALLY)/* || true; exit $${failed:-0}

.PHONY: test-long
test-long: deps plugin nextlevel lab ## what takes longer than make test may, in an hour at most: more seeds, longer storms and attacks, later engines
	scripts/test-long.sh $(or $(SEEDS),300) $(or $(SIM),4m)

.PHONY: test-engines
test-engines: deps plugin nextlevel lab ## all end-to-end tests on each engine, three quarters of an hour; fills docs/engines.md: ENGINES="trixie sid" ENGINE_TESTS='Names|Static'
	scripts/test-engines.sh '$(or $(ENGINE_TESTS),.)' $(ENGINES)

.PHONY: test-kernels
test-kernels: deps plugin ## on an emulated machine with Debian 12's kernel, systemd and Docker: the plugin, and a reboot
	scripts/install-deps.sh --emulation
	WEFT_KERNELS=1 go test ./kernels -count=1 -timeout 60m -v

.PHONY: test-short
test-short: ## what needs neither root nor Docker
	go test -short -timeout 5m ./...

.PHONY: race
race: ## the short tests under the race detector
	go test -race -short -timeout 15m ./...

.PHONY: sim
sim: ## the simulations with new seeds, longer than make test runs them: SEEDS=1000 of the exact one, SIM=10m of the whole one
	SEEDS=$(or $(SEEDS),1000) go test -timeout 60m -run 'TestExact$$|TestExactPast|TestScenes|TestKept' -v ./sim/exact
	env -u SEEDS WEFT_SIM_TIME=$(or $(SIM),10m) go test -timeout 60m -run 'Sim|TestFates' -v ./...

.PHONY: bench
bench: deps plugin lab ## networks against Docker's overlay and bare VXLAN, addresses against a bare disk and Docker's IPAM; CROWD=300 containers at once too; fills docs/benchmarks.md
	build/lab bench --document docs/benchmarks.md --crowd $(or $(CROWD),0)

.PHONY: chaos
chaos: deps plugin lab ## agents and dockerds killed, links cut and containers moved at once on three hosts under traffic: T=20m SEED=7
	WEFT_LAB_REQUIRED=1 WEFT_LONG=1 WEFT_SPARES=3 WEFT_CHAOS=$(or $(T),5m) SEED=$(SEED) go test ./e2e -count=1 -timeout 0 -v -run 'TestIntegrationChaos$$'

# Whole agents in virtual time, hosts x endpoints of each, and real agents in clusters of that size.
SCALE ?= 10x50 30x50 100x50 300x50 1000x5 agent:1x1 agent:10x50 agent:100x50 agent:1000x50

.PHONY: scale
scale: build ## what clusters of 10 to 1,000 hosts cost, in a quarter of an hour: SCALE="100x50 agent:1000x50"; fills docs/scale.md
	WEFT_SCALE='$(SCALE)' WEFT_SCALE_AGENT=$(CURDIR)/build/weft WEFT_SCALE_DOCUMENT=$(CURDIR)/docs/scale.md go test ./sim/scale -count=1 -timeout 60m -v -run 'TestScale$$'

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME, such as 5m or 100000x
	scripts/fuzz.sh $(FUZZTIME)

.PHONY: generate
generate: ## refresh what is generated: docs/settings.md, config.json
	go generate ./...

.PHONY: lint
lint: $(call tool,$(GOLANGCI_LINT)) $(call tool,$(SHFMT)) $(call tool,$(DEADCODE)) ## every linter
	$(call tool,$(GOLANGCI_LINT)) run ./...
	go vet ./...
	@out=$$($(call tool,$(DEADCODE)) -test ./...); if [[ $$out ]]; then echo "$$out"; exit 1; fi
	$(call tool,$(SHFMT)) -d $(SCRIPTS)
	shellcheck $(SCRIPTS)

.PHONY: fmt
fmt: $(call tool,$(GOLANGCI_LINT)) $(call tool,$(SHFMT)) ## format Go and shell
	$(call tool,$(GOLANGCI_LINT)) fmt
	$(call tool,$(SHFMT)) -w $(SCRIPTS)

.PHONY: vuln
vuln: $(call tool,$(GOVULNCHECK)) ## known holes in what we import; asks vuln.go.dev
	$(call tool,$(GOVULNCHECK)) ./...

.PHONY: clean
clean: ## remove what was built; a running demo is taken down first
	if [[ -x build/lab ]]; then build/lab down; fi
	rm -rf build

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

define install-tool
$(call tool,$(1)):
	@echo "building $(notdir $(1)) into build/tools, once"
	@mkdir -p build/tools/tmp
	@GOBIN=$$(abspath build/tools/tmp) go install $(1)
	@mv build/tools/tmp/$(firstword $(subst @, ,$(notdir $(1)))) $$@
endef
$(foreach t,$(GOLANGCI_LINT) $(SHFMT) $(DEADCODE) $(GOVULNCHECK),$(eval $(call install-tool,$(t))))

.PHONY: help setup build ui demo up down status test unit e2e host-test docker-test rbd-test check

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

setup: ## install the Debian packages that are missing
	tools/setup

build: ## build all programs and the web pages
	cargo build --workspace --bins
	tools/ui build --optional

ui: ## build the web pages (node 20.19 or newer)
	tools/ui build

demo: ## set up, build, start everything and boot a guest that configures itself
	tools/demo

up: build ## start services, nginx and the guests' network
	tools/stack up

down: ## stop what `demo` or `up` started, and nothing else
	tools/stack down

status: ## what runs
	tools/stack status

test: unit e2e host-test ## everything that is tested

unit: ## tests that need no root and no guest
	cargo test --workspace --exclude e2e
	tools/ui test

e2e: ## real libvirt, real guests, in a namespace of their own (root, or sudo)
	tools/e2e

host-test: build ## certificates, TLS, hook and pools with a real libvirtd, in a lab (root, or sudo)
	tools/host-test

docker-test: build ## build the images of docker/ and boot a guest through them (root, minutes, not in `test`)
	tools/docker-test

rbd-test: build ## guests with disks on a real Ceph of its own (root, minutes, not in `test`)
	tools/rbd-test

.PHONY: openapi openapi-test
openapi: ## write the OpenAPI document and the types of the web pages anew
	cargo run -q -p api-gateway -- openapi >openapi/v1.json
	tools/ui types

openapi-test: ## the API of a running stack against its OpenAPI document (`tools/setup openapi` first; root)
	tools/openapi-test

.PHONY: bench
bench: ## measure against the peers (NAME=... for one; `tools/setup bench` first)
	tools/bench/run $(NAME)

check: ## formatting and lints
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	tools/ui check

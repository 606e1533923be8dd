# Every target that needs it makes the machine and the checkout ready first (tools/setup.sh); that can be repeated.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.PHONY: help setup demo test test-full lint bench install uninstall clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: ## install what is missing, make .venv, build the Rust parts
	@tools/setup.sh

demo: setup ## three nodes in namespaces: ping and iperf3 through a relay
	@. .venv/env.sh && exec python -m netns run demo

test: setup ## every check, test and scenario; the long ones in a short form
	@. .venv/env.sh && exec tools/test.sh

test-full: setup ## the same with the long forms
	@. .venv/env.sh && PEERTAP_FULL=1 exec tools/test.sh

lint: setup ## formatters, linters and type checkers only
	@. .venv/env.sh && exec tools/test.sh --lint

bench: setup ## PeerTap beside other tunnels, 40 minutes; BENCH="--quick --peers peertap,fastd" and the like
	@. .venv/env.sh && exec python -m tools.bench --install $(BENCH)

install: setup ## install PeerTap on this machine (as root): /opt/peertap, /usr/local/bin/peertap, a systemd unit
	@. .venv/env.sh && exec tools/install.sh

uninstall: ## take that away again; configuration and state stay
	@tools/install.sh --remove

clean: ## remove all that was built, .venv too
	rm -rf .venv target netns/emulator/target .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -f peertap/_core*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

#!/usr/bin/env bash
# Installs into .venv, then lint and all tests. Arguments go to pytest, such as: scripts/test.sh -k resume
# With TFVAE_TEST_DATA=FOLDER (the one that holds tfds/ and lfw-deepfunneled.tgz), the tests on real data run too.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh

ruff check --config scripts/ruff.toml .
ruff format --check --config scripts/ruff.toml .
# Two processes: building graphs is most of a test's time, and Python does that on one core.
exec python -m pytest -q --durations=10 --numprocesses=2 --dist=worksteal tests "$@"

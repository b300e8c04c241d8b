#!/usr/bin/env bash
# Installs into .venv, then lint and all tests. Arguments go to pytest, such as: scripts/test.sh -k resume
# The tests of the web page need Chromium and its driver: installed here where apt-get can (as root, as in a container), else
# those tests are skipped and say so.
# With TFVAE_TEST_DATA=FOLDER (the one that holds tfds/ and lfw-deepfunneled.tgz), the tests on real data run too.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh

if ! { command -v chromium && command -v chromedriver; } >/dev/null && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  echo "Installing Chromium for the tests of the web page"
  export DEBIAN_FRONTEND=noninteractive
  install_chromium() { timeout 600 apt-get install --quiet --quiet --yes --no-install-recommends chromium chromium-driver; }
  { install_chromium || { timeout 300 apt-get update --quiet --quiet && install_chromium; }; } >/dev/null 2>&1 ||
    echo "Chromium cannot be installed: the tests of the web page are skipped"
fi

ruff check --config scripts/ruff.toml .
ruff format --check --config scripts/ruff.toml .
# Two processes: building graphs is most of a test's time, and Python does that on one core.
exec python -m pytest -q --durations=10 --numprocesses=2 --dist=worksteal tests "$@"

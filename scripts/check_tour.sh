#!/usr/bin/env bash
# Runs docs/tour.ipynb from top to bottom, in an environment of its own that has what a notebook needs beside PYTHON's packages, and in a
# folder that is deleted afterwards. With an argument, the notebook with all that it shows is written there. A few minutes on two
# CPU cores. PYTHON names the Python that has tfvae's requirements; default: python.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(command -v "${PYTHON:-python}") || { echo "error: there is no ${PYTHON:-python}: expected PYTHON=/path/to/python" >&2; exit 1; }
repository=$PWD
output=$(realpath -m "${1:-/dev/null}")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

echo "Making the environment"
"$python" -m venv "$folder/venv"
# PYTHON's packages too, though it may itself be an environment's.
"$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' >"$(echo "$folder"/venv/lib/python*/site-packages)/of_python.pth"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check nbclient ipykernel
export PYTHONPATH="$repository"

echo "Running docs/tour.ipynb"
cd "$folder"
"$folder/venv/bin/python" - "$repository/docs/tour.ipynb" "$output" <<'CODE'
import sys

import nbclient
import nbformat

notebook = nbformat.read(sys.argv[1], as_version=4)
cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
try:
    nbclient.NotebookClient(notebook, timeout=3600, kernel_name="python3").execute()
finally:
    for output in (output for cell in cells for output in cell.outputs):
        print(output.get("text", "(a picture)\n" if "image/png" in output.get("data", {}) else ""), end="")
print(f"\n{len(cells)} cells ran, {sum('image/png' in str(cell.outputs) for cell in cells)} of them show a picture")
nbformat.write(notebook, sys.argv[2])
CODE
[ -f runs/tour_vae/scores.json ] || { echo "FAILED: the model was not scored" >&2; exit 1; }

#!/usr/bin/env bash
# Whether published versions load and answer in TensorFlow 2.20, that of the newest model server that serving/ names: a GAN, a VAE and a
# Soft-IntroVAE are trained for a moment and exported, and every signature is run there in a session and compared with the TensorFlow
# that exported. OLDER names another one (OLDER='2.19.*'). About ten minutes on two CPU cores and 1.5 GB for the environment, which is
# deleted afterwards. PYTHON names the Python that has tfvae's requirements; default: python.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(command -v "${PYTHON:-python}") || { echo "error: there is no ${PYTHON:-python}: expected PYTHON=/path/to/python" >&2; exit 1; }
export PYTHONPATH="$PWD"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# An environment that is there, as OLDER_PYTHON=/path/to/python, is used as it is.
older=${OLDER_PYTHON:-$folder/venv/bin/python}
if [ -z "${OLDER_PYTHON:-}" ]; then
  echo "Installing tensorflow-cpu ${OLDER:=2.20.*}"
  "$python" -m venv "$folder/venv"
  "$older" -m pip install --quiet --disable-pip-version-check "tensorflow-cpu==$OLDER"
fi

for objective in gan vae soft_intro_vae; do
  echo "== $objective"
  "$python" -m tfvae.train --flagfile="configs/quick/shapes_$objective.cfg" --train_images=320 --learning_rate_decay_images=0 \
    --sample_every_images=0 --model_dir="$folder/runs/$objective" >"$folder/said" 2>&1 || { cat "$folder/said" >&2; exit 1; }
  "$python" -m tfvae.export --model_dir="$folder/runs/$objective" --export_dir="$folder/published/$objective" --check_with="$older"
done

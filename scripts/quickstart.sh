#!/usr/bin/env bash
# A first look: installs into .venv, then trains a small GAN and a small VAE, made of the same two networks, on pictures
# that the project draws itself. About four minutes on two CPU cores after the installation; run it again to resume.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh

for objective in gan vae; do
  python -m tfvae.train --flagfile="configs/quick/shapes_$objective.cfg" --model_dir="runs/quickstart_$objective"
  python -m tfvae.sample --model_dir="runs/quickstart_$objective" --overwrite --sheets=classes
done
echo
echo "Sample sheets, one shape a row, nothing selected:"
for objective in gan vae; do echo "  $objective: $PWD/runs/quickstart_$objective/sheets/classes.png"; done
echo "Curves and more sheets: .venv/bin/tensorboard --logdir runs"

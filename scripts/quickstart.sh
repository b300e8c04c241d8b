#!/usr/bin/env bash
# A first look: installs into .venv, trains a small GAN and a small VAE, made of the same two networks, on pictures that the
# project draws itself, publishes both, and draws from a local endpoint. About five minutes on two CPU cores after the
# installation; run it again to resume.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh

for objective in gan vae; do
  python -m tfvae.train --flagfile="configs/quick/shapes_$objective.cfg" --model_dir="runs/quickstart_$objective"
  python -m tfvae.sample --model_dir="runs/quickstart_$objective" --overwrite --sheets=classes
  python -m tfvae.export --model_dir="runs/quickstart_$objective" --export_dir="runs/published/shapes_$objective" --keep_versions=1
done

python -m tfvae.serve --model_base_path=runs/published/shapes_gan &
server=$!
trap 'kill $server 2>/dev/null || true' EXIT
python serving/client.py wait --model=shapes_gan
python serving/client.py sample --model=shapes_gan --seed=0 --count=8 --label=0,1,2,3,4,5,6,7,8,9 --overwrite \
  --output=runs/quickstart_served.png
kill $server
wait $server || true

echo
echo "Sample sheets, one shape a row, nothing selected:"
for objective in gan vae; do echo "  $objective: $PWD/runs/quickstart_$objective/sheets/classes.png"; done
echo "  gan, by the endpoint: $PWD/runs/quickstart_served.png"
echo "Curves and more sheets: .venv/bin/tensorboard --logdir runs"

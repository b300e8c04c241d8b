#!/usr/bin/env bash
# A first look: installs into .venv, trains a small GAN and a small VAE, made of the same two networks, on pictures that the
# project draws itself, publishes both, and draws from a local endpoint. About six minutes on two CPU cores after the
# installation; run it again to resume.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh

for objective in gan vae; do
  echo "Training a small ${objective^^}"
  python -m tfvae.train --flagfile="configs/quick/shapes_$objective.cfg" --model_dir="runs/quickstart_$objective"
  echo "Drawing from it and publishing it"
  python -m tfvae.sample --model_dir="runs/quickstart_$objective" --sheets=classes --overwrite >/dev/null
  python -m tfvae.export --model_dir="runs/quickstart_$objective" --export_dir="runs/published/shapes_$objective" \
    --keep_versions=1 >/dev/null
done

echo "Serving both, and drawing from the endpoint"
{
  echo "model_config_list {"
  for name in shapes_gan shapes_vae; do
    echo "  config { name: \"$name\" base_path: \"$PWD/runs/published/$name\" model_platform: \"tensorflow\" }"
  done
  echo "}"
} >runs/published/models.config
serve="python -m tfvae.serve --model_config_file=runs/published/models.config --rest_api_enable_cors_support"
$serve >runs/quickstart_serve.log 2>&1 &
server=$!
trap 'kill $server 2>/dev/null || true' EXIT
python serving/client.py wait --model=shapes_gan >/dev/null || { cat runs/quickstart_serve.log >&2; exit 1; }
python serving/client.py sample --model=shapes_gan --seed=0 --count=8 --label=0,1,2,3,4,5,6,7,8,9 --overwrite \
  --output=runs/quickstart_served.png >/dev/null
kill $server
wait $server || true

cat <<END

Pictures, one shape per row, nothing selected:
  GAN                  $PWD/runs/quickstart_gan/sheets/classes.png
  VAE                  $PWD/runs/quickstart_vae/sheets/classes.png
  GAN, by the endpoint $PWD/runs/quickstart_served.png
Next, after  . .venv/bin/activate
  curves, more sheets  tensorboard --logdir runs
  scores               python -m tfvae.evaluate --model_dir=runs/quickstart_gan
  the web page         $serve
                       python -m http.server --bind 127.0.0.1 --directory serving/page 8080
                       http://localhost:8080/?left=shapes_gan&right=shapes_vae
END

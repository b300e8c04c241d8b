#!/usr/bin/env bash
# A real study of tiny networks, from end to end: killed with kill -9 in a training and in a scoring, and each time gone on with by the
# same command; then with another --data_dir under the same flags; then task by task through scripts/study_slurm.sh, with a
# stand-in for sbatch. About ten minutes on two CPU cores. PYTHON names the Python that has tfvae's requirements; default: python.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHON=${PYTHON:-python} PYTHONPATH="$PWD"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export XDG_CACHE_HOME="$folder/cache"

tiny="--dataset=shapes --base_channels=4 --latent_dim=16 --batch_size=8 --log_every_images=80 --sample_every_images=0"
tiny="$tiny --checkpoint_every_seconds=1"
flags=(
  "--experiment=main/vae_biggan: $tiny --objective=vae --train_images=1600"
  "--experiment=main/gan_biggan: $tiny --train_images=80"
  --extractor=classifier --num_images=40 --num_seeds=2 --eval_points=0 --mixture_tables=
)
study="$folder/study"

say() { printf '\n== %s\n' "$*"; }
fail() { echo "FAILED: $*" >&2; exit 1; }

# run DATA [FLAG…]: the study, what it says also in $folder/said.
run() { "$PYTHON" -m tfvae.study "${flags[@]}" --output_dir="$study" --data_dir="$folder/$1" "${@:2}" 2>&1 | tee "$folder/said"; }

# kill_when COMMAND: starts the study and kills it, and nothing else, as soon as the command succeeds.
kill_when() {
  "$PYTHON" -m tfvae.study "${flags[@]}" --output_dir="$study" --data_dir="$folder/data" >"$folder/said" 2>&1 &
  local process=$!
  until eval "$1"; do
    kill -0 $process 2>/dev/null || { cat "$folder/said"; fail "the study ended before: $1"; }
    sleep 0.05
  done
  kill -9 $process
  wait $process 2>/dev/null || true
  grep begins "$folder/said"
}

begun() { grep -c begins "$folder/said" || true; }
results() { (cd "$study" && find runs scores classifiers -type f -not -name 'events.*' | sort | xargs sha256sum); }

# Prepared data under one name in two folders: few shapes, drawn from other random numbers.
"$PYTHON" - "$folder" 2>"$folder/said" <<'CODE' || fail "$(cat "$folder/said")"
import sys

from tfvae.data import pipeline, shapes

shapes.NUM_IMAGES = {"train": 160, "test": 40}
for name in ("data", "other_data"):
    print(f"{name}: fingerprint {pipeline.load('shapes', data_dir=f'{sys.argv[1]}/{name}').fingerprint[:12]}")
    shapes._KEYS = {split: key + 1 for split, key in shapes._KEYS.items()}
CODE

say "killed in a training"
kill_when 'compgen -G "$study/runs/vae_biggan-*/checkpoints/ckpt-*.index" >/dev/null'
! compgen -G "$study/runs/vae_biggan-*/checkpoints/ckpt-1600.index" >/dev/null || fail "the training was over"

say "gone on with, and killed in a scoring"
kill_when 'grep -q "vae_biggan: scores: begins" "$folder/said"'
log=$(echo "$study"/logs/vae_biggan-*.log)
grep -h "resumed at\|^Done: " "$log"
[ "$(grep -c "resumed at" "$log")" = 1 ] && [ "$(grep -c "^Done: 1,600 images seen" "$log")" = 1 ] || fail "the training did not resume"
! compgen -G "$study/scores/*/vae_biggan-*.json" >/dev/null || fail "the scoring was over"

say "gone on with to the end"
run data
! grep -q "vae_biggan: training: begins\|classifier: begins\|calibration-shapes: .*: begins" "$folder/said" || fail "done twice"
grep "^| VAE BigGAN \|^| GAN BigGAN \|^| \*" "$study/report/report.md" | head -4
[ "$(ls "$study/runs" | wc -l)" = 2 ] || fail "expected two runs"

say "once more: nothing is left to do"
results >"$folder/first"
run data
[ "$(begun)" = 0 ] || fail "something was done again"

say "another --data_dir under the same flags: all of it anew, beside"
run other_data
[ "$(begun)" = 10 ] || fail "not all of it was done: $(begun) steps"
ls "$study/data" "$study/runs" "$study/scores" "$study/classifiers"
[ "$(ls "$study/runs" | wc -l)" = 4 ] || fail "expected four runs"
results | sort >"$folder/second"
[ "$(sort "$folder/first" | comm -23 - "$folder/second" | wc -l)" = 0 ] || fail "a result of the first data was changed"

say "the first --data_dir again: nothing is left to do"
run data
[ "$(begun)" = 0 ] || fail "something was done again"

say "task by task"
study="$folder/by_slurm"
mkdir "$folder/bin"
cat >"$folder/bin/sbatch" <<'SBATCH'
#!/usr/bin/env bash
script=$(cat)
last=$(grep -oP '(?<=--array=0-)\d+' <<<"$*" || echo 0)
for i in $(seq 0 "$last"); do SLURM_ARRAY_TASK_ID=$i bash -c "$script" >&2; done
echo 1
SBATCH
chmod +x "$folder/bin/sbatch"
! run data --only=vae_biggan --work=vae_biggan || fail "a task was done before what it waits for"
PATH="$folder/bin:$PATH" scripts/study_slurm.sh "${flags[@]}" --only=vae_biggan --output_dir="$study" --data_dir="$folder/data"
run data --only=vae_biggan --list
[ "$(grep -c "$(printf '\tdone\t')" "$folder/said")" = 3 ] || fail "a task is missing"
[ -f "$study/report/report.md" ] || fail "no report"

say "all of it is as expected"

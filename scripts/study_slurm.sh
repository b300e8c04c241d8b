#!/usr/bin/env bash
# Hands a study to Slurm: classifiers as a job array, then calibrations and experiments as another one, then the report. Run it
# where sbatch is, with the study's flags; --output_dir and the data lie on a disk that all nodes share. What is done is left out: the
# same command again, once all jobs have ended, goes on with what was cut or failed.
#
#   SBATCH_PARTITION=gpu SBATCH_GRES=gpu:1 SBATCH_TIMELIMIT=24:00:00 scripts/study_slurm.sh \
#     --flagfile=configs/study/paper.cfg --output_dir=/shared/study --data_dir=cifar10=/shared/tfds --data_dir=lfw=/shared/lfw
#
# sbatch reads its options from SBATCH_… variables. PYTHON names the Python that has tfvae; default: python. What the jobs say lies
# in slurm-*.out, what their commands say in logs/ of --output_dir.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(command -v "${PYTHON:-python}") || { echo "error: there is no ${PYTHON:-python}: expected PYTHON=/path/to/python" >&2; exit 1; }
study=("$python" -m tfvae.study "$@")
list=$("${study[@]}" --list)

# missing 1: names of what is missing and waits for nothing; missing 0: of what waits for something.
missing() { awk -F '\t' -v first="$1" '$2 == "missing" && ($3 == "waits for: nothing") == first { print $1 }' <<<"$list"; }

# submit TITLE JOB [NAME…]: submits an array over the names, or without names the report, and prints the job's number. It starts when
# JOB has ended, however it ended: what cannot be done then ends at once and says why. JOB is empty where there is none.
submit() {
  local title=$1 job=$2 what=--report_only
  # SIGTERM three minutes before the time limit: the study passes it on, and training saves.
  local options=(--parsable --job-name="study-$title" --chdir="$PWD" --signal=B:TERM@180)
  shift 2
  if [ $# -gt 0 ]; then
    options+=(--array="0-$(($# - 1))")
    what='--work="${names[SLURM_ARRAY_TASK_ID]}"'
  fi
  if [ -n "$job" ]; then options+=(--dependency="afterany:$job"); fi
  sbatch "${options[@]}" <<SCRIPT | cut -d ';' -f 1
#!/usr/bin/env bash
names=($*)
exec$(printf ' %q' "${study[@]}") $what
SCRIPT
}

job=
for first in 1 0; do
  mapfile -t names < <(missing "$first")
  if [ ${#names[@]} -gt 0 ]; then
    title=$([ "$first" = 1 ] && echo classifiers || echo experiments)
    job=$(submit "$title" "$job" "${names[@]}")
    echo "$title: job $job, ${#names[@]} tasks: ${names[*]}"
  fi
done
job=$(submit report "$job")
echo "report: job $job"

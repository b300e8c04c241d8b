"""Trains, scores and reports a set of experiments: the paper's tables and figures, published beside measured.

python -m tfvae.study --flagfile=configs/study/paper.cfg --output_dir=runs/study
python -m tfvae.study --flagfile=configs/study/all.cfg --scale=cpu --data_dir=cifar10=PREPARED_TFDS --data_dir=lfw=FOLDER

Every experiment is trained and scored in processes of its own. The same command again goes on where it was cut; what is
finished is skipped, what fails is reported and left behind. Several processes and machines may share --output_dir.
"""

import re
import shlex
import sys
import time

from absl import flags

from tfvae import command
from tfvae.command import duration
from tfvae.data import datasets
from tfvae.studies import estimate, plan, report, results, runner, sizes, tasks

EXPERIMENT = flags.DEFINE_multi_string(
    "experiment", [], "TABLE/NAME: FLAGFILE --flag=value …: a row, and how tfvae.train makes it. Repeated."
)
PUBLISHED = flags.DEFINE_multi_string(
    "published", [], "NAME: quantity=value; …: what was published of a row, shown beside what is measured. Repeated."
)
OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Folder of everything that the study makes. Default: runs/study_SCALE."
)
SCALE = flags.DEFINE_enum(
    "scale", "full", list(plan.SCALES), "full: as the flagfiles say; cpu: widths, batches and images cut by one rule."
)
IMAGES = flags.DEFINE_multi_string(
    "images",
    [],
    "DATASET=NUMBER: images that every experiment of a dataset sees with --scale=cpu. Repeated. Default: "
    f"{', '.join(f'{one.name}={one.cpu_images}' for one in datasets.DATASETS.values())}, others "
    f"{datasets.Dataset.cpu_images}.",
)
ONLY = flags.DEFINE_list("only", [], "Experiments to run: names, tables or TABLE/NAME, with * and ?. Default: all.")
COMMON_FLAGS = flags.DEFINE_string(
    "common_flags", "", "Flags of tfvae.train for all, such as --precision=mixed_bfloat16."
)
DATA_DIR = flags.DEFINE_multi_string("data_dir", [], "DATASET=FOLDER, or a folder for all; as tfvae.train's. Repeated.")
INCEPTION_DIR = flags.DEFINE_string("inception_dir", None, "Extractor of all scores: folder of TF-GAN's Inception.")
CLASSIFIER_DIR = flags.DEFINE_string(
    "classifier_dir",
    None,
    "Extractor without Inception: folders of tfvae.train_classifier, {dataset} for the dataset's name; what is missing is "
    "trained. Default: classifiers/{dataset} in --output_dir.",
)
NUM_IMAGES = flags.DEFINE_integer(
    "num_images", 10_000, "Most images on each side of a score; datasets with few held-out images take fewer.", 20
)
NUM_SEEDS = flags.DEFINE_integer("num_seeds", 3, "Independent sets of drawn images: mean and spread over them.", 1)
MIXTURE_TABLES = flags.DEFINE_list(
    "mixture_tables",
    ["main", "best", "modes"],
    "Tables whose VAEs are also scored with a mixture fitted to their codes.",
)
EVAL_POINTS = flags.DEFINE_integer("eval_points", 10, "Scores of a small sample along each training; 0: none.", 0)
ASSUMED_TFLOPS = flags.DEFINE_float(
    "assumed_tflops",
    None,
    "TFLOP/s that training sustains, for the hours told before anything is measured. Default: "
    f"{', '.join(f'{name} {value / 1e12:g}' for name, value in estimate.ASSUMED.items())}.",
    1e-6,
)
NOTE = flags.DEFINE_multi_string("note", [], "A sentence for the report, such as where the data came from. Repeated.")
REPORT_ONLY = flags.DEFINE_boolean("report_only", False, "Run nothing: write the report of what is there.")
DRY_RUN = flags.DEFINE_boolean("dry_run", False, "Print experiments and estimated hours, then stop.")


def main(argv):
    with command.user_errors():
        study = make_study()
        command.check_replaceable(study.report_dir, "output_dir", report.foreign, overwrite=True)
        chosen = study.selected(ONLY.value)
    speed = (ASSUMED_TFLOPS.value or estimate.ASSUMED[study.scale] / 1e12) * 1e12
    data_dirs = {dataset: study.data_dir(dataset) for dataset in study.datasets}
    known = sizes.of_experiments(study.experiments, data_dirs, study.output_dir / "sizes.json")
    failed, stopped = {}, False
    if not REPORT_ONLY.value:
        print(overview(study, chosen, known, speed), flush=True)
        if DRY_RUN.value:
            return
        failed, stopped = run(study, chosen, known, speed)
    if stopped:
        raise command.UserError(
            "stopped; what was running is saved. The same command goes on, --report_only reports so far."
        )
    found = results.read(study, known)
    with runner.Runner(study, None).lock("report") as lock:
        if lock is None:
            raise command.UserError("another process writes the report: expected none; it is there in a minute.")
        file = report.write(study, found, shown_command(sys.argv[1:]), NOTE.value)
    print(f"Report: {file} and {file.with_suffix('.html')}")
    if REPORT_ONLY.value:
        return
    missing = [row for row in found.rows if row.experiment in chosen and not row.scores]
    for name, line in failed.items():
        print(f"failed: {name}: {line}")
    if missing or failed:
        raise command.UserError(
            f"{len(missing)} of {len([r for r in found.rows if r.experiment in chosen])} rows are empty and {len(failed)} tasks "
            "failed: expected all; the report gives the reasons, and the same command tries again."
        )


def make_study():
    """The study that the flags describe. Raises: ValueError."""
    output_dir = command.path("output_dir", OUTPUT_DIR.value or f"runs/study_{SCALE.value}")
    images = plan.read_pairs("images", IMAGES.value, int)
    experiments = plan.read_experiments(EXPERIMENT.value, SCALE.value, images, shlex.split(COMMON_FLAGS.value))
    if INCEPTION_DIR.value and CLASSIFIER_DIR.value:
        raise ValueError("both --inception_dir and --classifier_dir given: expected one; their scores do not compare.")
    data_dirs = plan.read_pairs("data_dir", DATA_DIR.value, default_key=True)
    inception_dir, classifier_dir = (
        str(command.path(flag.name, flag.value)) if flag.value else None for flag in (INCEPTION_DIR, CLASSIFIER_DIR)
    )
    return plan.Study(
        experiments=experiments,
        published=plan.read_published(PUBLISHED.value, experiments),
        scale=SCALE.value,
        output_dir=output_dir,
        data_dirs={dataset: str(command.path("data_dir", folder)) for dataset, folder in data_dirs.items()},
        inception_dir=inception_dir,
        classifier_dir=classifier_dir or str(output_dir / "classifiers" / "{dataset}"),
        num_images=NUM_IMAGES.value,
        num_seeds=NUM_SEEDS.value,
        mixture_tables=tuple(MIXTURE_TABLES.value),
        eval_points=EVAL_POINTS.value,
    )


def shown_command(arguments):
    """The command for readers of the report, who have other folders than this machine."""
    places = "|".join(f.name for f in (OUTPUT_DIR, DATA_DIR, INCEPTION_DIR, CLASSIFIER_DIR))
    shown = [re.sub(rf"^(--(?:{places})=(?:\w+=)?).*", r"\1…", argument) for argument in arguments]
    # It makes nothing of what is shown.
    shown = [argument for argument in shown if argument not in ("--report_only", "--report_only=true")]
    return " ".join(["python -m tfvae.study", *(f"'{a}'" if " " in a else a for a in shown)])


def overview(study, chosen, known, speed):
    """What is going to be done, and for how long, as text."""
    seconds = estimate.training_seconds(study, known, speed)
    width = max(len(one.name) for one in chosen)
    lines = [f"{'experiment':<{width}} {'images':>12} {'PFLOP':>10} {'training':>9}  state"]
    for one in chosen:
        seen = tasks.trained_images(study, one)
        state = "trained" if seen == one.total_images else f"at {seen:,} images" if seen else ""
        hours = duration(seconds[one.folder]) if one.folder in seconds else "?"
        flops = f"{known[one.folder]['flops'] / 1e15:,.2f}" if one.folder in known else "?"
        lines.append(f"{one.name:<{width}} {one.total_images:>12,} {flops:>10} {hours:>9}  {state}")
    left = estimate.seconds_left(study, chosen, known, speed)
    lines.append(
        f"{len(chosen)} experiments, {len({one.folder for one in chosen})} trainings, about {left / 3600:,.1f} hours left on one "
        f"machine: estimated at {speed / 1e12:g} TFLOP/s where nothing was measured yet (--assumed_tflops), without extractors"
    )
    return "\n".join(lines)


def run(study, chosen, known, speed):
    """Does what is left: ({task: line} of those that failed, whether it was told to stop)."""
    everything = tasks.of_study(study, chosen)
    told = 0.0

    def say(number, task, step, seconds, line):
        nonlocal told
        now = time.monotonic()
        running = step is not None and seconds > 0
        if running and now - told < runner.STATUS_SECONDS:
            return
        told = now
        parts = [task.name, *([step.name] if step else []), *([duration(seconds)] if running else []), line]
        left = estimate.seconds_left(study, chosen, known, speed) / 3600
        print(f"[{number}/{len(everything)}] {': '.join(parts)}  ({left:,.1f} h left in all)", flush=True)

    doer = runner.Runner(study, say)
    with doer.listening():
        return doer.work_off(everything), doer.stopping


if __name__ == "__main__":
    command.run_command(main)

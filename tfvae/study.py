"""Trains, scores and reports a set of experiments: the paper's tables and figures, published beside measured.

python -m tfvae.study --flagfile=configs/study/paper.cfg --output_dir=runs/study
python -m tfvae.study --flagfile=configs/study/all.cfg --scale=cpu --data_dir=cifar10=PREPARED_TFDS --data_dir=lfw=FOLDER

Every experiment is trained and scored in processes of its own. The same command again goes on where it was cut; what is
finished is skipped, what fails is reported and left behind. On several machines with one disk, a scheduler runs --work=NAME
for each name of --list, then --report_only: scripts/study_slurm.sh and scripts/study_kubernetes.yaml.
"""

import re
import shlex
import sys

from absl import flags

from tfvae import command
from tfvae.data import datasets
from tfvae.scoring import extractors
from tfvae.studies import plan

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
EXTRACTOR = flags.DEFINE_string("extractor", None, f"{extractors.flag_help()} Missing classifiers are trained.")
FOLDERS = {
    flag: flags.DEFINE_string(flag, None, extractors.folder_help(flag) + " {dataset} in it: the dataset's name.")
    for flag in extractors.FLAGS
}
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
    "TFLOP/s that training sustains, to estimate hours before anything is measured. Default: "
    f"{', '.join(f'{name} {value / 1e12:g}' for name, value in plan.SCALES.items())}.",
    1e-6,
)
NOTE = flags.DEFINE_multi_string("note", [], "A sentence for the report, such as where the data came from. Repeated.")
REPORT_ONLY = flags.DEFINE_boolean("report_only", False, "Run nothing: write the report of what is there.")
DRY_RUN = flags.DEFINE_boolean("dry_run", False, "Print experiments and estimated hours, then stop.")
LIST = flags.DEFINE_boolean(
    "list",
    False,
    "Print what there is to do, one task per line: NAME, done or missing, what it waits for; tabs between.",
)
WORK = flags.DEFINE_string("work", None, "NAME of --list: do this task alone and write no report.")


def make_study():
    """The study that the flags describe. Raises: ValueError."""
    output_dir = command.path("output_dir", OUTPUT_DIR.value or f"runs/study_{SCALE.value}")
    images = plan.read_pairs("images", IMAGES.value, int)
    experiments = plan.read_experiments(EXPERIMENT.value, SCALE.value, images, shlex.split(COMMON_FLAGS.value))
    folders = {name: str(command.path(name, flag.value)) for name, flag in FOLDERS.items() if flag.value}
    kind = extractors.kind_of(EXTRACTOR.value, **folders)
    if kind.name != plan.TRAINED:
        extractors.choose(EXTRACTOR.value, **folders)
    data_dirs = plan.read_pairs("data_dir", DATA_DIR.value, default_key=True)
    return plan.Study(
        experiments=experiments,
        published=plan.read_published(PUBLISHED.value, experiments),
        scale=SCALE.value,
        output_dir=output_dir,
        data_dirs={dataset: str(command.path("data_dir", folder)) for dataset, folder in data_dirs.items()},
        extractor_name=EXTRACTOR.value,
        folders=folders,
        num_images=NUM_IMAGES.value,
        num_seeds=NUM_SEEDS.value,
        mixture_tables=tuple(MIXTURE_TABLES.value),
        eval_points=EVAL_POINTS.value,
    )


command.start(__name__, lambda: make_study().selected(ONLY.value))

from tfvae.studies import estimate, report, results, sizes, tasks, work


def main(argv):
    with command.user_errors():
        modes = [f.name for f in (REPORT_ONLY, DRY_RUN, LIST, WORK) if f.value not in (None, False)]
        if len(modes) > 1:
            raise ValueError(f"--{' and --'.join(modes)} given: expected one of them.")
        study = make_study()
        if WORK.value is not None:
            command.check_writable(study.report_dir, "output_dir")
        elif not LIST.value:
            command.check_replaceable(study.report_dir, "output_dir", report.foreign, overwrite=True)
        chosen = study.selected(ONLY.value)
        everything = tasks.of_study(study, chosen)
        task = None if WORK.value is None else work.task_named(study, everything, WORK.value)
    if LIST.value:
        print(work.listing(everything))
        return
    if task:
        for line in work.do(study, [task]).values():
            raise command.UserError(f"{task.name}: {line}")
        return
    speed = (ASSUMED_TFLOPS.value or plan.SCALES[study.scale] / 1e12) * 1e12
    data_dirs = {dataset: study.data_dir(dataset) for dataset in study.datasets}
    known = sizes.of_experiments(study.experiments, data_dirs, study.output_dir / "sizes.json")
    failed = {}
    if not REPORT_ONLY.value:
        print(work.overview(study, chosen, known, speed), flush=True)
        if DRY_RUN.value:
            return
        failed = work.do(study, everything, lambda: estimate.seconds_left(study, chosen, known, speed))
    found = results.read(study, known)
    file = report.write(study, found, shown_command(sys.argv[1:]), NOTE.value)
    print(f"Report: {file} and {file.with_suffix('.html')}")
    if REPORT_ONLY.value:
        return
    rows = [row for row in found.rows if row.experiment in chosen]
    empty = [row for row in rows if not row.scores]
    for name, line in failed.items():
        print(f"failed: {name}: {line}")
    if empty or failed:
        raise command.UserError(
            f"{len(empty)} of {len(rows)} rows are empty and {len(failed)} tasks failed: expected all; the report gives the "
            "reasons, and the same command tries again."
        )


def shown_command(arguments):
    """The command for readers of the report, who have other folders than this machine."""
    places = "|".join(f.name for f in (OUTPUT_DIR, DATA_DIR, *FOLDERS.values()))
    shown = [re.sub(rf"^(--(?:{places})=(?:\w+=)?).*", r"\1…", argument) for argument in arguments]
    # It makes nothing of what is shown.
    shown = [argument for argument in shown if argument not in ("--report_only", "--report_only=true")]
    return " ".join(["python -m tfvae.study", *(f"'{a}'" if " " in a else a for a in shown)])


if __name__ == "__main__":
    command.run_command(main)

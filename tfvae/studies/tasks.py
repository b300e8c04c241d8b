"""What has to be done for a study, as commands that each leave a file: classifiers, calibration, training, scores, pictures."""

import functools
import sys

from tfvae.data import datasets
from tfvae.studies.runner import Step, Task, read_record
from tfvae.training import run

EXHIBITED_FROM = 2_000  # drawn images of which the best are shown
HELD_OUT, NOISE = "held_out", "noise"


def of_study(study, experiments):
    """The tasks of some of a study's experiments, in the order in which they are to be done."""
    tasks = {}
    for one in experiments:
        needs = functools.partial(blocked, study, one.dataset)
        if not study.inception_dir:
            name = f"classifier-{study.extractor(one.dataset)[1].name}"
            tasks.setdefault(name, Task(name, functools.partial(classifier, study, one.dataset)))
        name = f"calibration-{datasets.record(one.dataset).slug}"
        tasks.setdefault(name, Task(name, functools.partial(calibration, study, one.dataset), needs))
        # All rows of one run, also those that were not asked for: what they share is done once.
        rows = [e for e in study.experiments if e.folder == one.folder]
        tasks.setdefault(one.folder, Task(one.folder, functools.partial(of_run, study, one, rows), needs))
    return list(tasks.values())


def blocked(study, dataset):
    """Why nothing of a dataset can be scored, or None."""
    if study.extractor_is_there(dataset):
        return None
    flag, folder = study.extractor(dataset)
    failed = read_record(study.record_file(f"classifier-{folder.name}")).get("failed")
    why = f" ({failed['line']})" if failed else ""
    return f"{folder.name} holds no extractor{why}: expected one that was made before, or another folder by --{flag}."


def command(module, *arguments):
    return [sys.executable, "-m", f"tfvae.{module}", *map(str, arguments)]


def places(study, dataset, extractor=True):
    flag, folder = study.extractor(dataset)
    data_dir = study.data_dir(dataset)
    return ([f"--data_dir={data_dir}"] if data_dir else []) + ([f"--{flag}={folder}"] if extractor else [])


def classifier(study, dataset):
    folder = study.extractor(dataset)[1]
    arguments = [f"--dataset={dataset}", f"--output_dir={folder}", *places(study, dataset, extractor=False)]
    done = functools.partial(study.extractor_is_there, dataset)
    return [Step("classifier", done, command("train_classifier", *arguments))]


def evaluation(study, dataset, name, file, *source):
    """The step that scores a source of images, named by flags of `tfvae.evaluate`, by the dataset's protocol."""
    protocol = study.protocol(dataset)
    arguments = [
        f"--num_images={protocol.num_images}",
        f"--reference_split={protocol.reference_split}",
        f"--num_seeds={study.num_seeds}",
        "--memorisation=all",  # extracted once for all models of a dataset
        f"--output={file}",
    ]
    return Step(name, file.is_file, command("evaluate", *source, *arguments, *places(study, dataset)))


def calibration(study, dataset):
    """Real images that are not the reference's, and noise, by the protocol of the models."""
    splits = {HELD_OUT: study.protocol(dataset).held_out_split, NOISE: "noise"}
    return [
        evaluation(
            study, dataset, kind, study.calibration_file(dataset, kind), f"--split={split}", f"--dataset={dataset}"
        )
        for kind, split in splits.items()
        if split
    ]


def of_run(study, one, rows):
    """Training, scores and pictures of a run: `one` of the experiments, `rows` all that share it."""
    model = f"--model_dir={study.run_dir(one)}"
    arguments = [model, *places(study, one.dataset)]
    every = max(1, one.settings.train_images // study.eval_points) if study.eval_points else 0
    # First: an experiment may say otherwise.
    train = [f"--eval_every_images={every}", *one.arguments, *arguments]
    steps = [Step("training", lambda: trained_images(study, one) == one.total_images, command("train", *train))]
    steps.append(evaluation(study, one.dataset, "scores", study.score_file(one), model))
    file = study.exhibits_file(one)
    number = min(EXHIBITED_FROM, study.protocol(one.dataset).num_images)
    exhibits = [f"--output={file}", f"--num_images={number}", *arguments]
    steps.append(Step("pictures", file.is_file, command("studies.exhibits", *exhibits)))
    if any(map(study.with_mixture, rows)):
        file = study.score_file(one, "gmm")
        steps.append(evaluation(study, one.dataset, "scores with the mixture prior", file, model, "--prior=gmm"))
    return steps


def trained_images(study, one):
    """Images seen at the newest checkpoint of an experiment's run; 0 without."""
    checkpoints = run.RunDirectory(study.run_dir(one)).checkpoints
    return max((int(file.stem.split("-")[1]) for file in checkpoints.glob("ckpt-*.index")), default=0)

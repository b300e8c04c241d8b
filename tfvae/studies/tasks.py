"""What has to be done for a study: data, classifiers, calibration, training, scores and pictures, as commands that leave files.

Two tasks never write the same file, so tasks that do not wait for each other can be done on different machines.
"""

import collections
import functools
import sys

from tfvae.data import datasets
from tfvae.studies import identity, plan
from tfvae.studies.runner import Blocked, Step, Task, read_record
from tfvae.training import run, store

EXHIBITED_FROM = 2_000  # drawn images of which the best are shown
HELD_OUT, NOISE, SPOILT = "held_out", "noise", "spoilt"
CALIBRATION_IMAGES = 1_000  # spoilt in every way, so a few minutes by the slowest extractor


def of_study(study, experiments):
    """The tasks of some of a study's experiments, each after those that it needs.

    First, for each dataset, what all else needs: its record and its classifier. A run is named after the first of the study's
    experiments that share it.

    Raises:
        ValueError: two tasks would have one name, or two classifiers one folder.
    """
    names = dict.fromkeys(one.dataset for one in experiments)
    classifiers = study.folders.get("classifier_dir")
    if classifiers and "{dataset}" not in classifiers and len(names) > 1:
        raise ValueError(
            f"--classifier_dir={classifiers} is one folder for {len(names)} datasets ({', '.join(names)}): "
            "expected {dataset} in it, such as --classifier_dir=classifiers/{dataset}."
        )
    first, then = [], []
    for dataset in names:
        name = preparation_name(study, dataset)
        first.append(Task(name, functools.partial(preparation, study, dataset)))
        then.append(
            Task(
                f"calibration-{datasets.record(dataset).slug}", functools.partial(calibration, study, dataset), (name,)
            )
        )
        for folder in dict.fromkeys(one.folder for one in experiments if one.dataset == dataset):
            # Also rows that were not asked for: what they share is done once.
            rows = [one for one in study.experiments if one.folder == folder]
            steps, files = functools.partial(of_run, study, rows), functools.partial(study.run_name, rows[0])
            then.append(Task(rows[0].name, steps, (name,), files))
    for name, number in collections.Counter(task.name for task in first + then).items():
        if number > 1:
            raise ValueError(
                f"{number} tasks of the study have the name {name}: expected another name for one of them."
            )
    return first + then


def preparation_name(study, dataset):
    """The name of the task that comes before all others of a dataset."""
    trained = any(kind.name == plan.TRAINED for kind in study.kinds(dataset))
    return f"{'classifier' if trained else 'data'}-{datasets.record(dataset).slug}"


def require(study, dataset, resolution):
    """Raises `Blocked` while nothing can be made of a dataset's images."""
    name = preparation_name(study, dataset)
    failed = read_record(study.record_file(name)).get("failed")
    why = f" ({failed['step']} failed: {failed['line']})" if failed else ""
    if not identity.is_current(study.data_file(dataset, resolution)):
        raise Blocked(f"the images of {dataset} were not read yet, or have changed since{why}: expected {name} first.")
    for kind in study.kinds(dataset):
        if not study.extractor_is_there(dataset, kind):
            _, folder = study.extractor(dataset, kind)
            if folder is None:
                study.extractor_checksum(dataset, kind)  # says what is missing
            raise Blocked(
                f"{folder} holds no extractor{why}: expected {name} first, or another folder by --{kind.flag}."
            )


def command(module, *arguments):
    return [sys.executable, "-m", f"tfvae.{module}", *map(str, arguments)]


def data_place(study, dataset):
    """The flag that names a dataset's folder, in a list."""
    data_dir = study.data_dir(dataset)
    return [f"--data_dir={data_dir}"] if data_dir else []


def places(study, dataset, kind=None):
    """The flags of a dataset's folder and of an extractor. kind: of `study.kinds`; default: the first."""
    kind, folder = study.extractor(dataset, kind)
    extractor = [f"--extractor={kind.name}"] + ([f"--{kind.flag}={folder}"] if kind.flag else [])
    return data_place(study, dataset) + extractor


def sized(resolution):
    return [f"--resolution={resolution}"] if resolution else []


def preparation(study, dataset):
    """The record of a dataset's images, one for each resolution, and the classifier that scores them."""
    protocol = study.protocol(dataset)
    splits = f"--splits={','.join(filter(None, (protocol.reference_split, protocol.held_out_split)))}"
    source = [f"--dataset={dataset}", *data_place(study, dataset)]
    for resolution in dict.fromkeys(one.settings.resolution for one in study.experiments if one.dataset == dataset):
        file = study.data_file(dataset, resolution)
        arguments = command("studies.fingerprints", *source, *sized(resolution), splits, f"--output={file}")
        yield Step("data", functools.partial(identity.is_current, file), arguments)
    for kind in [kind for kind in study.kinds(dataset) if kind.name == plan.TRAINED]:
        folder = study.extractor(dataset, kind)[1]
        if study.extractor_of_other_data(dataset, kind):
            raise Blocked(
                f"{folder} was trained on other images than {dataset} has: expected another --classifier_dir."
            )
        arguments = [*source, *sized(study.resolution(dataset)), f"--output_dir={folder}"]
        done = functools.partial(study.extractor_is_there, dataset, kind)
        yield Step("classifier", done, command("train_classifier", *arguments))


def evaluation(study, dataset, resolution, name, file, *source, kind=None):
    """The step that scores a source of images, named by flags of `tfvae.evaluate`, by the dataset's protocol."""
    protocol = study.protocol(dataset)
    arguments = [
        f"--num_images={protocol.num_images}",
        f"--reference_split={protocol.reference_split}",
        f"--num_seeds={study.num_seeds}",
        "--memorisation=all",  # extracted once for all models of a dataset
        f"--output={file}",
        "--overwrite",  # what is there and yet not done is of other data
    ]
    done = functools.partial(read_scores, study, dataset, resolution, file, kind)
    return Step(name, done, command("evaluate", *source, *arguments, *places(study, dataset, kind)))


def evaluations(study, dataset, resolution, name, file_of, *source):
    """The same once for each of the dataset's extractors. file_of: function of a `Kind` -> the file."""
    for place, kind in enumerate(study.kinds(dataset)):
        require(study, dataset, resolution)
        by = f" by the {kind.title}" if place else ""
        yield evaluation(study, dataset, resolution, name + by, file_of(kind=kind), *source, kind=kind)


def read_scores(study, dataset, resolution, file, kind=None):
    """What `tfvae.evaluate` wrote; None where there is nothing, or where it is of other images or of another extractor."""
    found, data = identity.read_json(file), identity.read(study.data_file(dataset, resolution))
    if found is None or data is None:
        return None
    images, extractor = found["reference"]["fingerprint"], found["protocol"]["extractor"]["checksum"]
    same = images in data.fingerprints.values() and extractor == study.extractor_checksum(dataset, kind)
    return found if same else None


def calibration(study, dataset):
    """Scores of real images that are not the reference's and of noise, as the models'; and of real images that are spoilt."""
    resolution = study.resolution(dataset)
    for part, split in ((HELD_OUT, study.protocol(dataset).held_out_split), (NOISE, "noise")):
        if split:
            require(study, dataset, resolution)
            source = [f"--split={split}", f"--dataset={dataset}", *sized(resolution)]
            file_of = functools.partial(study.calibration_file, dataset, part)
            yield from evaluations(study, dataset, resolution, part, file_of, *source)
    require(study, dataset, resolution)
    file = study.calibration_file(dataset, SPOILT)
    number = min(CALIBRATION_IMAGES, study.protocol(dataset).num_images)
    source = ["--calibrate", f"--dataset={dataset}", *sized(resolution), *places(study, dataset)]
    yield Step(
        SPOILT,
        functools.partial(read_scores, study, dataset, resolution, file),
        command("evaluate", *source, f"--num_images={number}", f"--output={file}", "--overwrite"),
    )


def of_run(study, rows):
    """Training, scores and pictures of a run. rows: all experiments that share it."""
    one, data = rows[0], (rows[0].dataset, rows[0].settings.resolution)
    require(study, *data)
    model = f"--model_dir={study.run_dir(one)}"
    arguments = [model, *places(study, one.dataset)]
    every = max(1, one.settings.train_images // study.eval_points) if study.eval_points else 0
    # First: an experiment may say otherwise.
    train = [f"--eval_every_images={every}", *one.arguments, *arguments]
    yield Step("training", lambda: trained_images(study, one) == one.total_images, command("train", *train))
    yield from evaluations(study, *data, "scores", functools.partial(study.score_file, one), model)
    require(study, *data)
    file = study.exhibits_file(one)
    number = min(EXHIBITED_FROM, study.protocol(one.dataset).num_images)
    yield Step(
        "pictures", file.is_file, command("studies.exhibits", *arguments, f"--output={file}", f"--num_images={number}")
    )
    if any(map(study.with_mixture, rows)):
        file_of = functools.partial(study.score_file, one, "gmm")
        yield from evaluations(study, *data, "scores with the mixture prior", file_of, model, "--prior=gmm")


def trained_images(study, one):
    """Images seen at the newest checkpoint of an experiment's run; 0 without."""
    seen = max(store.stored(run.RunDirectory(study.run_dir(one)).checkpoints), default=0)
    # Earlier versions ended with a whole call of the train function.
    whole_call = one.settings.images_per_step * one.settings.steps_per_execution
    return one.total_images if one.total_images <= seen < one.total_images + whole_call else seen

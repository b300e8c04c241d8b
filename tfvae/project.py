"""Finds the latents of real images: those whose pictures are nearest, by descent through a trained model's generator.

python -m tfvae.project --model_dir=runs/cifar10_gan --split=test
python -m tfvae.project --model_dir=runs/cifar10_gan --images=pictures/

Writes a sheet, and a JSON file with each image's latent and errors. The same command gives the same files.
"""

import json
import math
import time

from absl import flags

from tfvae import command, config
from tfvae.scoring import extractors

MODEL_DIR = flags.DEFINE_string("model_dir", None, "Folder of a run of tfvae.train.")
IMAGES = flags.DEFINE_string(
    "images",
    None,
    "Folder or zip file of images, which are made square and resized as for training; or .npz file of the model's size.",
)
SPLIT = flags.DEFINE_string("split", None, "In its place: a split of the model's own dataset, such as test.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Where --split is read. Default: as in training.")
NUM_IMAGES = flags.DEFINE_integer("num_images", 16, "Images, which --seed chooses where there are more.", 1)
NUM_DRAWS = flags.DEFINE_integer("num_draws", 512, "Drawn latents; the descent begins at the nearest.", 1)
STEPS = flags.DEFINE_integer("steps", 200, "Steps of Adam on the latent; 0: the best draw alone.", 0)
LEARNING_RATE = flags.DEFINE_float(
    "learning_rate", 0.1, "Adam's at first, in standard deviations of drawn latents; it falls linearly to 0.", 0.0
)
FEATURE_WEIGHT = flags.DEFINE_float(
    "feature_weight",
    0.01,
    "Of the features' squared distance, in parts of their squared length, beside the mean squared error of pixels from 0 to 1; "
    "0: pixels alone, many times as fast.",
    0.0,
)
load_extractor = extractors.define_flags()
BATCH_SIZE = flags.DEFINE_integer("batch_size", 16, "Images that a replica works on at once.", 1)
SEED = flags.DEFINE_integer("seed", 0, "Of the draws, and of the choice of images.", 0)
OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Where the files go. Default: projections/ in the run's folder.")
OVERWRITE = flags.DEFINE_boolean("overwrite", False, "Replace files that are there.")
STRATEGY = flags.DEFINE_enum("strategy", "auto", ["auto", "one", "mirrored"], "auto: all GPUs of this machine.")

FILES = {"sheet": "projections.png", "errors": "projections.json"}


def check_flags():
    """({flag's name: path, or None where it is not given}, {of `FILES`: its path}). Raises: ValueError, UserError."""
    if not MODEL_DIR.value:
        raise ValueError("--model_dir is missing: expected the folder of a trained model, such as runs/shapes_gan.")
    if bool(IMAGES.value) == bool(SPLIT.value):
        what = "both are given" if SPLIT.value else "both are missing"
        raise ValueError(f"--images and --split: {what}. Expected one of them, the images to find latents of.")
    for flag in (LEARNING_RATE, FEATURE_WEIGHT):
        if not math.isfinite(flag.value):
            raise ValueError(f"--{flag.name}={flag.value}: expected a finite number, 0 or more.")
    places = (MODEL_DIR, IMAGES, DATA_DIR, OUTPUT_DIR)
    paths = {flag.name: command.path(flag.name, flag.value) if flag.value else None for flag in places}
    folder = paths["output_dir"] or paths["model_dir"] / "projections"
    files = {kind: folder / name for kind, name in FILES.items()}
    # A folder that is not there is no run, which says more than that nothing can be written into it.
    if paths["output_dir"] or paths["model_dir"].is_dir():
        command.refuse_to_overwrite(files.values(), "output_dir", OVERWRITE.value)
    return paths, files


command.start(__name__, check_flags)

import numpy as np

from tfvae.data import images, pipeline
from tfvae.data.split import batches_of, choose
from tfvae.drawing import projection, sheets
from tfvae.publishing import published, versions
from tfvae.scoring import protocol, reconstruction, sources
from tfvae.training import run
from tfvae.training import strategy as strategies

COLUMNS = 8  # of the sheet


def main(argv):
    with command.user_errors():
        started = time.monotonic()
        paths, files = check_flags()
        refuse_published(paths["model_dir"])
        strategy = strategies.make_strategy(config.Config(strategy=STRATEGY.value))
        with strategy.scope():
            result, rows = project(paths)
        command.write_whole(files["errors"], json.dumps(result, indent=2, ensure_ascii=False) + "\n")
        images.write_png(files["sheet"], sheets.above_each_other(rows, COLUMNS))
    for name, errors in result["mean"].items():
        shown = ", ".join(f"{error} {format(value, '.5g')}" for error, value in errors.items() if value is not None)
        print(f"  {name:<14} {shown}")
    print(f"{files['sheet']}  (from above: {', '.join(['image', *list(result['mean'])[1:]])})")
    print(f"{files['errors']}  ({time.monotonic() - started:.0f} s)")


def project(paths):
    """(what the JSON file holds, [uint8 [N, R, R, 3], …]: images, projections, reconstructions if there are)."""
    extractor = load_extractor()
    model = run.load_run(paths["model_dir"], replica_batch=BATCH_SIZE.value)
    split = load_images(paths, model)
    protocol.check_resolution(extractor, split)
    if FEATURE_WEIGHT.value and not projection.has_gradient(extractor, model.resolution):
        raise ValueError(
            f"{extractor.name} gives features without a gradient: expected --feature_weight=0, which projects by pixels alone, "
            "or another extractor."
        )
    print(split.summary, flush=True)
    rows = choose(split.num_images, NUM_IMAGES.value, SEED.value)
    real, labels = map(np.concatenate, zip(*labelled(batches_of(split, rows))))
    labels = labels_of_model(labels, split, paths, model)
    found = projection.project(
        model,
        extractor,
        real,
        labels,
        NUM_DRAWS.value,
        STEPS.value,
        LEARNING_RATE.value,
        FEATURE_WEIGHT.value,
        BATCH_SIZE.value,
        SEED.value,
    )
    latents = {"best_draw": found.drawn, "projection": found.latent}
    if model.encode:
        latents["reconstruction"] = model.encode(real)[0]
    pictures = {name: model.generate(latent, found.label) for name, latent in latents.items()}
    of_real = extractor(real)["features"]
    errors = {name: errors_of(real, drawn, of_real, extractor) for name, drawn in pictures.items()}
    per_image = [
        {
            "row": int(row),
            "label": int(found.label[place]) if model.num_classes else None,
            "errors": {name: {e: plain(v[place]) for e, v in some.items()} for name, some in errors.items()},
            "latent": found.latent[place].tolist(),
            "latent_rms": float(np.sqrt(np.mean(found.latent[place] ** 2))),
        }
        for place, row in enumerate(rows)
    ]
    result = {
        "source": model.facts,
        "images_of": {"dataset": split.dataset, "split": split.split, "fingerprint": split.fingerprint},
        "labels": None if not model.num_classes else "the images' own" if labels is not None else "the best draw's",
        "num_images": len(real),
        "num_draws": NUM_DRAWS.value,
        "steps": STEPS.value,
        "learning_rate": LEARNING_RATE.value,
        "feature_weight": FEATURE_WEIGHT.value,
        "seed": SEED.value,
        "extractor": {"name": extractor.name, "checksum": extractor.checksum, "preparation": extractor.preparation},
        "mean": {name: {e: plain(np.mean(v)) for e, v in some.items()} for name, some in errors.items()},
        "images": per_image,
    }
    return result, [real] + [pictures[name] for name in list(pictures)[1:]]


def refuse_published(path):
    """Raises a ValueError for a version that was published, or the folder of versions."""
    places = [path, *versions.numbered(path).values()]
    if not run.RunDirectory(path).config_file.is_file() and any((p / published.FACTS).is_file() for p in places):
        raise ValueError(
            f"--model_dir={path} is a published model, whose signatures give no gradients: expected the run that it was exported "
            "from."
        )


def load_images(paths, model):
    """The `Split` that the flags name, at the model's resolution."""
    if paths["images"] and paths["images"].suffix == ".npz":
        return sources.load_files(paths["images"], model.resolution, model.background).split
    if paths["images"]:
        return pipeline.load(f"folder:{paths['images']}", **model.preparation)
    data_dir = paths["data_dir"] or model.flags.get("data_dir")
    return pipeline.load(model.flags["dataset"], SPLIT.value, data_dir=data_dir, **model.preparation)


def labelled(batches):
    """The same batches, with zeros in the place of labels that there are not."""
    return ((image, np.zeros(len(image), np.int32) if label is None else label) for image, label in batches)


def labels_of_model(labels, split, paths, model):
    """The images' labels among the classes of the model's, by their names; None where it or they have none."""
    if not model.num_classes:
        return None
    names = list(run.RunDirectory(paths["model_dir"]).read_config()[1]["class_names"])
    if split.class_names and set(split.class_names) <= set(names):
        return np.array([names.index(name) for name in split.class_names], np.int32)[labels]
    print("The images have no labels of the model's classes: each gets the label of its best draw.", flush=True)
    return None


def errors_of(real, drawn, of_real, extractor):
    """{error: float [N]} of pictures, uint8 [N, R, R, 3]. of_real: the real images' features."""
    return {
        "squared_error": reconstruction.squared_error(real, drawn),
        "psnr": reconstruction.psnr(real, drawn),
        "feature_distance": projection.feature_distance(extractor(drawn)["features"], of_real).numpy(),
    }


def plain(value):
    """What JSON can hold: the infinite PSNR of equal pictures becomes null."""
    return float(value) if np.isfinite(value) else None


if __name__ == "__main__":
    command.run_command(main)

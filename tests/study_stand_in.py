"""Stands in for the commands that a study runs: leaves in moments what they leave, without processes and networks.

With a file fails-MODULE beside the folder of the images that says "PART: LINE", MODULE fails with LINE where its arguments hold
PART.
"""

import hashlib
import json
import pathlib

import numpy as np

from tfvae.scoring import calibration
from tfvae.studies import identity
from tfvae.studies.runner import Outcome

SPOILT = ("held-out images", *map(calibration.BLURRED.format, calibration.BLURS), calibration.NOISE)
ARRAYS = ("unselected", "best", "best_neighbours", "interpolations", "real", "reconstructed")


def identified(kind, folder):
    """In `Kind.identified`'s place, without a SavedModel."""
    try:
        return kind, checksum(folder)
    except OSError as error:
        raise ValueError(str(error)) from error


def checksum(folder):
    return hashlib.sha256((folder / "saved_model.pb").read_bytes()).hexdigest()


def images_of(flags):
    """Folder of the images: of `folder:PATH`, or --data_dir."""
    dataset = (
        flags.get("dataset") or json.loads((pathlib.Path(flags["model_dir"]) / "config.json").read_text())["dataset"]
    )
    return pathlib.Path(dataset.removeprefix("folder:") if dataset.startswith("folder:") else flags["data_dir"])


def fingerprint(folder, split="train"):
    content = b"".join(file.read_bytes() for file in sorted(folder.iterdir()))
    return hashlib.sha256(split.encode() + content).hexdigest()


def fingerprints(flags, images):
    found = {split: fingerprint(images, split) for split in ["train", *flags["splits"].split(",")]}
    identity.write(pathlib.Path(flags["output"]), identity.Data(str(images), identity.stamp_of(images), found))


def train_classifier(flags, images):
    output = pathlib.Path(flags["output_dir"])
    output.mkdir(parents=True)
    (output / "saved_model.pb").write_text(f"tells {fingerprint(images)} apart")
    (output / "classifier.json").write_text(json.dumps({"data_fingerprint": fingerprint(images)}))


def train(flags, images):
    folder = pathlib.Path(flags["model_dir"])
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / f"ckpt-{flags['train_images']}.index").touch()
    config = {"dataset": flags["dataset"], "data": {"num_images": 50_000, "fingerprint": fingerprint(images)}}
    (folder / "config.json").write_text(json.dumps(config))


def evaluate(flags, images):
    extractor = {"kind": "classifier", "name": "a classifier", "accuracy": 0.9, "preparation": "none"}
    extractor["checksum"] = checksum(pathlib.Path(flags["classifier_dir"]))
    split = flags.get("reference_split", "train")
    protocol = {"precision_and_recall_neighbours": 3, "density_and_coverage_neighbours": 5}
    values = {
        name: {"mean": 0.5, "std": 0.01} for name in ("frechet_classifier_distance", "precision", "recall", "coverage")
    }
    result = {
        "source": {"weights": "moving average", "split": flags.get("split", "")},
        "reference": {"dataset": "cats", "split": split, "images": 20, "fingerprint": fingerprint(images, split)},
        "num_images": 20,
        "seeds": [0],
        "protocol": protocol | {"extractor": extractor},
        "scores": values,
        "rows": [{"name": name, "scores": {}} for name in SPOILT],
    }
    output = pathlib.Path(flags["output"])
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result))


def exhibits(flags, images):
    pictures = {name: np.zeros([24 if name == "interpolations" else 12, 32, 32, 3], np.uint8) for name in ARRAYS}
    np.savez(flags["output"], facts=json.dumps({"drawn": 20, "data_fingerprint": fingerprint(images)}), **pictures)


COMMANDS = {
    "tfvae.studies.fingerprints": fingerprints,
    "tfvae.train_classifier": train_classifier,
    "tfvae.train": train,
    "tfvae.evaluate": evaluate,
    "tfvae.studies.exhibits": exhibits,
}


def run(runner, arguments, log_file, held, on_poll):
    """In `Runner.run`'s place."""
    _, _, module, *rest = arguments
    flags = dict(argument.removeprefix("--").split("=", 1) for argument in rest if "=" in argument)
    images = images_of(flags)
    fails = images.parent / f"fails-{module}"
    if fails.exists():
        part, line = fails.read_text().split(": ", 1)
        if part in " ".join(rest):
            return Outcome(1, 1.0, 1.0, line)
    COMMANDS[module](flags, images)
    return Outcome(0, 1.0, 1.0, "")

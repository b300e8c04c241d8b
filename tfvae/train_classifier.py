"""Trains a small classifier on a dataset's own labels: an extractor of scores that knows its classes and counts modes.

python -m tfvae.train_classifier --dataset=cifar10 --output_dir=runs/classifier_cifar10

A network of eight 3 x 3 convolutions with two residual blocks (after Page's ResNet-9, myrtle.ai, 2018), trained with SGD and
one cycle of the learning rate. The same command again resumes after the last whole epoch.
"""

import glob
import hashlib
import json
import os
import pathlib
import shutil

from absl import flags

from tfvae import command, config
from tfvae.data import datasets
from tfvae.scoring import saved_models

DATASET = flags.DEFINE_string("dataset", config.Config.dataset, datasets.flag_help())
DATA_DIR = flags.DEFINE_string("data_dir", None, "As tfvae.train's.")
RESOLUTION = flags.DEFINE_integer("resolution", None, "Pixels a side. Default: the dataset's own.", lower_bound=8)
BACKGROUND = flags.DEFINE_string(
    "background", config.Config.background, "Behind transparent images: a name or #rrggbb."
)
FIT = flags.DEFINE_enum(
    "fit", config.Config.fit, config.FITS, "How images that are not square become so, as tfvae.train's."
)
OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder of the SavedModel; must not be there yet.")
EPOCHS = flags.DEFINE_integer("epochs", None, "Passes over the training images. Default: by dataset.", lower_bound=1)
BASE_CHANNELS = flags.DEFINE_integer(
    "base_channels", None, "Width; features are 8 x. Default: by dataset.", lower_bound=1
)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 128, "Images per step, over all replicas.", lower_bound=1)
LEARNING_RATE = flags.DEFINE_float("learning_rate", 0.2, "The highest of the cycle.", lower_bound=0)
WEIGHT_DECAY = flags.DEFINE_float("weight_decay", 5e-4, "L2 penalty of the kernels, as a gradient.", lower_bound=0)
MIN_IMAGES = flags.DEFINE_integer("min_images", 20, "LFW: people with at least this many images.", lower_bound=2)
PRECISION = flags.DEFINE_enum("precision", "float32", ["float32", "mixed_bfloat16"], "Arithmetic of the network.")
SEED = flags.DEFINE_integer("seed", 0, "Of first values, order and augmentation.", lower_bound=0)
OVERWRITE = flags.DEFINE_boolean("overwrite", False, "Replace the classifier that is there.")


def check_flags():
    """(the classifier's folder, the data's folder or None). Raises: ValueError, UserError."""
    if not OUTPUT_DIR.value:
        raise ValueError("--output_dir is missing: expected the classifier's folder, such as runs/classifier_cifar10.")
    output = command.path("output_dir", OUTPUT_DIR.value)
    command.check_replaceable(output, "output_dir", saved_models.foreign_to_classifier, OVERWRITE.value)
    config.colour(BACKGROUND.value)
    return output, command.path("data_dir", DATA_DIR.value) if DATA_DIR.value else None


command.start(__name__, check_flags)

import keras
import tensorflow as tf

from tfvae.data import pipeline
from tfvae.scoring import channels, classifier
from tfvae.training import strategy as strategies


def main(argv):
    with command.user_errors():
        output, data_dir = check_flags()
        strategy = strategies.make_strategy(config.Config(seed=SEED.value, precision=PRECISION.value))
        strategies.check_batch_size(BATCH_SIZE.value, strategy)
        source = dict(data_dir=data_dir, resolution=RESOLUTION.value, background=BACKGROUND.value, fit=FIT.value)
        data = pipeline.load(DATASET.value, **source, streaming=False).fingerprint
        train, held_out = classifier.labelled_splits(DATASET.value, MIN_IMAGES.value, **source)
    # One object in each channel: a classifier of single channels.
    single = train.images.shape[-1] == 1
    learned = channels if single else classifier
    class_names = train.class_names + (channels.NONE,) * single
    recipe = datasets.record(DATASET.value).recipe
    epochs, base_channels = EPOCHS.value or recipe.epochs, BASE_CHANNELS.value or recipe.base_channels
    steps = max(1, train.num_images // BATCH_SIZE.value)
    settings = {
        "dataset": DATASET.value,
        "resolution": train.resolution,
        "background": BACKGROUND.value,
        "fit": FIT.value,
        "class_names": class_names,
        "single_channels": single,
        "train_images": train.num_images,
        "train_fingerprint": train.fingerprint,
        "data_fingerprint": data,  # of the whole training split: it does not depend on which of its images are learned
        "epochs": epochs,
        "base_channels": base_channels,
        "batch_size": BATCH_SIZE.value,
        "learning_rate": LEARNING_RATE.value,
        "weight_decay": WEIGHT_DECAY.value,
        "precision": PRECISION.value,
        "seed": SEED.value,
        "versions": {"tensorflow": tf.__version__, "keras": keras.__version__},
    }
    print(
        f"{DATASET.value}: {train.num_classes} classes, {train.num_images:,} images to train on, {held_out.num_images:,} held "
        f"out; {epochs} epochs of {steps} steps",
        flush=True,
    )
    with strategy.scope():
        network = classifier.make_network(
            train.resolution, len(class_names), base_channels, WEIGHT_DECAY.value, train.images.shape[-1]
        )
        network.compile(
            keras.optimizers.SGD(classifier.OneCycle(LEARNING_RATE.value, epochs * steps), momentum=0.9, nesterov=True),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            jit_compile=False,  # XLA's convolutions are slower on a CPU
        )
    # Other settings, another place: what they left cannot be resumed from.
    digest = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]
    place = pathlib.Path(os.path.realpath(output))
    backup = place.with_name(f".{place.name}.training-{digest}")
    network.fit(
        train.batches(BATCH_SIZE.value, SEED.value).map(learned.augment, tf.data.AUTOTUNE),
        epochs=epochs,
        steps_per_epoch=steps,
        shuffle=False,
        verbose=1 if os.isatty(1) else 2,
        callbacks=[keras.callbacks.BackupAndRestore(str(backup))],
    )
    accuracies = learned.accuracies(network, held_out)
    facts = settings | accuracies | {"held_out_images": held_out.num_images}
    with command.user_errors():
        classifier.save(learned.make_extractor(network), facts, output)
    for old in place.parent.glob(f".{glob.escape(place.name)}.training-*"):
        shutil.rmtree(old)
    accuracy = accuracies.pop("accuracy")
    others = "".join(f", {name} {value:.2%}" for name, value in accuracies.items())
    print(f"Done: {accuracy:.2%} of {held_out.num_images:,} held-out images classified correctly{others}.")
    print(f"Use it: --classifier_dir={output}")


if __name__ == "__main__":
    command.run_command(main)

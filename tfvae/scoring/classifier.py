"""A small classifier of a dataset's own labels: its images, its network, how it is saved. `tfvae.train_classifier` trains it."""

import json

import keras
import numpy as np
import tensorflow as tf

from tfvae.command import replace_folder
from tfvae.data import datasets, pipeline
from tfvae.networks import layers
from tfvae.scoring import saved_models

HELD_OUT_SHARE = 10  # one of so many images where there is no split for it


def labelled_splits(dataset, min_images=20, **source):
    """Images with the labels that the classifier learns: (`Split` to train on, `Split` held out).

    Labels are the dataset's own, or what its record makes of them. Held out is the dataset's held-out split; without one
    that has the same classes, a tenth of every class's images.

    Args:
        dataset: as `pipeline.load`'s. source: its data_dir, resolution and background.
        min_images: fewest images per class, where the record makes classes of more than the labels.

    Raises:
        ValueError: data without labels, or that does not fit in memory.
    """
    classes = datasets.record(dataset).classes

    def load(split):
        loaded = pipeline.load(dataset, split, **source, streaming=False)
        print(loaded.summary, flush=True)
        return classes(loaded, min_images) if classes else loaded

    train = load("train")
    if not train.num_classes:
        lacks = f"no class of {min_images} images or more" if classes else "no labels"
        raise ValueError(f"{dataset} has {lacks}: expected a dataset with classes to tell apart.")
    split = pipeline.held_out_split(dataset, data_dir=source.get("data_dir"))
    held_out = load(split) if split else None
    if held_out and held_out.class_names == train.class_names:
        return train, held_out
    # Every tenth of each class, in the data's own order.
    place = np.empty(train.num_images, np.int64)
    for label in range(train.num_classes):
        members = np.flatnonzero(train.labels == label)
        place[members] = np.arange(len(members))
    tenth = place % HELD_OUT_SHARE == HELD_OUT_SHARE - 1
    if tenth.all() or not tenth.any():
        raise ValueError(f"{dataset} has fewer than {HELD_OUT_SHARE} images in every class: too few to learn from.")
    return train.part(~tenth), train.part(tenth)


def augment(batch):
    """Mirrors half of the images, moves each by up to an eighth of its side and greys out a square of a quarter of it.

    Args:
        batch: {"image": uint8 [B, R, R, 3], "label": int32 [B]}.

    Returns:
        (uint8 [B, R, R, 3], the labels).
    """
    image = tf.image.random_flip_left_right(batch["image"])
    size, reach = image.shape[1], image.shape[1] // 8
    padded = tf.pad(image, [[0, 0], [reach, reach], [reach, reach], [0, 0]], "REFLECT")
    image = tf.map_fn(lambda one: tf.image.random_crop(one, [size, size, 3]), padded)
    # Cutout (DeVries and Taylor, arXiv 1708.04552); the square may hang over the edge.
    centre = tf.random.uniform([2, tf.shape(image)[0], 1], 0, size, tf.int32)
    rows, columns = (tf.abs(2 * (tf.range(size) - place) + 1) <= size // 4 for place in tf.unstack(centre))
    hidden = (rows[:, :, None] & columns[:, None, :])[..., None]
    return tf.where(hidden, tf.constant(128, tf.uint8), image), batch["label"]


def make_network(resolution, num_classes, base_channels, weight_decay=0.0, channels=3):
    """The classifier: uint8 [B, resolution, resolution, channels] -> logits [B, num_classes].

    Its layer `features`, [B, 8 * base_channels], is what the logits are a linear function of.
    """

    def convolution(x, width):
        regularizer = keras.regularizers.L2(weight_decay / 2)
        x = keras.layers.Conv2D(width, 3, padding="same", use_bias=False, kernel_regularizer=regularizer)(x)
        # Keras' own batch normalisation has no fused kernel: a step takes 1.35 times as long with it.
        return keras.layers.ReLU()(layers.BatchNorm(width)(x))

    def residual(x, width):
        return keras.layers.Add()([x, convolution(convolution(x, width), width)])

    image = keras.Input([resolution, resolution, channels], dtype="uint8", name="image")
    x = convolution(keras.layers.Rescaling(1 / 64, offset=-2.0)(image), base_channels)
    for width, with_residual in ((2, True), (4, False), (8, True)):
        x = keras.layers.MaxPooling2D()(convolution(x, width * base_channels))
        x = residual(x, width * base_channels) if with_residual else x
    # Maximum and not mean over places: Page's choice, a point better at few epochs. In float32, whatever the policy.
    pooled = keras.layers.GlobalMaxPooling2D(dtype="float32", name="features")(x)
    logits = keras.layers.Dense(num_classes, dtype="float32", name="logits")(pooled)
    return keras.Model(image, logits)


class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """Linear from 0 to `highest` in the first quarter of the steps, then linear to 0 (Smith and Topin, arXiv 1708.07120)."""

    def __init__(self, highest, steps):
        super().__init__()
        self.highest, self.steps = highest, steps

    def __call__(self, step):
        share = tf.cast(step, tf.float32) / self.steps
        return self.highest * tf.maximum(0.0, tf.minimum(4.0 * share, (1.0 - share) / 0.75))

    def get_config(self):
        return {"highest": self.highest, "steps": self.steps}


def make_extractor(network):
    """What is saved: {"logits", "features"} of an image, each the mean with its mirror image's.

    Mirrored twins then have the same features, and a few more images are classified correctly.
    """
    outputs = keras.Model(network.input, [network.output, network.get_layer("features").output])
    image = keras.Input(network.input_shape[1:], dtype="uint8", name="image")
    pairs = zip(outputs(image), outputs(keras.ops.flip(image, axis=2)))
    logits, pooled = (keras.layers.Average(dtype="float32")(list(pair)) for pair in pairs)
    return keras.Model(image, {"logits": logits, "features": pooled})


def accuracies(network, held_out):
    """{"accuracy": the share of held-out images that the extractor classifies correctly}."""
    logits = make_extractor(network).predict(held_out.images, batch_size=128, verbose=0)["logits"]
    return {"accuracy": float(np.mean(logits.argmax(axis=1) == held_out.labels))}


def save(extractor, facts, output):
    """Writes SavedModel and `classifier.json` beside, then renames. Raises: UserError: `output` may not be replaced."""
    with replace_folder(output, "output_dir", saved_models.foreign_to_classifier) as folder:
        extractor.export(str(folder), verbose=False)
        text = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
        (folder / saved_models.CLASSIFIER_FACTS).write_text(text, encoding="utf-8")

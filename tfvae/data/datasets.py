"""One record per dataset: everything that the rest of the project knows about it. Imports no TensorFlow.

A new dataset is a new record in `DATASETS`, and a TFDS builder where TensorFlow Datasets has none for it.
"""

import dataclasses
import hashlib
import os
import re
from collections.abc import Callable

from tfvae.data import lfw, shapes, stacked

FOLDER = "folder:"


@dataclasses.dataclass(frozen=True)
class Archive:
    """A file that a user can put into the data folder, so that nothing is downloaded.

    Attributes:
        file: its name.
        help: where to find it and how to recognise it.
        host: where TFDS downloads it otherwise; None: it cannot be downloaded.
    """

    file: str
    help: str
    host: str | None = None


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How a study scores all models of a dataset: drawn images against equally many reference images.

    Attributes:
        reference_split: the real images that drawn ones are compared with.
        held_out_split: real images outside of the reference, scored like drawn ones to calibrate; None: no such row.
        num_images: on each side.
    """

    reference_split: str = "train"
    held_out_split: str | None = None
    num_images: int = 10_000


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Width and length of the classifier that `tfvae.train_classifier` trains."""

    base_channels: int = 32
    epochs: int = 10


@dataclasses.dataclass(frozen=True)
class Dataset:
    """What is known about a dataset without reading it.

    Attributes:
        name: value of `--dataset`.
        title: its name for people, within a sentence.
        help: what it holds, in a few words.
        builder: its TFDS builder, if it is one of ours; all features that it declares are kept in memory. None: TFDS's
            own by name.
        archive: the file that it can be, or has to be, prepared from; None: TFDS downloads what it needs.
        resolution: side in px of the images that are trained on; None: as stored.
        held_out_splits: the first of these that the data has is kept out of training.
        protocol: how a study scores its models.
        recipe: of its classifier.
        classes: function of a `Split` in memory and of the fewest images per class -> the `Split` with the labels that
            its classifier learns; None: its own labels.
        source: TFDS dataset that its builder makes it from, which is prepared first; None: it needs none.
        config: of its builder's configurations, if it has some: all after the first are called NAME/CONFIG.
        frequencies: function of that configuration -> float64 [1000], how frequent each mode is, where each image has one
            object in each channel and the kinds of the three are its mode; else None.
        counts_modes: whether its classifier's classes are all the modes that there are, so that a study counts them.
        cpu_images: real images that each experiment of a study sees with `--scale=cpu`.
    """

    name: str
    title: str
    help: str
    builder: type | None = None
    archive: Archive | None = None
    resolution: int | None = None
    held_out_splits: tuple[str, ...] = ("test", "validation")
    protocol: Protocol = Protocol()
    recipe: Recipe = Recipe()
    classes: Callable | None = None
    source: str | None = None
    config: str | None = None
    frequencies: Callable | None = None
    counts_modes: bool = False
    # A multiple of 1,600, so whole steps of every recipe: 1 to 5 discriminator steps of 32 images, 10 steps per call.
    cpu_images: int = 80_000

    @property
    def folder(self):
        """PATH of `folder:PATH`; None for all others."""
        return self.name.removeprefix(FOLDER) if self.name.startswith(FOLDER) else None

    @property
    def mode_frequencies(self):
        """float64 [1000] of a dataset with one object in each channel; None for all others."""
        return self.frequencies and self.frequencies(self.config)

    @property
    def slug(self):
        """The name as a part of file names. A folder's holds a hash of its place: another `cats` is other data."""
        name = self.name
        if self.folder is not None:
            path = os.path.abspath(os.path.expanduser(self.folder))
            name = f"folder_{os.path.basename(path)}_{hashlib.sha256(path.encode()).hexdigest()[:8]}"
        return re.sub(r"[^\w.-]", "_", name)


DATASETS = {
    record.name: record
    for record in (
        Dataset(
            name="cifar10",
            title="CIFAR-10",
            help="50,000 photographs in ten classes, 32 px",
            archive=Archive(
                file="cifar-10-binary.tar.gz",
                help="it has 170,052,171 bytes and MD5 c32a1d4ab5d03f1284b67883e8d87530; its host "
                "https://www.cs.toronto.edu/~kriz/cifar.html is slow, and the copies on mirrors (Hugging Face "
                "uoft-cs/cifar10, Zenodo) are mostly other packagings: cifar-10-python.tar.gz has MD5 "
                "c58f30108f718f92721af3b95e74349a and is not read here",
                host="www.cs.toronto.edu",
            ),
            resolution=32,
            protocol=Protocol("train", "test", 10_000),
            recipe=Recipe(base_channels=32, epochs=16),
            cpu_images=160_000,
        ),
        Dataset(
            name="lfw",
            title="LFW",
            help=f"13,033 faces without labels, 45 px, from {lfw.ARCHIVE} in --data_dir",
            builder=lfw.LfwDeepfunneled,
            archive=Archive(file=lfw.ARCHIVE, help=lfw.WHERE_TO_FIND),
            resolution=lfw.RESOLUTION,
            # Its 200 held-out images are too few to compare with: half of the training images is the reference, the
            # other half calibrates.
            protocol=Protocol("train[:50%]", "train[50%:]", 6_500),
            recipe=Recipe(base_channels=24, epochs=30),
            classes=lfw.identities,
        ),
        Dataset(
            name="shapes",
            title="shapes",
            help="20,000 drawings of ten shapes in eight hues, 32 px, made on this machine",
            builder=shapes.Shapes,
            resolution=shapes.RESOLUTION,
            protocol=Protocol("train", "test", 4_000),
            recipe=Recipe(base_channels=16, epochs=3),
            classes=shapes.modes,
            counts_modes=True,
        ),
        *(
            Dataset(
                name=name,
                title=title,
                help=f"{words} in each colour channel: 1,000 known modes, 32 px, no labels; {name}/zipf: frequencies by "
                "Zipf's law",
                builder=builder,
                resolution=stacked.RESOLUTION,
                protocol=Protocol("train", "test", 26_000),
                recipe=Recipe(base_channels=8, epochs=4),
                classes=builder.single_channels,
                source=source,
                config=stacked.UNIFORM,
                frequencies=stacked.frequencies,
            )
            for name, title, words, builder, source in (
                ("stacked_shapes", "stacked shapes", "a white shape", stacked.StackedShapes, None),
                ("stacked_mnist", "stacked MNIST", "a digit of MNIST", stacked.StackedMnist, "mnist"),
            )
        ),
    )
}


def record(name):
    """The record of any value of `--dataset`; of names that are not in `DATASETS`, one made from the name."""
    if name in DATASETS:
        return DATASETS[name]
    base, _, config = name.partition("/")
    if base in DATASETS and DATASETS[base].config and config in stacked.CONFIGS:
        one = DATASETS[base]
        return dataclasses.replace(one, name=name, title=f"{one.title} ({config})", config=config)
    if name.startswith(FOLDER):
        path = name.removeprefix(FOLDER)
        return Dataset(name, f"the folder {path}", "images of the user's own", held_out_splits=())
    return Dataset(name, name, "an image dataset of TensorFlow Datasets")


def choices():
    """What `--dataset` can be, for messages."""
    return f"{', '.join(DATASETS)}, {FOLDER}PATH or the name of another image dataset of TensorFlow Datasets"


def flag_help():
    """What `--dataset` can be, each with what it holds, for `--help`."""
    own = "".join(f"{one.name} ({one.help}), " for one in DATASETS.values())
    return f"{own}{FOLDER}PATH (your own images; sub-folders are classes) or the name of another TFDS image dataset."

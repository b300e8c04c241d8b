"""`stacked_shapes` and `stacked_mnist`: images whose 1,000 modes are known, one of ten kinds of object in each channel.

Three digits of MNIST in the three colour channels are the field's standard test of mode dropping: 1,000 modes, 26,000
drawn images, each channel classified by a classifier of single digits (the page of VEEGAN's authors, akashgit.github.io/VEEGAN;
the code of PacGAN, github.com/fjxmlzn/PacGAN). Here the digits are padded to 32 px, held-out images are of MNIST's test
digits, and beside equally frequent modes (`uniform`) there are frequencies by Zipf's law (`zipf`), in which the r-th mode
is r times rarer than the first. No model gets labels.

The bytes are the same on every machine: as in `shapes`, random numbers are whole numbers made of raw words of Philox, and
MNIST's digits are taken in the order of their bytes, whatever the order of the files that they come in.
"""

import abc
import dataclasses

import numpy as np
import tensorflow_datasets as tfds

from tfvae.data import shapes
from tfvae.data.errors import DataError

RESOLUTION = 32
NUM_IMAGES = {"train": 50_000, "test": 26_000}
NUM_KINDS = 10
NUM_MODES = NUM_KINDS**3
UNIFORM, ZIPF = "uniform", "zipf"
CONFIGS = {UNIFORM: "All modes are equally frequent.", ZIPF: "Frequencies by Zipf's law of exponent 1."}

_KEYS = {"train": 0x5851F42D, "test": 0x14057B7E}
_ORDER_KEY = 0x2545F491
_CHUNK = 1000


def mode_weights(config):
    """How frequent each mode is: int64 [1000], a frequency but for their sum. Mode 100 a + 10 b + c: kinds a, b, c by channel."""
    if config == UNIFORM:
        return np.ones(NUM_MODES, np.int64)
    weights = np.empty(NUM_MODES, np.int64)
    order = np.argsort(np.random.Philox(key=_ORDER_KEY).random_raw(NUM_MODES), kind="stable")
    weights[order] = 2**40 // np.arange(1, NUM_MODES + 1)
    return weights


def frequencies(config):
    """Each mode's share of all images: float64 [1000], in the order of `mode_weights`."""
    weights = mode_weights(config)
    return weights / weights.sum()


def drawn_kinds(config, split, number):
    """Which kind of object each channel holds, and further random words.

    Args:
        config: `UNIFORM` or `ZIPF`. split: of `NUM_IMAGES`. number: of images, the first of the split.

    Returns:
        (int64 [number, 3], 0 to 9; int64 [number, 3, 4], 0 to 2**32 - 1: four for each channel).
    """
    words = np.random.Philox(key=_KEYS[split]).random_raw(number * 16).reshape(number, 16)
    bounds = np.cumsum(mode_weights(config))
    # Without the highest bit a word is an exact int64; the remainder's unevenness is below 1 in a million.
    place = (words[:, 0] >> np.uint64(1)).astype(np.int64) % bounds[-1]
    kinds = np.stack(np.unravel_index(np.searchsorted(bounds, place, side="right"), (NUM_KINDS,) * 3), axis=1)
    return kinds, (words[:, 4:] >> np.uint64(32)).astype(np.int64).reshape(number, 3, 4)


class Stacked(tfds.core.GeneratorBasedBuilder):
    """One object in each colour channel; `kinds` says of which of ten kinds each is. Subclasses draw the objects."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name, description=words) for name, words in CONFIGS.items()]
    KIND_NAMES = ()
    FACTORS = {}  # {name: dtype} of what else is known about each channel's object

    @abc.abstractmethod
    def _objects(self, split, kinds, words):
        """(uint8 [n, 3, 32, 32], {name of `FACTORS`: [n, 3]}) of what `drawn_kinds` gives for n images."""

    @classmethod
    def single_channels(cls, split, min_images):
        """Single channels of the images, no picture twice, labelled by kind; equally many of each kind, at most one per image.

        Args:
            split: `Split` of this dataset, in memory.
            min_images: of no use here.

        Returns:
            `Split` with images uint8 [n, 32, 32, 1] and ten classes.
        """
        pictures = np.moveaxis(split.images, -1, 1).reshape(-1, split.resolution**2)
        # In the data's own order: that of their bytes begins with those that lie low in the image.
        first = np.sort(np.unique(pictures.view(f"V{pictures.shape[1]}")[:, 0], return_index=True)[1])
        labels = split.factors["kinds"].reshape(-1).astype(np.int32)
        of_kind = [first[labels[first] == kind] for kind in range(NUM_KINDS)]
        number = min(split.num_images // NUM_KINDS, *map(len, of_kind))
        kept = np.sort(np.concatenate([places[:number] for places in of_kind]))
        return dataclasses.replace(
            split,
            num_images=len(kept),
            num_classes=NUM_KINDS,
            class_names=cls.KIND_NAMES,
            images=pictures[kept].reshape(-1, split.resolution, split.resolution, 1),
            labels=labels[kept],
            factors={},
            encoded=None,
        )

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(RESOLUTION, RESOLUTION, 3), encoding_format="png"),
            # No ClassLabel: these are no labels that a model may get.
            "kinds": tfds.features.Tensor(shape=(3,), dtype=np.uint8),
        }
        features |= {name: tfds.features.Tensor(shape=(3,), dtype=dtype) for name, dtype in self.FACTORS.items()}
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split, number) for split, number in NUM_IMAGES.items()}

    def _generate_examples(self, split, number):
        kinds, words = drawn_kinds(self.builder_config.name, split, number)
        for start in range(0, number, _CHUNK):
            rows = slice(start, start + _CHUNK)
            objects, factors = self._objects(split, kinds[rows], words[rows])
            known = {"image": np.moveaxis(objects, 1, -1), "kinds": kinds[rows].astype(np.uint8)} | factors
            for offset in range(len(objects)):
                yield start + offset, {name: values[offset] for name, values in known.items()}


class StackedShapes(Stacked):
    """White shapes on black, of the ten kinds of `shapes`, size, place and rotation varied; drawn by the project."""

    KIND_NAMES = shapes.SHAPE_NAMES
    FACTORS = dict.fromkeys(("size", "x", "y", "rotation"), np.float32)

    def _objects(self, split, kinds, words):
        factors = shapes.placed(words)
        covered = shapes.coverage(kinds.reshape(-1), **{name: values.reshape(-1) for name, values in factors.items()})
        return np.floor(255.0 * covered + 0.5).astype(np.uint8).reshape(-1, 3, RESOLUTION, RESOLUTION), factors


class StackedMnist(Stacked):
    """Digits of MNIST, padded from 28 to 32 px: training images of its training digits, test images of its test digits."""

    KIND_NAMES = tuple(str(digit) for digit in range(NUM_KINDS))
    FACTORS = {"digit": np.int32}  # which of the digits of its kind it is, in the order of their bytes
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Give the folder of MNIST as TFDS prepares it, such as mnist/3.0.1."

    def _split_generators(self, dl_manager):
        source = tfds.builder_from_directory(dl_manager.manual_dir)
        self._digits = {split: _digits_by_kind(source, split) for split in NUM_IMAGES}
        return super()._split_generators(dl_manager)

    def _objects(self, split, kinds, words):
        of_kind = self._digits[split]
        digit = words[..., 0] % np.array([len(digits) for digits in of_kind])[kinds]
        chosen = [of_kind[kind][place] for kind, place in zip(kinds.reshape(-1), digit.reshape(-1))]
        padded = np.pad(np.stack(chosen), [(0, 0), (2, 2), (2, 2)])
        return padded.reshape(-1, 3, RESOLUTION, RESOLUTION), {"digit": digit.astype(np.int32)}


def _digits_by_kind(source, split):
    """[uint8 [n, 28, 28] of each digit from 0 to 9], in the order of their bytes."""
    examples = list(tfds.as_numpy(source.as_dataset(split=split, shuffle_files=False)))
    images = np.stack([example["image"][..., 0] for example in examples])
    labels = np.array([example["label"] for example in examples])
    missing = sorted(set(range(NUM_KINDS)) - set(labels.tolist()))
    if missing or images.shape[1:] != (28, 28):
        raise DataError(
            f"{source.data_dir} is not MNIST: its {split} images are {list(images.shape[1:])} and lack the digits {missing}; "
            "expected 28 x 28 px and all ten digits"
        )
    return [np.stack(sorted(images[labels == kind], key=lambda image: image.tobytes())) for kind in range(NUM_KINDS)]

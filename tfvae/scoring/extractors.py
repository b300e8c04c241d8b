"""Extractors: networks that make features, and mostly logits, of uint8 images; one record for each kind.

No score is ever computed with one extractor in place of another: a score depends on its extractor as much as on the images. To
add a kind, write the function that loads it and add its record to `EXTRACTORS`: commands then take it by --extractor. TensorFlow
is imported when an extractor is loaded.
"""

import collections.abc
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import tempfile

import numpy as np
from absl import flags

from tfvae import command

INCEPTION_LOGITS, INCEPTION_FEATURES = 1008, 2048
CLASSIFIER_FACTS = "classifier.json"
# What lies in a classifier's folder.
CLASSIFIER_FILES = {CLASSIFIER_FACTS, "saved_model.pb", "fingerprint.pb", "variables", "assets"}


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of extractor.

    Attributes:
        name: as --extractor has it and `scores.json` holds it. title: for people.
        load: (its `Kind`, folder or None) -> `Extractor`; raises a ValueError of one line.
        weights: how to get its weights, for people. licence: of weights that are others', an SPDX name; "": of our own.
        flag: the one that names its folder, without dashes; None: it needs no folder.
        value_range: what pixels from 0 to 255 are scaled to; None: they stay uint8, and the network scales them itself.
        side: px to which images are then resized; None: they keep their size.
        resizer: method of `tf.image.resize`. antialias: whether it smoothes first where images become smaller.
        has_papers_names: its scores have the names of the papers: Inception score, FID, KID. TF-GAN's Inception alone.
        knows_classes: its logits are of the dataset's own classes, so that modes can be counted.
        replica_batch: images per call and replica, always as many: a network's last bits depend on the batch.
    """

    name: str
    title: str
    load: collections.abc.Callable
    weights: str
    licence: str = ""
    flag: str | None = None
    value_range: tuple[float, float] | None = None
    side: int | None = None
    resizer: str = "bilinear"
    antialias: bool = False
    has_papers_names: bool = False
    knows_classes: bool = False
    replica_batch: int = 100

    @property
    def preparation(self):
        """What is done to images first, for people: another preparation gives other scores."""
        parts = []
        if self.value_range:
            parts.append("to [{:g}, {:g}]".format(*self.value_range))
        if self.side:
            parts.append(f"{self.resizer} to {self.side} px, {'' if self.antialias else 'not '}antialiased")
        return ", then ".join(parts) or "none: the images' own size, scaled inside"

    def prepare(self, images):
        """The same, of a tensor: uint8 [N, H, W, 3] -> what the network takes."""
        import tensorflow as tf

        if self.value_range:
            low, high = self.value_range
            images = tf.cast(images, tf.float32) / (255.0 / (high - low)) + low
        if self.side:
            images = tf.image.resize(images, [self.side] * 2, self.resizer, antialias=self.antialias)
        return images


@dataclasses.dataclass(frozen=True, eq=False)
class Extractor:
    """A network that makes features and logits of images; call it.

    Attributes:
        kind: `Kind`.
        name: for people: the kind and what it was trained on.
        checksum: of everything that its outputs depend on beside the images and their preparation, hex.
        run: function of a tensor, uint8 [N, H, W, 3] -> {"features": float32 [N, D]} and, where it has some, {"logits": [N, K]};
            a classifier of single channels gives {"kinds": [N, 3]} in their place, the number of its answer for each.
        resolution: side in px of the images that it takes; None: any.
        class_names: of its logits; empty where unknown.
        dataset: whose labels it tells apart; None: of no dataset of ours.
        accuracy: on that dataset's held-out images, or None.
    """

    kind: Kind
    name: str
    checksum: str
    run: collections.abc.Callable = dataclasses.field(repr=False)
    resolution: int | None = None
    class_names: tuple[str, ...] = ()
    dataset: str | None = None
    accuracy: float | None = None

    @property
    def preparation(self):
        return self.kind.preparation

    def __call__(self, images):
        """Logits and features, over the replicas of the strategy in whose scope it was loaded.

        Args:
            images: uint8 [N, H, W, 3], array or tensor; H = W = `resolution` unless that is None.

        Returns:
            {"features": float32 [N, D]} and, where it has some, {"logits": float32 [N, K]}, NumPy arrays.

        Raises:
            ValueError: images of another size or type.
        """
        from tfvae.data.replicas import over_replicas

        images = np.asarray(images)
        check_images(images, self.resolution)
        return over_replicas(self.run, self.kind.replica_batch, images)


def check_images(images, resolution=None):
    """Raises a ValueError of one line unless `images` are uint8 [N, H, W, 3], N > 0, of `resolution` px a side."""
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8 or not len(images):
        raise ValueError(f"images are {images.dtype} {list(images.shape)}: expected uint8 [N, H, W, 3], N 1 or more.")
    if resolution and images.shape[1:3] != (resolution, resolution):
        raise ValueError(
            f"images are {images.shape[1]} x {images.shape[2]} px and the extractor takes {resolution} x {resolution}: "
            "expected one size; a classifier is trained for one dataset at one resolution."
        )


def define_flags():
    """Defines --extractor and the flags of extractors' folders, and returns a function that loads the extractor they name."""
    flags.disclaim_key_flags()  # so that --help shows them under the command
    names = ", ".join(EXTRACTORS)
    chosen = flags.DEFINE_string("extractor", None, f"One of {names}. Default: the one whose folder is given.")
    folders = {}
    for kind in EXTRACTORS.values():
        if kind.flag:
            licence = f" ({kind.licence})" if kind.licence else ""
            text = f"Folder of the extractor {kind.title}{licence}: {kind.weights}."
            folders[kind.flag] = flags.DEFINE_string(kind.flag, None, text)
    return lambda: load(chosen.value, **{name: folder.value for name, folder in folders.items()})


def load(name=None, **folders):
    """An extractor, ready for use; call it in the strategy's scope.

    Args:
        name: of `EXTRACTORS`; None: the one whose folder is given.
        folders: {a kind's `flag`: its folder, or None}.

    Raises:
        ValueError: none or several are asked for, or it cannot be loaded.
    """
    if name is not None and name not in EXTRACTORS:
        raise ValueError(f"--extractor={name}: expected one of {', '.join(EXTRACTORS)}.")
    by_flag = {kind.flag: kind for kind in EXTRACTORS.values() if kind.flag}
    given = {f"--{flag}": by_flag[flag] for flag, folder in folders.items() if folder}
    if name is not None:
        others = {flag: kind for flag, kind in given.items() if kind.name != name}
        given = {f"--extractor={name}": EXTRACTORS[name]} | others
    if len(given) != 1:
        asked = f"{'both' if len(given) == 2 else 'all'} of {' and '.join(given)}"
        asked = asked if given else f"none of {' and '.join(f'--{flag}' for flag in by_flag)}"
        raise ValueError(
            f"{asked} given: expected one, the network whose features are compared; scores by different networks do not compare."
        )
    (kind,) = given.values()
    folder = folders.get(kind.flag)
    if kind.flag and not folder:
        raise ValueError(f"--{kind.flag} is missing: expected the folder of --extractor={name}; {kind.weights}.")
    return kind.load(kind, folder)


def load_inception(kind, folder):
    """TF-GAN's Inception from a folder.

    Its preparation, in that order and with that resizer, is that of TF-GAN's own example for CIFAR (`examples/cifar/util.py`);
    another resizer gives other distances.

    Args:
        folder: of the SavedModel, called or by its signature: float32 [N, 299, 299, 3] -> `logits` [N, 1008] and `pool_3`
            [N, 2048] (also [N, 1, 1, 2048]).

    Raises:
        ValueError: no SavedModel is there, or it lacks one of the two outputs.
    """
    import tensorflow as tf

    path = _saved_model(kind, folder)
    network = _load(path)
    call = network if callable(network) else _signature(path, network)

    @tf.function
    def run(images):
        outputs = call(kind.prepare(images))
        _require(path, outputs, {"logits": INCEPTION_LOGITS, "pool_3": INCEPTION_FEATURES})
        features = tf.reshape(outputs["pool_3"], [-1, INCEPTION_FEATURES])
        return {"logits": outputs["logits"], "features": features}

    return _tried(path, Extractor(kind, kind.title, checksum(path), run))


def load_classifier(kind, folder):
    """A classifier of `tfvae.train_classifier`.

    Args:
        folder: of its SavedModel, with `logits` and `features`, and `classifier.json`.

    Raises:
        ValueError: no such SavedModel is there, or it lacks one of the two outputs.
    """
    import tensorflow as tf

    path = _saved_model(kind, folder)
    try:
        facts = json.loads((path / CLASSIFIER_FACTS).read_text(encoding="utf-8"))
        dataset, resolution, class_names = facts["dataset"], facts["resolution"], tuple(facts["class_names"])
        accuracy = facts["accuracy"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is no classifier: {CLASSIFIER_FACTS} cannot be read ({error}); {kind.weights}."
        ) from error
    call = _signature(path, _load(path))

    @tf.function
    def run(images):
        outputs = call(kind.prepare(images))
        _require(path, outputs, {"logits": len(class_names), "features": None})
        if facts.get("single_channels"):
            return {"features": outputs["features"], "kinds": tf.argmax(outputs["logits"], -1, tf.int32)}
        return {name: outputs[name] for name in ("logits", "features")}

    name = f"{kind.title} of {dataset}"
    return _tried(path, Extractor(kind, name, checksum(path), run, resolution, class_names, dataset, accuracy))


EXTRACTORS = {
    kind.name: kind
    for kind in (
        Kind(
            "inception",
            "TF-GAN Inception",
            load_inception,
            weights="unpack https://www.kaggle.com/models/tensorflow/inception/TensorFlow1/tfgan-eval-inception/1 (a .tar.gz "
            "with saved_model.pb and variables/) into a folder and name it",
            licence="Apache-2.0",
            flag="inception_dir",
            value_range=(-1.0, 1.0),
            side=299,
            has_papers_names=True,
            replica_batch=25,
        ),
        Kind(
            "classifier",
            "classifier",
            load_classifier,
            weights="make one with python -m tfvae.train_classifier --dataset=… and name its folder",
            flag="classifier_dir",
            knows_classes=True,
        ),
    )
}


def checksum(path):
    """SHA-256 (hex) of a SavedModel: of the names and contents of the files that its outputs depend on."""
    digest = hashlib.sha256()
    path = pathlib.Path(path)
    files = [path / "saved_model.pb", *sorted(f for part in ("variables", "assets") for f in (path / part).glob("*"))]
    for file in files:
        digest.update(f"{file.relative_to(path).as_posix()} {file.stat().st_size}\n".encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def foreign_to_classifier(folder):
    """Names of what lies in a folder and is not of a classifier: all of them where no classifier is there."""
    names = set(os.listdir(folder))
    return names - CLASSIFIER_FILES if CLASSIFIER_FACTS in names else names


def _saved_model(kind, folder):
    path = command.path(kind.flag, folder)
    if not (path / "saved_model.pb").is_file():
        raise ValueError(f"--{kind.flag}={path}: there is no saved_model.pb; {kind.weights}.")
    return path


def _load(path):
    import tensorflow as tf

    try:
        if not re.search(r"[\[\]*?\\]", str(path.absolute())):
            return tf.saved_model.load(str(path))
        # Through a link: TensorFlow takes such a path for a pattern, and finds no variables.
        with tempfile.TemporaryDirectory() as folder:
            link = pathlib.Path(folder) / "model"
            link.symlink_to(path.absolute())
            return tf.saved_model.load(str(link))
    except (tf.errors.OpError, OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path} cannot be loaded ({' '.join(str(error).split())[:200]}): copy it anew.") from error


def _signature(path, network):
    signatures = getattr(network, "signatures", {})
    # TF1 modules name it `default`.
    for name in ("serving_default", "default"):
        if name in signatures:
            signature = signatures[name]
            _, inputs = signature.structured_input_signature
            if len(inputs) == 1:
                (argument,) = inputs
                # `kept`: signatures hold their network's variables weakly.
                return lambda images, kept=network: signature(**{argument: images})
    raise ValueError(f"{path} is no extractor: expected a signature serving_default with one input, the images.")


def _require(path, outputs, widths):
    outputs = outputs if isinstance(outputs, dict) else {}
    for name, width in widths.items():
        found = outputs[name].shape[-1] if name in outputs else None
        if found is None or (width and found != width):
            given = ", ".join(f"{key} {list(value.shape)}" for key, value in outputs.items()) or "no names"
            size = f" of width {width}" if width else ""
            raise ValueError(f"{path} is no extractor: expected an output {name}{size}, found {given}.")


def _tried(path, extractor):
    """The extractor, run once on a black image: one that lacks an output is refused here and not after minutes of drawing."""
    import tensorflow as tf

    side = extractor.resolution or extractor.kind.side
    try:
        extractor(np.zeros([1, side, side, 3], np.uint8))
    except (tf.errors.OpError, TypeError, ValueError) as error:
        line = " ".join(str(error).split())
        if " is no extractor: " in line:
            # TensorFlow wraps what `_require` says.
            line = f"{path} is no extractor: " + line.split(" is no extractor: ")[1]
        else:
            line = f"{path} cannot be run on images ({line[:200]}): expected an extractor's SavedModel."
        raise ValueError(line) from error
    return extractor

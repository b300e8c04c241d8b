"""Extractors: uint8 images to logits and features, by a network that lies on the disk as a SavedModel.

An extractor is one of two kinds, and no score is ever computed with one in place of the other: *inception*, TF-GAN's module,
whose scores have the names that papers use; *classifier*, what `tfvae.train_classifier` made of a dataset's own labels.
"""

import dataclasses
import hashlib
import json
import pathlib

import numpy as np
import tensorflow as tf

from tfvae.data.replicas import over_replicas

INCEPTION_SIDE = 299
INCEPTION_LOGITS, INCEPTION_FEATURES = 1008, 2048
WHERE_TO_FIND_INCEPTION = (
    "unpack https://www.kaggle.com/models/tensorflow/inception/TensorFlow1/tfgan-eval-inception/1 (a .tar.gz with saved_model.pb "
    "and variables/) into a folder and name it"
)
CLASSIFIER_FACTS = "classifier.json"
# One shape for every call: a network's last bits depend on the batch it runs in.
REPLICA_BATCH = {"inception": 25, "classifier": 100}


@dataclasses.dataclass(frozen=True, eq=False)
class Extractor:
    """A network that makes logits and features of images; call it.

    Attributes:
        kind: "inception" or "classifier".
        name: for people: the kind and what it was trained on.
        checksum: SHA-256 (hex) of the SavedModel's files.
        preparation: how images are resized and scaled first.
        resolution: side in px that it takes; None: any, it is resized.
        class_names: of its logits; empty where unknown.
        dataset: whose labels it tells apart; None for Inception.
        accuracy: on that dataset's held-out images; None for Inception.
    """

    kind: str
    name: str
    checksum: str
    preparation: str
    resolution: int | None
    class_names: tuple[str, ...]
    dataset: str | None
    accuracy: float | None
    run: object = dataclasses.field(repr=False)

    def __call__(self, images):
        """Logits and features, over the replicas of the strategy in whose scope it was loaded.

        Args:
            images: uint8 [N, H, W, 3], array or tensor; H = W = `resolution` unless that is None.

        Returns:
            {"logits": float32 [N, K], "features": float32 [N, D]}, NumPy arrays.

        Raises:
            ValueError: images of another size or type.
        """
        images = np.asarray(images)
        check_images(images, self.resolution)
        return over_replicas(self.run, REPLICA_BATCH[self.kind], images)


def check_images(images, resolution=None):
    """Raises a ValueError of one line unless `images` are uint8 [N, H, W, 3], N > 0, of `resolution` px a side."""
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8 or not len(images):
        raise ValueError(f"images are {images.dtype} {list(images.shape)}: expected uint8 [N, H, W, 3], N 1 or more.")
    if resolution and images.shape[1:3] != (resolution, resolution):
        raise ValueError(
            f"images are {images.shape[1]} x {images.shape[2]} px and the extractor takes {resolution} x {resolution}: "
            "expected one size; a classifier is trained for one dataset at one resolution."
        )


def load(inception_dir, classifier_dir):
    """The extractor that the flags of these names ask for. Raises: ValueError."""
    if bool(inception_dir) == bool(classifier_dir):
        raise ValueError(
            f"{'both' if inception_dir else 'none'} of --inception_dir and --classifier_dir given: expected one, the "
            "network whose features are compared; scores by different networks do not compare."
        )
    return load_inception(inception_dir) if inception_dir else load_classifier(classifier_dir)


def load_inception(path):
    """TF-GAN's Inception from a folder; images are scaled to [-1, 1], then resized to 299 px, bilinear, not antialiased.

    That order and that resizer are those of TF-GAN's own example for CIFAR (`examples/cifar/util.py`); another resizer gives
    other distances.

    Args:
        path: folder of the SavedModel, called or by its signature: float32 [N, 299, 299, 3] -> `logits` [N, 1008] and
            `pool_3` [N, 2048] (also [N, 1, 1, 2048]).

    Raises:
        ValueError: no SavedModel is there, or it lacks one of the two outputs.
    """
    path = _saved_model(path, "--inception_dir", WHERE_TO_FIND_INCEPTION)
    network = _load(path)
    call = network if callable(network) else _signature(path, network)

    @tf.function
    def run(images):
        images = tf.image.resize(tf.cast(images, tf.float32) / 127.5 - 1.0, [INCEPTION_SIDE] * 2, "bilinear")
        outputs = call(images)
        _require(path, outputs, {"logits": INCEPTION_LOGITS, "pool_3": INCEPTION_FEATURES})
        features = tf.reshape(outputs["pool_3"], [-1, INCEPTION_FEATURES])
        return {"logits": outputs["logits"], "features": features}

    extractor = Extractor(
        kind="inception",
        name="TF-GAN Inception",
        checksum=checksum(path),
        preparation=f"to [-1, 1], then bilinear to {INCEPTION_SIDE} px, not antialiased",
        resolution=None,
        class_names=(),
        dataset=None,
        accuracy=None,
        run=run,
    )
    return _tried(extractor, path, INCEPTION_SIDE)


def load_classifier(path):
    """A classifier of `tfvae.train_classifier`.

    Args:
        path: its folder: a SavedModel with `logits` and `features` and `classifier.json`.

    Raises:
        ValueError: no such SavedModel is there, or it lacks one of the two outputs.
    """
    make = "make one with python -m tfvae.train_classifier --dataset=… and name its folder"
    path = _saved_model(path, "--classifier_dir", make)
    try:
        facts = json.loads((path / CLASSIFIER_FACTS).read_text())
        dataset, resolution, class_names = facts["dataset"], facts["resolution"], tuple(facts["class_names"])
        accuracy = facts["accuracy"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no classifier: {CLASSIFIER_FACTS} cannot be read ({error}); {make}.") from error
    call = _signature(path, _load(path))

    @tf.function
    def run(images):
        outputs = call(images)
        _require(path, outputs, {"logits": len(class_names), "features": None})
        return {name: outputs[name] for name in ("logits", "features")}

    extractor = Extractor(
        kind="classifier",
        name=f"classifier of {dataset}",
        checksum=checksum(path),
        preparation="none: the images' own size, scaled inside",
        resolution=resolution,
        class_names=class_names,
        dataset=dataset,
        accuracy=accuracy,
        run=run,
    )
    return _tried(extractor, path, resolution)


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


def _saved_model(path, flag, mend):
    path = pathlib.Path(path).expanduser()
    if not (path / "saved_model.pb").is_file():
        raise ValueError(f"{flag}={path}: there is no saved_model.pb; {mend}.")
    return path


def _load(path):
    try:
        return tf.saved_model.load(str(path))
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


def _tried(extractor, path, side):
    """The extractor, after one run: an outputless one is told of now and not after minutes of drawing."""
    try:
        extractor(np.zeros([1, side, side, 3], np.uint8))
    except (tf.errors.OpError, TypeError, ValueError) as error:
        line = " ".join(str(error).split())
        if " is no extractor: " in line:
            line = f"{path} is no extractor: " + line.split(" is no extractor: ")[1]
        else:
            line = f"{path} cannot be run on images ({line[:200]}): expected an extractor's SavedModel."
        raise ValueError(line) from error
    return extractor

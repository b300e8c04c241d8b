"""Extractors that are SavedModels in a folder: TF-GAN's Inception, a classifier of `tfvae.train_classifier`, any other one."""

import dataclasses
import hashlib
import json
import os
import pathlib
import re

import numpy as np

from tfvae import command
from tfvae.scoring.kinds import Extractor

INCEPTION_LOGITS, INCEPTION_FEATURES = 1008, 2048
CLASSIFIER_FACTS = "classifier.json"
EXTRACTOR_FACTS = "extractor.json"
RESIZERS = ("bilinear", "bicubic", "lanczos3", "lanczos5", "area", "nearest", "gaussian", "mitchellcubic")
# {field of extractor.json: (whether a value is right, what is expected)}
FIELDS = {
    "name": (lambda v: isinstance(v, str) and re.fullmatch(r"[a-z0-9_]+", v), "a text of a to z, 0 to 9 and _"),
    "side": (lambda v: v is None or type(v) is int and v > 0, "a number of px, or null: images keep their size"),
    "resizer": (lambda v: v in RESIZERS, f"one of {', '.join(RESIZERS)}"),
    "antialias": (lambda v: isinstance(v, bool), "true or false"),
    "scaling": (
        lambda v: v is None or _is_scaling(v),
        "[what 0 becomes, what 255 becomes], each a number or one for each channel, or null: pixels stay uint8",
    ),
    "signature": (lambda v: isinstance(v, str), "the name of a signature"),
    "licence": (lambda v: isinstance(v, str), "a text"),
}
# What lies in a classifier's folder.
CLASSIFIER_FILES = {CLASSIFIER_FACTS, "saved_model.pb", "fingerprint.pb", "variables", "assets"}


def identify(kind, folder):
    """As `Kind.identify`, of a SavedModel whose preparation its record says."""
    path = command.path(kind.flag, folder)
    if not (path / "saved_model.pb").is_file():
        raise ValueError(f"--{kind.flag}={path}: there is no saved_model.pb; {kind.weights}.")
    return kind, checksum(path)


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

    kind, digest = identify(kind, folder)
    path = command.path(kind.flag, folder)
    network = _load(path)
    call = network if callable(network) else _signature(path, network)

    @tf.function
    def run(images):
        outputs = call(kind.prepare(images))
        _require(path, outputs, {"logits": INCEPTION_LOGITS, "pool_3": INCEPTION_FEATURES})
        features = tf.reshape(outputs["pool_3"], [-1, INCEPTION_FEATURES])
        return {"logits": outputs["logits"], "features": features}

    return tried(path, Extractor(kind, kind.title, digest, run))


def load_classifier(kind, folder):
    """A classifier of `tfvae.train_classifier`.

    Args:
        folder: of its SavedModel, with `logits` and `features`, and `classifier.json`.

    Raises:
        ValueError: no such SavedModel is there, or it lacks one of the two outputs.
    """
    import tensorflow as tf

    kind, digest = identify(kind, folder)
    path = command.path(kind.flag, folder)
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
    return tried(path, Extractor(kind, name, digest, run, resolution, class_names, dataset, accuracy))


def identify_described(kind, folder):
    """As `Kind.identify`, of a SavedModel whose facts lie in `extractor.json` beside it."""
    _, digest = identify(kind, folder)
    path = command.path(kind.flag, folder)
    try:
        facts = json.loads((path / EXTRACTOR_FACTS).read_text(encoding="utf-8"))
        if not isinstance(facts, dict):
            raise ValueError("it holds no fields")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path / EXTRACTOR_FACTS} cannot be read ({error}); {kind.weights}.") from error
    for name, (is_right, expected) in FIELDS.items():
        if name not in facts:
            raise ValueError(f"{path / EXTRACTOR_FACTS} lacks {name}: expected {expected}.")
        if not is_right(facts[name]):
            raise ValueError(f"{path / EXTRACTOR_FACTS}: {name} is {json.dumps(facts[name])}: expected {expected}.")
    described = dataclasses.replace(
        kind,
        title=facts["name"],
        value_range=facts["scaling"] and tuple(tuple(v) if isinstance(v, list) else v for v in facts["scaling"]),
        **{name: facts[name] for name in ("name", "side", "resizer", "antialias", "licence")},
    )
    return described, hashlib.sha256(f"{digest} {facts['signature']}".encode()).hexdigest()


def _is_scaling(value):
    def is_number(v):
        return isinstance(v, (int, float)) and not isinstance(v, bool)

    return (
        isinstance(value, list)
        and len(value) == 2
        and all(is_number(v) or isinstance(v, list) and len(v) == 3 and all(map(is_number, v)) for v in value)
    )


def load_described(kind, folder):
    """Any SavedModel that makes features of images, as its `extractor.json` describes it.

    Args:
        folder: of the SavedModel. Its signature takes one tensor, the prepared images, and gives `features` [N, D] (or a single
            output, whatever its name) and, optionally, `logits` [N, K].

    Raises:
        ValueError: no such SavedModel is there, a field is missing, or the outputs are others.
    """
    import tensorflow as tf

    described, digest = identify_described(kind, folder)
    path = command.path(kind.flag, folder)
    signature = json.loads((path / EXTRACTOR_FACTS).read_text(encoding="utf-8"))["signature"]
    call = _signature(path, _load(path), (signature,))

    @tf.function
    def run(images):
        outputs = call(described.prepare(images))
        if len(outputs) == 1:
            outputs = {"features": next(iter(outputs.values()))}
        _require(path, outputs, {"features": None})
        if outputs["features"].shape.rank != 2:
            shape = list(outputs["features"].shape)
            raise ValueError(f"{path} is no extractor: expected features [N, D], found {shape}.")
        return {name: tf.cast(outputs[name], tf.float32) for name in ("features", "logits") if name in outputs}

    return tried(path, Extractor(described, described.name, digest, run))


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


def _load(path):
    import tensorflow as tf

    try:
        with command.literal(path) as folder:
            return tf.saved_model.load(str(folder))
    except (tf.errors.OpError, OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path} cannot be loaded ({' '.join(str(error).split())[:200]}): copy it anew.") from error


def _signature(path, network, names=("serving_default", "default")):
    """A function of the images. names: of which the first signature is taken that is there; TF1 modules name it `default`."""
    signatures = getattr(network, "signatures", {})
    for name in names:
        if name in signatures:
            signature = signatures[name]
            _, inputs = signature.structured_input_signature
            if len(inputs) == 1:
                (argument,) = inputs
                # `kept`: signatures hold their network's variables weakly.
                return lambda images, kept=network: signature(**{argument: images})
    there = ", ".join(signatures) or "none"
    raise ValueError(
        f"{path} is no extractor: expected a signature {names[0]} with one input, the images; its signatures: {there}."
    )


def _require(path, outputs, widths):
    outputs = outputs if isinstance(outputs, dict) else {}
    for name, width in widths.items():
        found = outputs[name].shape[-1] if name in outputs else None
        if found is None or (width and found != width):
            given = ", ".join(f"{key} {list(value.shape)}" for key, value in outputs.items()) or "no names"
            size = f" of width {width}" if width else ""
            raise ValueError(f"{path} is no extractor: expected an output {name}{size}, found {given}.")


def tried(path, extractor):
    """The extractor, run once on a black image: one that lacks an output is refused here and not after minutes of drawing."""
    import tensorflow as tf

    side = extractor.resolution or extractor.kind.side
    try:
        outputs = extractor(np.zeros([1, side or 32, side or 32, 3], np.uint8))
        if not np.isfinite(outputs["features"]).all():
            raise ValueError(
                f"{path} is no extractor: expected finite features, found NaN or infinity for a black image."
            )
    except (tf.errors.OpError, TypeError, ValueError) as error:
        line = " ".join(str(error).split())
        if " is no extractor: " in line:
            # TensorFlow wraps what `_require` says.
            line = f"{path} is no extractor: " + line.split(" is no extractor: ")[-1]
        else:
            line = f"{path} cannot be run on images ({line[:200]}): expected an extractor's SavedModel."
        raise ValueError(line) from error
    return extractor

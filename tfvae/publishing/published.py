"""A published version, read: the drawing model of its signatures."""

import json
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfvae.command import UserError, literal
from tfvae.drawing.model import BATCH, Model
from tfvae.publishing import versions

FACTS = Path("assets.extra") / "tfvae.json"


def find(path):
    """The folder of a version that `tfvae.export` published.

    Args:
        path: that folder, or the one of a model's versions: then the newest.

    Raises:
        UserError: no version is there.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"{path} is not a folder: expected a published version, or the folder of a model's versions.")
    numbered = versions.numbered(path)
    if numbered and not (path / "saved_model.pb").exists():
        path = list(numbered.values())[-1]
    if not (path / FACTS).is_file():
        raise UserError(
            f"{path} holds no published version: expected {FACTS} in it, or numbered folders that have it. Publish one with "
            "python -m tfvae.export."
        )
    return path


def load(path):
    """The drawing model of a version that `tfvae.export` published.

    Args:
        path: folder of a version, or of a model's versions: then the newest.

    Returns:
        `Model`. A row whose label or latent cannot be drawn is a black picture.

    Raises:
        UserError: no version that can be loaded is there.
    """
    path = find(path)
    try:
        record = json.loads((path / FACTS).read_text())
        flags, num_classes, seen = record["flags"], record["num_classes"], record["images_seen"]
        facts = facts_of(record)
        with literal(path) as folder:
            loaded = tf.saved_model.load(str(folder))
        missing = {"decode", "sample"} - set(loaded.signatures)
        if missing:
            raise ValueError(f"it has no signature {min(missing)}")
    except (OSError, ValueError, KeyError, TypeError, tf.errors.OpError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path} cannot be loaded ({reason}): expected a version that tfvae.export published."
        ) from error

    # The functions hold `loaded`, for the signatures alone would let its variables go.
    def generate(latent, label=None):
        inputs = {"z": latent} if label is None else {"z": latent, "label": label}
        return call(loaded.signatures["decode"], inputs)["image"]

    def encode(image):
        encoded = call(loaded.signatures["encode"], {"image": image})
        return encoded["mean"], encoded["log_variance"]

    def sample(seed, truncation, label=None):
        # All rows at once, for the bytes of a row do not depend on the others.
        inputs = {"seed": tf.constant(seed, tf.int64), "truncation": tf.constant(truncation, tf.float32)}
        inputs |= {} if label is None else {"label": tf.constant(label, tf.int32)}
        return loaded.signatures["sample"](**inputs)["image_bytes"].numpy()

    encode = encode if "encode" in loaded.signatures else None
    return Model(path, flags, num_classes, generate, encode, seen, facts, sample)


def facts_of(record):
    """What a `Model` says of a version.

    Args:
        record: the content of its tfvae.json. An older one does not say which weights it has; its encoder's are the last step's.
    """
    facts = {"saved_model": record["name"], "flags": record["flags"], "images_seen": record["images_seen"]}
    facts |= {name: record[name] for name in ("weights", "encoder_weights") if name in record}
    if "encode" in record["signatures"]:
        facts.setdefault("encoder_weights", "of the last step")
    return facts


def call(signature, inputs):
    """A signature's outputs for any number of rows: {name: array [N, …]}. `inputs`: {name: array [N, …]}, N > 0.

    Always in batches of `BATCH` rows, so that a row's result does not depend on N; the last batch is filled up with its last row.
    """
    number, parts = len(next(iter(inputs.values()))), []
    for start in range(0, number, BATCH):
        rows = np.minimum(np.arange(start, start + BATCH), number - 1)
        parts.append(signature(**{name: tf.constant(np.asarray(value)[rows]) for name, value in inputs.items()}))
    return {name: np.concatenate([part[name].numpy() for part in parts])[:number] for name in parts[0]}

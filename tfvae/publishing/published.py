"""A published version, as functions of arrays."""

import json
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfvae.command import UserError
from tfvae.drawing.model import Model

FACTS = Path("assets.extra") / "tfvae.json"
BATCH = 64  # rows a call


def versions(export_dir):
    """The versions in a model's folder, as TF Serving finds them: every child whose name is a number.

    Args:
        export_dir: folder whose name is the model's. It need not exist.

    Returns:
        dict of number to path, ascending.
    """
    children = Path(export_dir).iterdir() if Path(export_dir).is_dir() else []
    return dict(sorted((int(child.name), child) for child in children if child.name.isascii() and child.name.isdigit()))


class Published:
    """A version that `tfvae.export` wrote.

    Attributes:
        path: its folder. facts: the content of its tfvae.json.
        objective: `gan` or `vae`. resolution: px a side. latent_dim: length of a latent.
        num_classes: 0 without labels. class_names: tuple.
        encode: function (image uint8 [N, R, R, 3]) -> (mean, log variance), float32 [N, latent_dim] each; None for a GAN.

    Args:
        path: folder of a version.

    Raises:
        UserError: no version that can be loaded is there.
    """

    def __init__(self, path):
        self.path = Path(path)
        try:
            self.facts = json.loads((self.path / FACTS).read_text())
            self.objective, self.resolution = self.facts["objective"], self.facts["resolution"]
            self.latent_dim, self.num_classes = self.facts["latent_dim"], self.facts["num_classes"]
            self.class_names = tuple(self.facts["class_names"])
            self._model = tf.saved_model.load(str(self.path))  # kept: the signatures hold its variables weakly
            self._signatures = self._model.signatures
            self._decode = self._signatures["decode"]
        except (OSError, ValueError, KeyError, TypeError, tf.errors.OpError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"{self.path} cannot be loaded ({reason}): expected a version that tfvae.export published."
            ) from error
        self.encode = self._encode if "encode" in self._signatures else None

    def generate(self, latent, label=None):
        """Draws pictures, in batches: float32 [N, latent_dim] (and int32 [N] where there are labels) -> uint8 [N, R, R, 3]."""
        inputs = {"z": latent} if label is None else {"z": latent, "label": label}
        return self._call(self._decode, inputs)["image"]

    def _encode(self, image):
        result = self._call(self._signatures["encode"], {"image": image})
        return result["mean"], result["log_variance"]

    def _call(self, signature, inputs):
        number = len(next(iter(inputs.values())))
        parts = [
            signature(**{name: tf.constant(value[start : start + BATCH]) for name, value in inputs.items()})
            for start in range(0, number, BATCH)
        ]
        return {name: np.concatenate([part[name].numpy() for part in parts]) for name in parts[0]}


def load(path):
    """A published version, ready for use.

    Args:
        path: folder of a version, or of a model's versions: then the newest.

    Returns:
        `Published`.

    Raises:
        UserError: no version that can be loaded is there.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"{path} is not a folder: expected a published version, or the folder of a model's versions.")
    numbered = versions(path)
    if numbered and not (path / "saved_model.pb").exists():
        path = list(numbered.values())[-1]
    if not (path / FACTS).is_file():
        raise UserError(
            f"{path} holds no published version: expected {FACTS} in it, or numbered folders that have it. Publish one with "
            "python -m tfvae.export."
        )
    return Published(path)


def load_published(saved_model):
    """The `Model` that `tfvae.export` published in a folder. Raises: UserError."""
    model = load(saved_model)
    flags, seen = model.facts["flags"], model.facts["images_seen"]
    facts = {
        "saved_model": model.facts["name"],
        "flags": flags,
        "images_seen": seen,
    }
    return Model(model.path, flags, model.num_classes, model.generate, model.encode, seen, facts)

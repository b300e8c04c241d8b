"""Publishing a model for TF Serving: a version is written, verified and put in its place, or nothing is."""

import os
import re
from pathlib import Path

import numpy as np

from tfvae import command
from tfvae.command import UserError
from tfvae.publishing import card, signatures, verification, versions, writing

NAME = r"[A-Za-z][A-Za-z0-9_.-]*"  # of a model: it is part of URLs, and must not look like a version's number


def find_place(export_dir, version=None):
    """Where a new version goes.

    Args:
        export_dir: folder of the model's versions; its last part is the model's name. version: None: one more than the newest.

    Returns:
        (path of the version's folder, its number).

    Raises:
        UserError: the name is not one, the version exists or cannot be one, or this environment cannot write one.
    """
    folder = Path(os.path.abspath(export_dir))
    if not re.fullmatch(NAME, folder.name):
        raise UserError(
            f"--export_dir={export_dir}: its last part is the model's name and a part of URLs. Expected a letter, then letters, "
            "digits, dots, - and _, such as published/cifar10_vae; the version's folder is made in it."
        )
    command.check_writable(folder / "1", "export_dir")
    there = versions.numbered(folder)
    version = version or versions.next_version(folder)
    place = there.get(version, folder / str(version))
    if os.path.lexists(place):
        raise UserError(f"{place} exists, and a version is never replaced: give another --version.")
    writing.require_serving_api()
    return place, version


def publish(place, config, data, model, scores=None, license=card.UNKNOWN, check=None):
    """Writes, verifies and publishes a version.

    Args:
        place: of `find_place`. config, data, model: as `run.load` gives them. scores: of `writing.scores_of`.
        license: of the weights. check: one more function of the written version's folder, which raises a UserError.

    Returns:
        The content of its tfvae.json.

    Raises:
        UserError: the weights are no numbers, the disk does not take the version, it exists by now, or it does not serve as
            the model in memory does.
    """
    check_weights(model)
    functions = signatures.of_model(config, model)
    about = writing.facts(place.parent.name, config, data, model, list(functions), scores, license)
    try:
        versions.remove_unfinished(place.parent)
        with command.folder_beside(place) as unfinished:
            writing.write(unfinished, about, functions)
            verification.verify(unfinished, config, model, functions)
            if check:
                check(unfinished)
            versions.put_in_place(unfinished, place)
        return about
    except OSError as error:
        mend = "free some space or " if command.disk_is_full(error) else ""
        raise UserError(
            f"nothing was published, {place.parent} cannot be written ({error}): {mend}give another --export_dir."
        ) from error


def check_weights(model):
    """Raises: UserError: a weight is not finite. Kernels differ in what they make of NaN, so pictures do not always tell."""
    for weight in model.weights:
        if not np.all(np.isfinite(weight.numpy())):
            raise UserError("the model's weights hold NaN or infinity: expected those of a run that did not diverge.")

"""Publishing a model for TF Serving: a version is written, verified and put in its place, or nothing is."""

import os
import re
import shutil
from pathlib import Path

import numpy as np

from tfvae.command import UserError
from tfvae.publishing import signatures, verification, versions, writing

NAME = r"[A-Za-z][A-Za-z0-9_.-]*"  # of a model: it is part of URLs, and must not look like a version's number


def find_place(export_dir, version=None):
    """Where a new version goes.

    Args:
        export_dir: folder of the model's versions; its last part is the model's name. version: None: one more than the newest.

    Returns:
        (path of the version's folder, its number).

    Raises:
        UserError: the name is not one, the version exists, or this environment cannot write one.
    """
    folder = Path(os.path.abspath(export_dir))
    if not re.fullmatch(NAME, folder.name):
        raise UserError(
            f"--export_dir={export_dir}: its last part is the model's name and a part of URLs. Expected a letter, then letters, "
            "digits, dots, - and _, such as published/cifar10_vae; the version's folder is made in it."
        )
    there = versions.numbered(folder)
    version = version or max(there, default=0) + 1
    if version in there:
        raise UserError(f"{there[version]} exists, and a version is never replaced: give another --version.")
    writing.require_serving_api()
    return folder / str(version), version


def publish(place, config, data, model, scores=None):
    """Writes, verifies and publishes a version.

    Args:
        place: of `find_place`. config, data, model: as `run.load` gives them. scores: of `writing.scores_of`.

    Returns:
        The content of its tfvae.json.

    Raises:
        UserError: the weights are no numbers, the disk does not take the version, it exists by now, or it does not serve as
            the model in memory does.
    """
    check_weights(model)
    functions = signatures.of_model(config, model)
    about = writing.facts(place.parent.name, config, data, model, list(functions), scores)
    unfinished = versions.unfinished(place)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        versions.remove_unfinished(place.parent)
        writing.write(unfinished, about, functions)
        verification.verify(unfinished, config, model, functions)
        versions.put_in_place(unfinished, place)
        return about
    except OSError as error:
        raise UserError(
            f"nothing was published, {place.parent} cannot be written ({error}): free some space or give another --export_dir."
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def check_weights(model):
    """Raises: UserError: a weight is not finite. Kernels differ in what they make of NaN, so pictures do not always tell."""
    for weight in model.weights:
        if not np.all(np.isfinite(weight.numpy())):
            raise UserError("the model's weights hold NaN or infinity: expected those of a run that did not diverge.")

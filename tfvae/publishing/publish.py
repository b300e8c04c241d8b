"""A model's folder for TF Serving: versions are written, verified, put in their place and deleted.

A server looks at every folder with a number for a name, at any moment. So a version is written and verified under another
name and then renamed: it is whole or it is not there.
"""

import os
import re
import shutil
from pathlib import Path

import numpy as np

from tfvae.command import UserError
from tfvae.publishing import published, signatures, verification, versions, writing

NAME = r"[A-Za-z][A-Za-z0-9_.-]*"  # a model's: it stands in URLs, and is not to be taken for a version


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
            f"--export_dir={export_dir}: its last part is the model's name and stands in URLs. Expected a letter, then letters, "
            "digits, dots, - and _, such as published/cifar10_vae; the version's folder is made in it."
        )
    there = published.versions(folder)
    version = version or max(there, default=0) + 1
    if version in there:
        raise UserError(f"{there[version]} exists, and a version is never replaced: give another --version.")
    writing.require_serving_api()
    return folder / str(version), version


def publish(place, settings, data, model):
    """Writes, verifies and publishes a version.

    Args:
        place: of `find_place`. settings, data, model: as `run.load` gives them.

    Returns:
        The content of its tfvae.json.

    Raises:
        UserError: the weights are no numbers, the disk does not take the version, it exists by now, or it does not serve as
            the model in memory does.
    """
    check_weights(model)
    functions = signatures.of_model(settings, model)
    about = writing.facts(place.parent.name, settings, data, model, list(functions))
    unfinished = place.with_name(f".tmp-{place.name}-{os.getpid()}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        versions.remove_unfinished(place.parent)
        writing.write(unfinished, about, functions)
        verification.verify(unfinished, settings, model, functions)
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
    for weight in (*model.ema_generator.weights, *model.discriminator.weights):
        if not np.all(np.isfinite(weight.numpy())):
            raise UserError("the model's weights hold NaN or infinity: expected those of a run that did not diverge.")


# Writing.


# Verifying.


# Putting in place, and deleting.

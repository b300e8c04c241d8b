"""Publishes a trained model for TF Serving: one more version in the model's folder. Or converts it to ONNX.

python -m tfvae.export --model_dir=runs/cifar10_vae --export_dir=published/cifar10_vae
python -m tfvae.export --model_dir=runs/cifar10_vae --onnx=cifar10_vae.onnx
python -m tfvae.export --saved_model=published/cifar10_vae --check_with=other_environment/bin/python

A version is verified before a server can see it, and one that exists is never touched.
"""

import os
import re
import shlex
import shutil

from absl import flags

from tfvae import command

MODEL_DIR = flags.DEFINE_string("model_dir", None, "Folder of a run of tfvae.train.")
EXPORT_DIR = flags.DEFINE_string(
    "export_dir", None, "Folder of the model's versions, made if it is not there; its last part is the model's name."
)
VERSION = flags.DEFINE_integer(
    "version", None, "Number of the version. Default: one more than the newest.", lower_bound=1, upper_bound=2**63 - 1
)
KEEP_VERSIONS = flags.DEFINE_integer(
    "keep_versions", 0, "Newest versions that are kept; older ones are deleted, never this one. 0: all.", lower_bound=0
)
LICENSE = flags.DEFINE_string(
    "license",
    "unknown",
    "Licence of the weights for the version's model card, by Hugging Face's identifiers, such as cc-by-4.0.",
)
CHECK_WITH = flags.DEFINE_string(
    "check_with",
    None,
    "Python with another TensorFlow, such as the server's: every signature of the version is run in a session there too, and "
    "its answers must be those of this one; else nothing is published.",
)
SAVED_MODEL = flags.DEFINE_string(
    "saved_model",
    None,
    "In place of --model_dir: a version that was published before, or the folder of versions (the newest), for --check_with.",
)
ONNX = flags.DEFINE_string("onnx", None, "ONNX file to write, in place of a version or beside one.")
ONNX_SIGNATURE = flags.DEFINE_string(
    "onnx_signature", "decode", "What the ONNX file computes: decode, or encode where the model has an encoder."
)
ONNX_LAYOUT = flags.DEFINE_enum(
    "onnx_layout",
    "nhwc",
    ["nhwc", "nchw"],
    "nhwc: inputs and outputs as served. nchw: images [B, 3, R, R] and int64 labels, as PyTorch's tools expect them.",
)
OVERWRITE = flags.DEFINE_boolean("overwrite", False, "Replace an ONNX file that is there. Versions are never replaced.")

OF_VERSIONS = (VERSION, KEEP_VERSIONS, LICENSE)
OF_ONNX = (ONNX_SIGNATURE, ONNX_LAYOUT, OVERWRITE)


def check_flags():
    """{flag's name: path, or None where it is not given}. Raises: ValueError, UserError."""
    if SAVED_MODEL.value:
        check_flags_of_saved_model()
    else:
        check_flags_of_run()
    places = (MODEL_DIR, EXPORT_DIR, SAVED_MODEL, ONNX, CHECK_WITH)
    paths = {flag.name: command.path(flag.name, flag.value) if flag.value else None for flag in places}
    if paths["check_with"]:
        python = shutil.which(paths["check_with"])
        if python is None:
            raise ValueError(
                f"--check_with={CHECK_WITH.value} cannot be run: expected a Python, such as other_environment/bin/python."
            )
        paths["check_with"] = os.path.abspath(python)  # links stay: an environment's Python is one
    if paths["onnx"]:
        command.refuse_to_overwrite([paths["onnx"]], "onnx", OVERWRITE.value)
    return paths


def check_flags_of_saved_model():
    """Raises: ValueError: the flags do not go with --saved_model."""
    given = [flag.name for flag in (MODEL_DIR, EXPORT_DIR, ONNX, *OF_VERSIONS, *OF_ONNX) if flag.present]
    if given:
        raise ValueError(f"--{given[0]}: expected without --saved_model, a version that was published before.")
    if not CHECK_WITH.value:
        raise ValueError("--check_with is missing: expected the Python that --saved_model is to be run in.")


def check_flags_of_run():
    """Raises: ValueError: the flags do not go with --model_dir, or it is missing."""
    needed = [(MODEL_DIR, "runs/cifar10_vae")]
    if not ONNX.value:
        needed.append((EXPORT_DIR, "published/cifar10_vae"))
    for flag, example in needed:
        if not flag.value:
            raise ValueError(f"--{flag.name} is missing: expected a folder, such as {example}.")
    other = OF_ONNX if not ONNX.value else ()
    other += (*OF_VERSIONS, CHECK_WITH) if not EXPORT_DIR.value else ()
    given = [flag.name for flag in other if flag.present]
    if given:
        raise ValueError(f"--{given[0]}: expected with --{'onnx' if not ONNX.value else 'export_dir'} alone.")
    if ONNX_SIGNATURE.value not in ("decode", "encode"):
        raise ValueError(
            f"--onnx_signature={ONNX_SIGNATURE.value}: expected decode or encode. sample and reconstruct write PNG files, in "
            "loops and with random numbers that ONNX does not have; draw latents outside and decode them."
        )
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", LICENSE.value):
        raise ValueError(f"--license={LICENSE.value}: expected one of Hugging Face's identifiers, such as cc-by-4.0.")


command.start(__name__, check_flags)

import keras
import tensorflow as tf

from tfvae.publishing import elsewhere, onnx_file, publish, published, signatures, versions, writing
from tfvae.training import run


def main(argv):
    with command.user_errors():
        paths = check_flags()
        if paths["saved_model"]:
            folder = published.find(paths["saved_model"])
            check_elsewhere(folder, paths["check_with"], published.load(folder).flags["precision"])
            return
        if paths["onnx"]:
            onnx_file.require_packages()
        place = publish.find_place(paths["export_dir"], VERSION.value)[0] if paths["export_dir"] else None
        config, data, model = run.load(paths["model_dir"])
    if place:
        publish_version(place, paths["check_with"], config, data, model)
    if paths["onnx"]:
        write_onnx(paths["onnx"], config, model)


def publish_version(place, python, config, data, model):
    """Publishes the version. place: its folder. python: of --check_with, or None."""
    scores, without_scores = writing.scores_of(config, model)
    print(f"Writing and verifying version {place.name} of {place.parent.name}", flush=True)
    check = (lambda folder: check_elsewhere(folder, python, config.precision)) if python else None
    about = publish.publish(place, config, data, model, scores, LICENSE.value, check)
    print(f"{place}  ({', '.join(about['signatures'])}; {about['images_seen']:,} images seen)", flush=True)
    if without_scores:
        print(without_scores)
    newest = max(versions.numbered(place.parent))
    if newest > int(place.name):
        print(f"Version {newest} is newer: a server takes that one unless it is told otherwise.")
    for file in versions.no_folders(place.parent):
        print(f"warning: {file} is no folder, and TF Serving takes it for a version: move it elsewhere.")
    if KEEP_VERSIONS.value:
        for old, reason in versions.delete_old(place.parent, KEEP_VERSIONS.value, int(place.name)).items():
            print(f"warning: version {old} could not be deleted ({reason})." if reason else f"Deleted version {old}")
    print(f"Serve it:   python -m tfvae.serve --model_base_path={shlex.quote(str(place.parent))}")
    print(f"Look at it: python -m tfvae.sample --saved_model={shlex.quote(str(place))}")


def check_elsewhere(folder, python, precision):
    """Runs a version in another Python's TensorFlow and prints how far its answers are from this one's."""
    version, differences = elsewhere.check(folder, python, precision)
    print(f"TensorFlow {version} answers as {tf.__version__} does:", flush=True)
    for signature, difference in differences.items():
        print(f"  {signature:<16} {difference}")


def write_onnx(path, config, model):
    """Writes the ONNX file."""
    # Whatever the training's precision: ONNX Runtime has no convolutions in bfloat16 on a CPU.
    keras.config.set_dtype_policy("float32")
    functions = signatures.of_model(config, model)
    onnx_file.write(path, ONNX_SIGNATURE.value, functions, ONNX_LAYOUT.value)
    print(
        f"{path}  ({ONNX_SIGNATURE.value}, {ONNX_LAYOUT.value}; as TensorFlow's within a grey level, by ONNX Runtime)"
    )


if __name__ == "__main__":
    command.run_command(main)

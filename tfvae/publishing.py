"""A model's folder for TF Serving: versions are written, verified, put in their place and deleted.

A server looks at every folder with a number for a name, at any moment. So a version is written and verified under another
name and then renamed: it is whole or it is not there.
"""

import dataclasses
import errno
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfvae import published, signatures
from tfvae.config import PLACES, UserError
from tfvae.data import images

NAME = r"[A-Za-z][A-Za-z0-9_.-]*"  # a model's: it stands in URLs, and is not to be taken for a version
UNFINISHED = re.compile(r"\.tmp-([0-9]+)-([0-9]+)")  # version and process; also what is being deleted
WARMUP_FILE = Path("assets.extra") / "tf_serving_warmup_requests"
WARMUP_ROWS = (1, 4, 8, 16, 32)  # the batch sizes that the server's batching is told to use
# How far a server's answers may be from the model's own: by which measure, pixels of 255, latents. In bfloat16 the order
# of sums and roundings shows, most where a network amplifies it: single pixels then say nothing, and the mean was up to 5;
# that of other weights is some tens.
TOLERANCES = {"float32": (np.max, 1, 1e-3), "mixed_bfloat16": (np.mean, 8, 0.1)}


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
    versions = published.versions(folder)
    version = version or max(versions, default=0) + 1
    if version in versions:
        raise UserError(f"{versions[version]} exists, and a version is never replaced: give another --version.")
    require_serving_api()
    return folder / str(version), version


def publish(place, settings, data, model):
    """Writes, verifies and publishes a version.

    Args:
        place: of `find_place`. settings, data, model: as `experiment.load` gives them.

    Returns:
        The content of its tfvae.json.

    Raises:
        UserError: the weights are no numbers, the disk does not take the version, it exists by now, or it does not serve as
            the model in memory does.
    """
    check_weights(model)
    functions = signatures.of_model(settings, model)
    about = facts(place.parent.name, settings, data, model, list(functions))
    unfinished = place.with_name(f".tmp-{place.name}-{os.getpid()}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        remove_unfinished(place.parent)
        write(unfinished, about, functions)
        verify(unfinished, settings, model, functions)
        put_in_place(unfinished, place)
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


def require_serving_api():
    """Raises: UserError: the package of TF Serving's protocol is not installed."""
    try:
        import tensorflow_serving.apis  # noqa: F401
    except ImportError as error:
        raise UserError(
            'warm-up requests need the package tensorflow-serving-api: pip install "tfvae[serving]", or in the repository '
            'pip install -e ".[serving]".'
        ) from error


# Writing.


def write(folder, about, functions):
    """Writes a version: SavedModel, warm-up requests, tfvae.json.

    Args:
        folder: of the version; it does not exist. about: the content of tfvae.json. functions: `signatures.of_model`'s.

    Raises:
        OSError: the disk does not take it.
    """
    # Keras' own archive: with tf.saved_model.save a server would not find the variables of a Keras 3 network.
    archive = keras.export.ExportArchive()
    for signature, (function, inputs) in functions.items():
        archive.add_endpoint(signature, function, inputs)  # the first is also `serving_default`
    try:
        archive.write_out(str(folder), verbose=False)
        (folder / WARMUP_FILE).parent.mkdir()
        write_warmup(folder / WARMUP_FILE, about, functions)
    except tf.errors.OpError as error:
        raise OSError(re.sub(r"{{.*?}} ", "", error.message)) from error  # without the name of TensorFlow's function
    (folder / published.FACTS).write_text(json.dumps(about, indent=2) + "\n")


def facts(name, settings, data, model, names):
    """What a version is: the content of its tfvae.json.

    Args:
        name: the model's. settings, data, model: as `experiment.load` gives them. names: of the signatures.

    Raises:
        UserError: the run's scores.json is damaged.
    """
    scores = Path(settings.model_dir) / "scores.json"
    try:
        scores = json.loads(scores.read_text()) if scores.exists() else None
    except ValueError as error:
        raise UserError(f"{scores} cannot be read ({error}): expected the file that tfvae.evaluate wrote.") from error
    return {
        "name": name,
        "objective": settings.objective,
        "architecture": settings.architecture,
        "dataset": settings.dataset,
        "resolution": settings.resolution,
        "latent_dim": settings.latent_dim,
        "num_classes": model.generator.num_classes,
        "class_names": data["class_names"] if model.generator.num_classes else [],
        "flags": {name: value for name, value in dataclasses.asdict(settings).items() if name not in PLACES},
        "images_seen": model.images_seen,
        "ema": True,
        "checkpoint": f"ckpt-{model.images_seen}",
        "scores": scores,
        "commit": commit(),
        "versions": {"tensorflow": tf.__version__, "keras": keras.__version__},
        "signatures": names,
    }


def commit():
    """The commit of the code that runs, with `-dirty` where files were changed since; None outside its repository."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        # Installed inside another project's repository, this file is not one of it.
        subprocess.run([*git, "ls-files", "--error-unmatch", "export.py"], check=True, capture_output=True)
        described = [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(described, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def example(spec, rows, num_classes):
    """An input of `rows` rows that can be drawn from: array of a tf.TensorSpec's name, shape and dtype."""
    shape, draw = [rows, *spec.shape[1:]], np.random.default_rng(rows)
    values = {
        "seed": lambda: np.arange(rows),
        "truncation": lambda: np.linspace(0.5, 2.0, rows),
        "label": lambda: np.arange(rows) % num_classes,
        "z": lambda: draw.standard_normal(shape),
        "image": lambda: draw.integers(0, 256, shape),
    }
    return values[spec.name]().astype(spec.dtype.as_numpy_dtype)


def write_warmup(path, about, functions):
    """Writes requests that a server runs before it calls a version available: one a signature and batch size."""
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature in ("serving_default", *functions):
            for rows in WARMUP_ROWS:
                request = predict_pb2.PredictRequest()
                request.model_spec.name, request.model_spec.signature_name = about["name"], signature
                for spec in functions[signature if signature in functions else "sample"][1]:
                    request.inputs[spec.name].CopyFrom(tf.make_tensor_proto(example(spec, rows, about["num_classes"])))
                log = prediction_log_pb2.PredictLog(request=request)
                writer.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())


# Verifying.


def verify(folder, settings, model, functions):
    """Loads a version in a session, as TF Serving does, and compares its answers with the model in memory.

    Args:
        folder: of the version. settings, model: as `experiment.load` gives them. functions: `signatures.of_model`'s.

    Raises:
        UserError: a file is missing, an answer differs, or a warm-up request fails.
    """
    requests = [
        (signature, {spec.name: example(spec, rows, model.generator.num_classes) for spec in inputs})
        for signature, (_, inputs) in functions.items()
        for rows in (1, 3)
    ]
    try:
        check_variables(folder / "variables")
        answers = answers_of_a_server(folder, requests + read_warmup(folder / WARMUP_FILE))
        for (signature, inputs), answer in zip(requests, answers):
            check_answer(answer, in_memory(signature, inputs, model), *TOLERANCES[settings.precision])
    except (ValueError, KeyError, tf.errors.OpError) as error:
        reason = " ".join(str(error).split())[:400]
        raise UserError(
            f"nothing was published, what was written does not serve as the model in memory ({reason})."
        ) from error


def check_variables(folder):
    """Raises: ValueError: not all files of the variables are there. A server would load such a version without them."""
    shards = sorted(path.name for path in folder.glob("variables.data-*"))
    expected = [f"variables.data-{i:05d}-of-{len(shards):05d}" for i in range(len(shards))]
    if not shards or shards != expected or not (folder / "variables.index").exists():
        raise ValueError(f"files of {folder} are missing, there are {[path.name for path in folder.glob('*')]}")


def read_warmup(path):
    """The requests of a version's warm-up file: list of (signature, dict of arrays)."""
    from tensorflow_serving.apis import prediction_log_pb2

    requests = []
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        requests.append((request.model_spec.signature_name, inputs))
    return requests


def answers_of_a_server(folder, requests):
    """What TF Serving would answer: the version is loaded into a session, as its loader does, and run there.

    On the encoder TensorFlow prints "remapper failed", here as in a server: it then leaves that graph as it was.

    Args:
        folder: of the version. requests: list of (signature, dict of arrays).

    Returns:
        list of dicts of arrays.

    Raises:
        ValueError: a function that no server runs. KeyError, OSError, tf.errors.OpError: the version is broken.
    """
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta_graph = tf.compat.v1.saved_model.loader.load(session, ["serve"], str(folder))
        library = meta_graph.graph_def.library.function
        nodes = [*meta_graph.graph_def.node, *(node for function in library for node in function.node_def)]
        if any(part.attr["_XlaMustCompile"].b for part in (*library, *nodes)):
            raise ValueError("it has functions that XLA must compile, which a server refuses")
        answers = []
        for signature, inputs in requests:
            definition = meta_graph.signature_def[signature]
            outputs = {name: tensor.name for name, tensor in definition.outputs.items()}
            answers.append(
                session.run(outputs, {definition.inputs[name].name: value for name, value in inputs.items()})
            )
        return answers


def in_memory(signature, inputs, model):
    """The model's own answer to a request, pixels in the PNGs' place: dict of arrays."""
    if "image" in inputs:
        mean, log_variance = model.encode(images.to_model_range(inputs["image"]))
    if signature == "encode":
        return {"mean": mean.numpy(), "log_variance": log_variance.numpy()}
    if signature == "sample":
        latent = signatures.random_latents(inputs["seed"], inputs["truncation"], model.generator.latent_dim)
    else:
        latent = inputs["z"] if signature == "decode" else mean
    picture = images.to_uint8(model.ema_generator(latent, inputs.get("label"))).numpy()
    return {"image" if signature == "decode" else "image_bytes": picture}


def check_answer(answer, expected, measure, levels, latent_tolerance):
    """Compares a server's answer with the expected one.

    Args:
        answer, expected: dicts of arrays. measure: function of the absolute differences. levels: how much it may be for
            pixels. latent_tolerance: and for latents.

    Raises:
        ValueError: they differ more, or a picture is missing.
    """
    for name, right in expected.items():
        found = answer[name]
        if name == "image_bytes":
            if not all(found):
                raise ValueError("a picture cannot be drawn")
            found = np.stack([tf.io.decode_png(png).numpy() for png in found])
        tolerance = latent_tolerance if name in ("mean", "log_variance") else levels
        difference = measure(np.abs(found.astype(np.float64) - right))
        if not difference <= tolerance:  # so that NaN is refused too
            raise ValueError(f"{name} differs by {difference:.3g}, expected {tolerance:g} or less")


# Putting in place, and deleting.


def put_in_place(unfinished, place):
    """Waits until a version is on the disk, and renames it.

    Args:
        unfinished: folder of a verified version. place: where it goes, on the same file system.

    Raises:
        UserError: a version is there by now.
    """
    for path in (*unfinished.rglob("*"), unfinished):
        synchronize(path)
    try:
        os.rename(unfinished, place)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        raise UserError(
            f"{place} was published by another export meanwhile, and a version is never replaced: run the command again."
        ) from error
    synchronize(place.parent)


def synchronize(path):
    """Waits until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def delete(folder, version):
    """Deletes a folder of this version's; it is renamed first, so that no part of it is ever served or published."""
    doomed = folder.parent / f".tmp-{version}-{os.getpid()}"
    os.rename(folder, doomed)
    shutil.rmtree(doomed)


def delete_old(export_dir, keep, version):
    """Deletes all but the newest versions, one at a time.

    Args:
        export_dir: folder of the versions. keep: how many are left, 1 or more. version: one that stays in any case.

    Returns:
        list of the deleted versions' numbers.
    """
    versions = published.versions(export_dir)
    old = [number for number in sorted(versions)[:-keep] if number != version]
    for number in old:
        delete(versions[number], number)
    return old


def remove_unfinished(export_dir):
    """Removes what exports and deletions that were killed left behind; those of living processes stay."""
    for folder in export_dir.iterdir():
        match = UNFINISHED.fullmatch(folder.name)
        if match and not is_alive(int(match[2])):
            shutil.rmtree(folder)  # no server looks at such a name, so it may be seen half deleted


def is_alive(process):
    """Whether a process of this machine runs: not this one, whose number an older one had."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True

"""Writing a version: SavedModel, warm-up requests, and the facts that say what it is."""

import dataclasses
import json
import re
import subprocess
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfvae.command import UserError
from tfvae.config import PLACES
from tfvae.publishing import card, published, signatures
from tfvae.training import run

WARMUP_FILE = Path("assets.extra") / "tf_serving_warmup_requests"
WARMUP_ROWS = (1, 4, 8, 16, 32)  # the batch sizes of serving/batching.txt


def require_serving_api():
    """Raises: UserError: the package of TF Serving's protocol is not installed."""
    try:
        import tensorflow_serving.apis  # noqa: F401
    except ImportError as error:
        raise UserError(
            'warm-up requests need the package tensorflow-serving-api: pip install "tfvae[serving]", or in the repository '
            'pip install -e ".[serving]".'
        ) from error


def write(folder, about, functions):
    """Writes a version: SavedModel, warm-up requests, tfvae.json, model card.

    Args:
        folder: of the version, empty. about: the content of tfvae.json. functions: `signatures.of_model`'s.

    Raises:
        OSError: the disk does not take it.
    """
    # Keras' own archive: with tf.saved_model.save a server would not find the variables of a Keras 3 network.
    archive = keras.export.ExportArchive()
    for signature, (function, inputs) in functions.items():
        endpoint = archive.add_endpoint(
            signature, of_one_dict(function, inputs), [{spec.name: spec for spec in inputs}]
        )
        if signature == "sample":
            endpoint.get_concrete_function()  # so that it can be added again
            archive.add_endpoint("serving_default", endpoint)
    try:
        archive.write_out(str(folder), verbose=False)
        (folder / WARMUP_FILE).parent.mkdir()
        write_warmup(folder / WARMUP_FILE, about, functions)
    except tf.errors.OpError as error:
        raise OSError(re.sub(r"{{.*?}} ", "", error.message)) from error  # without the name of TensorFlow's function
    (folder / published.FACTS).write_text(json.dumps(about, indent=2) + "\n")
    card.write(folder, about, functions)


def of_one_dict(function, inputs):
    """A function of tensors as one of {name of the input: tensor}, the one argument that Keras' TFSMLayer passes."""
    names = [spec.name for spec in inputs]
    return lambda rows: function(*(rows[name] for name in names))


def facts(name, config, data, model, names, scores=None, license=card.UNKNOWN):
    """What a version is: the content of its tfvae.json.

    Args:
        name: the model's. config, data, model: as `run.load` gives them. names: of its signatures. scores: of `scores_of`.
        license: of the weights, as Hugging Face calls it.
    """
    num_classes = model.generator.num_classes
    return {
        "name": name,
        "objective": config.objective,
        "title": model.title,
        "network_titles": list(model.network_titles),
        "architecture": config.architecture,
        "dataset": config.dataset,
        "resolution": config.resolution,
        "latent_dim": config.latent_dim,
        "num_classes": num_classes,
        "class_names": data["class_names"] if num_classes else [],
        "flags": {name: value for name, value in dataclasses.asdict(config).items() if name not in PLACES},
        "images_seen": model.images_seen,
        "ema": True,
        **run.facts_of_weights(config, model),
        "checkpoint": f"ckpt-{model.images_seen}",
        "scores": scores,
        "license": license,
        "commit": commit(),
        "versions": {"tensorflow": tf.__version__, "keras": keras.__version__},
        "signatures": names,
        "batch_size_changes": {name: signatures.BATCH_SIZE_CHANGES[name] for name in names},
    }


def scores_of(config, model):
    """The content of a run's scores.json, if it says that it scored this very model, with the latents that a version draws.

    Args:
        config, model: as `run.load` gives them.

    Returns:
        (the content or None, one line that says why the file is left out or None).
    """
    file = Path(config.model_dir) / "scores.json"
    if not file.exists():
        return None, None
    expected = {
        "images_seen": model.images_seen,
        "checkpoint": "newest",
        "prior": "normal",
        **run.facts_of_weights(config, model),
    }
    try:
        scores = json.loads(file.read_text())
        source = scores["source"]
        # Older files do not name it.
        source = source | {"prior": source.get("prior", {"kind": "normal"})["kind"]}
        others = [
            f"{name}: {source.get(name, 'not said')}, expected {value}"
            for name, value in expected.items()
            if source.get(name) != value
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        others = [f"it cannot be read as the scores of a model, {error!r}"]
    if not others:
        return scores, None
    return None, (
        f"Without scores: {file} does not say that it is of this model ({'; '.join(others)}). python -m tfvae.evaluate scores it."
    )


def commit():
    """The commit of the code that runs, with `-dirty` where files were changed since; None outside its repository."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        # Installed inside another project's repository, this file is not one of it.
        subprocess.run([*git, "ls-files", "--error-unmatch", Path(__file__).name], check=True, capture_output=True)
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
    """Writes requests that a server runs before it calls a version available: one per signature and batch size."""
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

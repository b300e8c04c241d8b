"""Whether a written version serves as the model in memory does."""

import numpy as np
import tensorflow as tf

from tfvae.command import UserError, literal
from tfvae.data import images
from tfvae.drawing import prior
from tfvae.publishing import session
from tfvae.publishing.writing import WARMUP_FILE, example

# How far a server's answers may be from the model's own: by which measure, pixels of 255, latents. In bfloat16 the order
# of sums and roundings shows, most where a network amplifies it: single pixels then say nothing, and the mean was up to 5;
# that of other weights is some tens.
TOLERANCES = {"float32": (np.max, 1, 1e-3), "mixed_bfloat16": (np.mean, 8, 0.1)}


def verify(folder, config, model, functions):
    """Loads a version in a session, as TF Serving does, and compares its answers with the model in memory.

    Args:
        folder: of the version. config, model: as `run.load` gives them. functions: `signatures.of_model`'s.

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
        with literal(folder) as place:
            answers = session.answers(place, requests + read_warmup(folder / WARMUP_FILE))
        for (signature, inputs), answer in zip(requests, answers):
            check_answer(answer, in_memory(signature, inputs, model), *TOLERANCES[config.precision])
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


def in_memory(signature, inputs, model):
    """The model's own answer to a request, pixels in the PNGs' place: dict of arrays."""
    if "image" in inputs:
        mean, log_variance = model.encode(images.to_model_range(inputs["image"]), encoder=model.ema_discriminator)
    if signature == "encode":
        return {"mean": mean.numpy(), "log_variance": log_variance.numpy()}
    if signature == "sample":
        latent = prior.latents_of_seeds(inputs["seed"], inputs["truncation"], model.generator.latent_dim)
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
            found = pixels_of(found)
        tolerance = latent_tolerance if name in ("mean", "log_variance") else levels
        difference = measure(np.abs(found.astype(np.float64) - right))
        if not difference <= tolerance:  # so that NaN is refused too
            raise ValueError(f"{name} differs by {difference:.3g}, expected {tolerance:g} or less")


def pixels_of(files):
    """The pixels of PNG files of one size: uint8 [N, R, R, 3]."""
    return np.stack([tf.io.decode_png(png).numpy() for png in files])

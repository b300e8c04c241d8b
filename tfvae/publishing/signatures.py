"""What a published model answers: its networks as functions of a batch, each row for itself.

A server merges rows of different callers into one batch. So nothing that a row holds may fail the batch (there are no
asserts), and no row may change another's result. `sample` and `reconstruct` answer with the same bytes in any batch. `decode` and
`encode` run the batch as it is, without a loop, so that converters for other runtimes take them.
"""

import dataclasses

import tensorflow as tf

from tfvae.data import images
from tfvae.drawing import prior
from tfvae.networks import layers
from tfvae.training import build

# Rows that a network sees at a time; the last chunk is filled up with zeros. Kernels round otherwise for another number
# of rows: on a CPU, rows of a batch of 3 or 5 differed by 1e-6 from the same rows alone, which gave one PNG in 20 to 60
# other bytes. One shape, one result. Milliseconds per picture at batch 1, 8 and 32 (CIFAR-10, ch 32, two cores): free
# batch 4.7, 1.6, 1.2; chunks of one 5.0, 3.5, 3.3; of four 8.5, 1.9, 1.8; of eight 12.5, 1.6, 1.4.
CHUNK_ROWS = 4

# What the number of rows in a batch changes in each signature's answer for one row; for tfvae.json.
BATCH_SIZE_CHANGES = {
    "sample": "nothing",
    "decode": "a grey level, more in bfloat16",
    "encode": "1e-5, more in bfloat16",
    "reconstruct": "nothing",
}


def in_chunks(function, *inputs):
    """A function of `CHUNK_ROWS` rows, applied to any number of rows.

    Args:
        function: of one tensor [CHUNK_ROWS, ...] for each input, to `{"image_bytes": string [CHUNK_ROWS]}`.
        inputs: tensors [B, ...].

    Returns:
        The same of string [B].
    """
    rows = tf.shape(inputs[0])[0]
    chunks = (rows + CHUNK_ROWS - 1) // CHUNK_ROWS
    padded = [tf.pad(x, [[0, chunks * CHUNK_ROWS - rows]] + [[0, 0]] * (x.shape.rank - 1)) for x in inputs]
    stacked = [tf.reshape(x, [chunks, CHUNK_ROWS, *x.shape[1:]]) for x in padded]
    spec = {"image_bytes": tf.TensorSpec([CHUNK_ROWS], tf.string)}
    results = tf.map_fn(lambda parts: function(*parts), stacked, fn_output_signature=spec)
    return {"image_bytes": tf.reshape(results["image_bytes"], [-1])[:rows]}


def without_spectral_norm(network, plain):
    """Copies a network's weights into one made without spectral norm, kernels divided by it: same results, less work.

    Args:
        network: the trained one. plain: like it in all but `spectral_norm`.

    Returns:
        `plain`.
    """
    for source, target in zip([weight for weight in network.weights if weight.name != "u"], plain.weights):
        target.assign(source)
    for source, target in zip(network._flatten_layers(), plain._flatten_layers()):
        if isinstance(source, (layers.Conv2D, layers.Dense, layers.Embedding)):
            target.kernel.assign(source.normalized_kernel(training=False))
    return plain


def of_model(config, model):
    """The signatures of a trained model, with the moving averages of its networks' weights.

    Their batch-norm statistics are the checkpoint's, measured before it was written, so no data is needed.

    Args:
        config: its resolved `Config`. model: its `Objective`.

    Returns:
        dict of name to (function, list of tf.TensorSpec). The function takes one tensor an entry of the list and returns
        a dict of tensors. A row whose label, truncation or latent cannot be drawn has an empty `image_bytes` or a black
        `image`.
    """
    num_classes, latent_dim, resolution = model.generator.num_classes, model.generator.latent_dim, config.resolution
    plain = dataclasses.replace(config, spectral_norm=False)
    generator = without_spectral_norm(
        model.ema_generator, build.make_generator(plain, num_classes, initializer="zeros")
    )

    def draw(latent, label, valid):
        """(uint8 [N, R, R, 3], bool [N]); rows that are not valid are black. valid: bool [N], or True for all."""
        valid &= tf.reduce_all(tf.math.is_finite(latent), -1)
        latent = tf.where(valid[:, None], latent, 0.0)
        if label:
            valid &= (label[0] >= 0) & (label[0] < num_classes)
            # On a CPU a label that is not there would fail the batch.
            label = [tf.where(valid, label[0], 0)]
        picture = generator(latent, *label)
        valid &= tf.reduce_all(tf.math.is_finite(picture), [1, 2, 3])
        return images.to_uint8(tf.where(valid[:, None, None, None], picture, -1.0)), valid

    def draw_png(latent, label, valid):
        image, valid = draw(latent, label, valid)
        return {"image_bytes": tf.where(valid, tf.io.encode_png(image), "")}

    def sample_chunk(seed, truncation, *label):
        valid = truncation > 0.0  # false for NaN
        latent = prior.latents_of_seeds(seed, tf.where(valid, truncation, 1.0), latent_dim)
        return draw_png(latent, label, valid)

    def decode(latent, *label):
        return {"image": draw(latent, label, True)[0]}

    seed = tf.TensorSpec([None], tf.int64, "seed")
    truncation = tf.TensorSpec([None], tf.float32, "truncation")
    label = [tf.TensorSpec([None], tf.int32, "label")] if num_classes else []
    latent = tf.TensorSpec([None, latent_dim], tf.float32, "z")
    image = tf.TensorSpec([None, resolution, resolution, 3], tf.uint8, "image")
    signatures = {
        "sample": (lambda *x: in_chunks(sample_chunk, *x), [seed, truncation, *label]),
        "decode": (decode, [latent, *label]),
    }
    if model.encode:
        encoder = without_spectral_norm(
            model.ema_discriminator, build.make_discriminator(plain, num_classes, initializer="zeros")
        )

        def encode(image):
            return dict(zip(("mean", "log_variance"), model.encode(images.to_model_range(image), encoder=encoder)))

        def reconstruct_chunk(image, *label):
            return draw_png(encode(image)["mean"], label, True)

        signatures["encode"] = (encode, [image])
        signatures["reconstruct"] = (lambda *x: in_chunks(reconstruct_chunk, *x), [image, *label])
    return signatures

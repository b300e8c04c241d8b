"""A convolutional network with fixed random weights: an extractor that was not trained on any dataset.

Naeem et al. (arXiv 2002.09797, section 4): features of an untrained VGG-16 whose second fully connected layer has 64 outputs
tell pictures apart that are far from ImageNet's. (The layout is from memory: it was not read again in the paper.) Two departures:
images of 64 px in place of 224, at a twelfth of the cost, and one seed for everybody, for other weights are another extractor.
"""

import hashlib

import numpy as np

from tfvae.scoring.kinds import Extractor

SEED = 0
SIDE = 64
BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # VGG-16: (channels, convolutions) between poolings
HIDDEN, FEATURES = 4096, 64
SHA256 = "158ea042876905bb9907ad40139bc4cd9e3b4491498b0f327bd8ca9e36e4fe42"


def make_weights():
    """The kernels, a list of float32 arrays: He et al.'s normal values; biases are 0. Raises: ValueError: not the usual ones."""
    draw = np.random.RandomState(SEED)  # whose values NumPy keeps from version to version
    shapes, width = [], 3
    for channels, number in BLOCKS:
        for _ in range(number):
            shapes.append((3, 3, width, channels))
            width = channels
    shapes += [(width * (SIDE // 2 ** len(BLOCKS)) ** 2, HIDDEN), (HIDDEN, FEATURES)]
    weights = [
        (draw.standard_normal(shape) * np.sqrt(2.0 / np.prod(shape[:-1]))).astype(np.float32) for shape in shapes
    ]
    digest = hashlib.sha256()
    for kernel in weights:
        digest.update(kernel)
    if digest.hexdigest() != SHA256:
        raise ValueError(
            f"the random network's weights of seed {SEED} have SHA-256 {digest.hexdigest()[:12]}… and not {SHA256[:12]}…: "
            "expected NumPy's RandomState as of versions 1 and 2."
        )
    return weights


def network(weights):
    """A function of float32 [N, 64, 64, 3] -> {"features": float32 [N, 64]}."""
    import tensorflow as tf

    def run(images):
        x, kernels = images, iter(weights)
        for _, number in BLOCKS:
            for _ in range(number):
                x = tf.nn.relu(tf.nn.conv2d(x, next(kernels), 1, "SAME"))
            x = tf.nn.max_pool2d(x, 2, 2, "VALID")
        x = tf.nn.relu(tf.matmul(tf.reshape(x, [-1, x.shape[1] * x.shape[2] * x.shape[3]]), next(kernels)))
        return {"features": tf.matmul(x, next(kernels))}

    return run


def identify(kind, folder):
    """As `Kind.identify`."""
    return kind, SHA256


def load(kind, folder):
    """As `Kind.load`."""
    import tensorflow as tf

    run = network(make_weights())
    return Extractor(kind, f"{kind.title}, seed {SEED}", SHA256, tf.function(lambda images: run(kind.prepare(images))))

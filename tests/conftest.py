"""Two logical CPUs for every test, so that replicas can be tested on any machine; small helpers."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest
import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


@pytest.fixture(scope="session")
def two_replicas():
    """One for all tests: a second MirroredStrategy in a process numbers its collectives anew and mixes them up."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@pytest.fixture(autouse=True)
def float32_policy():
    """Leaves no test with another one's precision."""
    keras.config.set_dtype_policy("float32")
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def tiny_flags():
    """Flags of a network that trains in seconds."""
    return dict(
        base_channels=4,
        latent_dim=16,
        batch_size=8,
        train_images=64,
        log_every_images=16,
        sample_every_images=0,
    )


@pytest.fixture
def make_split():
    """A function: a small split of random pictures, uint8 [n, resolution, resolution, 3]."""
    from tfvae.data.split import Split

    def make(num_images=64, resolution=32, num_classes=0, seed=0):
        draw = np.random.default_rng(seed)
        labels = draw.integers(0, max(num_classes, 1), num_images).astype(np.int32)
        return Split(
            dataset="random",
            split="train",
            resolution=resolution,
            num_images=num_images,
            num_classes=num_classes,
            class_names=tuple(f"class {i}" for i in range(num_classes)),
            images=draw.integers(0, 256, (num_images, resolution, resolution, 3)).astype(np.uint8),
            labels=labels,
        )

    return make

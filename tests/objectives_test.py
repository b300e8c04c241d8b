"""Objectives: one global batch gives one step, however many replicas share it; the losses act on the right weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfvae import experiment
from tfvae.config import Config


def train(settings, split, strategy, steps):
    """Trains from the seed and returns the objective."""
    keras.utils.set_random_seed(settings.seed)
    with strategy.scope():
        model = experiment.make_objective(settings, split.num_classes)
    replicas = strategy.num_replicas_in_sync
    dataset = strategy.distribute_datasets_from_function(
        lambda context: split.batches(settings.batch_size, settings.seed, 0, 0, 1, replicas)
    )
    model.fit(dataset, steps_per_epoch=steps, epochs=1, verbose=0, shuffle=False)
    return model


CASES = {
    "gan": dict(
        objective="gan",
        discriminator_steps=2,
        spectral_norm=True,
        augment=("color", "translation", "cutout"),
        gradient_clip_norm=1.0,
        weight_decay=1e-4,
        flip=True,
    ),
    "vae": dict(
        objective="vae",
        decoder_variance="learned",
        kl_warmup_images=100,
        gradient_clip_value=0.1,
        architecture="biggan_deep",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_two_replicas_equal_one_after_three_steps(case, make_split, tiny_flags, two_replicas):
    split = make_split(num_classes=3)
    # SGD: Adam's first steps are the gradient's sign, which turns the last digit of a gradient near 0 into a whole step.
    settings = Config(
        **tiny_flags
        | dict(optimizer="sgd", generator_learning_rate=1e-3, discriminator_learning_rate=1e-3, steps_per_execution=3)
        | CASES[case]
    ).resolve(split)
    one = train(settings, split, tf.distribute.get_strategy(), 3)
    two = train(settings, split, two_replicas, 3)
    assert int(one.step.numpy()) == int(two.step.numpy()) == 3
    for network in ("generator", "discriminator", "ema_generator"):
        for a, b in zip(getattr(one, network).weights, getattr(two, network).weights):
            a, b = np.asarray(a.value), np.asarray(b.value)
            assert np.linalg.norm(a - b) <= 1e-4 * np.linalg.norm(a) + 1e-6, (network, a, b)

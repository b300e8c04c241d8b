"""Objectives: one global batch gives one step, however many replicas share it; the losses act on the right weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from objectives_toys import batches_of, make_model

from tfvae.config import Config
from tfvae.objectives import losses
from tfvae.training import build


def train(settings, split, strategy, steps):
    """Trains from the seed and returns the objective."""
    keras.utils.set_random_seed(settings.seed)
    with strategy.scope():
        model = build.make_objective(settings, split.num_classes)
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
        # By norm: clipped by value, an entry of a gradient that rounds to another sign would move by the whole limit.
        gradient_clip_norm=1.0,
        architecture="biggan_deep",
    ),
    "relativistic gan with lazy penalties": dict(
        objective="gan",
        loss="relativistic",
        r1_weight=1.0,
        r2_weight=0.5,
        penalty_every_steps=2,
        gradient_clip_norm=1.0,
    ),
    "soft_intro_vae": dict(objective="soft_intro_vae", fake_reconstruction_weight=0.5, gradient_clip_norm=1.0),
    "vae of optimal variance": dict(objective="vae", decoder_variance="optimal", gradient_clip_norm=1.0),
}


@pytest.mark.parametrize("case", CASES)
def test_two_replicas_equal_one_after_three_steps(case, make_split, tiny_flags, two_replicas):
    split = make_split(num_classes=3)
    # SGD: Adam's first steps are the gradient's sign, which turns the last digit of a gradient near 0 into a whole step.
    settings = build.resolve(
        Config(
            **tiny_flags
            | dict(
                optimizer="sgd", generator_learning_rate=1e-3, discriminator_learning_rate=1e-3, steps_per_execution=3
            )
            | CASES[case]
        ),
        split,
    )
    one = train(settings, split, tf.distribute.get_strategy(), 3)
    two = train(settings, split, two_replicas, 3)
    assert int(one.step.numpy()) == int(two.step.numpy()) == 3
    networks = ["generator", "discriminator", "ema_generator"] + ["ema_discriminator"] * (one.encode is not None)
    for network in networks:
        for a, b in zip(getattr(one, network).weights, getattr(two, network).weights):
            a, b = np.asarray(a.value), np.asarray(b.value)
            assert np.linalg.norm(a - b) <= 1e-4 * np.linalg.norm(a) + 1e-6, (network, a, b)


def values(weights):
    return [weight.numpy() for weight in weights]


def same(before, after):
    return [np.array_equal(a, b) for a, b in zip(before, after)]


def test_each_step_moves_its_own_network_alone(make_split, tiny_flags):
    split = make_split()
    _, model = make_model(split, tiny_flags, objective="gan", discriminator_steps=2)
    generator, discriminator = values(model.generator.trainable_weights), values(model.discriminator.trainable_weights)
    model.discriminator_step(batches_of(split, 1)[0], 0)
    assert all(same(generator, values(model.generator.trainable_weights)))
    assert not any(same(discriminator, values(model.discriminator.trainable_weights)))
    discriminator = values(model.discriminator.trainable_weights)
    model.generator_step(batches_of(split, 1)[0], 0)
    assert all(same(discriminator, values(model.discriminator.trainable_weights)))
    assert not all(same(generator, values(model.generator.trainable_weights)))
    assert int(model.discriminator_optimizer.iterations) == int(model.generator_optimizer.iterations) == 1


def test_every_discriminator_step_sees_a_batch_and_noise_of_its_own(make_split, tiny_flags):
    split = make_split()
    _, model = make_model(split, tiny_flags, objective="gan", discriminator_steps=3)
    seen, drawn = [], []
    step, normal = model.discriminator_step, model.normal
    model.discriminator_step = lambda batch, stream: seen.append(batch["image"].numpy()) or step(batch, stream)
    model.normal = lambda stream, dim: drawn.append(normal(stream, dim)) or drawn[-1]
    model.train_step(batches_of(split, 3))
    for i in range(3):
        np.testing.assert_array_equal(seen[i], split.images[8 * i : 8 * (i + 1)])
    assert len({latent.numpy().tobytes() for latent in drawn}) == 4
    assert model.images_seen == 24


def test_the_average_copies_until_its_start_and_then_decays(make_split, tiny_flags):
    split = make_split()
    settings, model = make_model(
        split, tiny_flags, objective="gan", ema_decay=0.9, ema_start_images=16, generator_learning_rate=0.01
    )
    model.train_step(batches_of(split, 1))
    first = values(model.generator.trainable_weights)
    assert all(same(first, values(model.ema_generator.trainable_weights)))
    model.train_step(batches_of(split, 1))
    for average, old, new in zip(model.ema_generator.trainable_weights, first, model.generator.trainable_weights):
        np.testing.assert_allclose(average.numpy(), 0.9 * old + 0.1 * new.numpy(), atol=1e-6)


def test_gradients_are_clipped_then_decayed(make_split, tiny_flags):
    _, model = make_model(
        make_split(),
        tiny_flags,
        optimizer="sgd",
        beta_1=0,
        generator_learning_rate=1.0,
        gradient_clip_value=0.1,
        weight_decay=0.5,
    )
    weight = tf.Variable([1.0, 2.0, -4.0])
    model.generator_optimizer = keras.optimizers.SGD(1.0)
    norm = model.update(model.generator_optimizer, [tf.constant([0.05, 3.0, -4.0])], [weight])
    np.testing.assert_allclose(weight.numpy(), [1 - 0.05 - 0.5, 2 - 0.1 - 1.0, -4 + 0.1 + 2.0], rtol=1e-6)
    np.testing.assert_allclose(norm, np.sqrt(0.05**2 + 9 + 16), rtol=1e-6)


def test_a_gradient_s_norm_is_clipped_over_the_whole_network(make_split, tiny_flags):
    _, model = make_model(make_split(), tiny_flags, gradient_clip_norm=1.0)
    weights = [tf.Variable([0.0]), tf.Variable([0.0])]
    model.update(keras.optimizers.SGD(1.0), [tf.constant([3.0]), tf.constant([4.0])], weights)
    np.testing.assert_allclose([w.numpy()[0] for w in weights], [-0.6, -0.8], rtol=1e-6)


def test_the_vae_s_loss_is_squared_error_and_weighted_kl(make_split, tiny_flags):
    split = make_split()
    _, model = make_model(split, tiny_flags, objective="vae", kl_weight=0.4, kl_warmup_images=32)
    weights = []
    for _ in range(6):
        logs = model.train_step(batches_of(split, 1))
        weights.append(float(logs["kl_weight"]))
        expected = float(logs["squared_error"]) + weights[-1] * float(logs["kl_divergence"])
        np.testing.assert_allclose(float(logs["loss"]), expected, rtol=1e-5)
    np.testing.assert_allclose(weights, [0.0, 0.1, 0.2, 0.3, 0.4, 0.4], rtol=1e-6)


def test_the_vae_s_kl_and_error_are_those_of_its_own_networks(make_split, tiny_flags):
    split = make_split()
    _, model = make_model(split, tiny_flags, objective="vae")
    image = split.images[:8].astype(np.float32) / 127.5 - 1
    mean, log_variance = (x.numpy().astype(np.float64) for x in model.encode(tf.constant(image)))
    kl = np.mean(np.sum(0.5 * (np.exp(log_variance) + mean**2 - 1 - log_variance), 1))
    noise = model.normal(1, 16).numpy()
    drawn = model.generator(tf.constant(mean + np.exp(log_variance / 2) * noise, tf.float32), training=True).numpy()
    error = np.mean(np.sum((image - drawn) ** 2, (1, 2, 3)))
    logs = model.train_step(batches_of(split, 1))
    np.testing.assert_allclose(float(logs["kl_divergence"]), kl, rtol=1e-4)
    np.testing.assert_allclose(float(logs["squared_error"]), error, rtol=1e-4)


def test_a_learned_variance_moves_towards_the_mean_squared_error(make_split, tiny_flags):
    split = make_split()
    _, model = make_model(split, tiny_flags, objective="vae", decoder_variance="learned", generator_learning_rate=0.05)
    errors, sigmas = [], []
    for _ in range(25):
        logs = model.train_step(batches_of(split, 1))
        errors.append(float(logs["squared_error"]) / (32 * 32 * 3))
        sigmas.append(float(logs["decoder_sigma"]))
    assert abs(sigmas[-1] ** 2 - errors[-1]) < 0.5 * abs(sigmas[0] ** 2 - errors[-1])


def test_the_optimal_variance_is_the_batchs_mean_squared_error(make_split, tiny_flags):
    split = make_split()
    _, model = make_model(split, tiny_flags, objective="vae", decoder_variance="optimal")
    for _ in range(3):
        logs = {name: float(value) for name, value in model.train_step(batches_of(split, 1)).items()}
        mean = logs["squared_error"] / (32 * 32 * 3)
        assert logs["decoder_sigma"] ** 2 == pytest.approx(mean, rel=1e-2)  # the soft limit adds 0.3 % to sigma here
        # D (ln sigma + ln(2 pi) / 2 + 1 / 2): the Gaussian's negative log likelihood at its optimum.
        at_optimum = 32 * 32 * 3 * (0.5 * np.log(mean) + 0.5 * np.log(2 * np.pi) + 0.5)
        assert logs["loss"] - logs["kl_divergence"] == pytest.approx(at_optimum, rel=1e-3)


def test_learning_rates_fall_to_zero_at_the_end(make_split, tiny_flags):
    changes = dict(train_images=80, learning_rate_decay_images=40, discriminator_steps=2, generator_learning_rate=1e-3)
    _, model = make_model(make_split(), tiny_flags, **changes)
    rates = []
    model.generator_optimizer.iterations.assign(1000)  # as after a change of the batch: images count, not steps
    for steps in (0, 2, 3, 4, 5):  # of 16 images
        model.images.assign(16 * steps)
        rates.append(
            (float(model.generator_optimizer.learning_rate), float(model.discriminator_optimizer.learning_rate))
        )
    np.testing.assert_allclose([rate for rate, _ in rates], [1e-3, 1e-3, 0.8e-3, 0.4e-3, 0], atol=1e-9)
    np.testing.assert_allclose([rate for _, rate in rates], [2e-4, 2e-4, 1.6e-4, 0.8e-4, 0], atol=1e-9)


def test_the_gradient_penalty_and_the_regulariser_enter_their_losses(make_split, tiny_flags):
    split = make_split()
    changes = dict(objective="gan", loss="wasserstein", gradient_penalty=10.0, orthogonal_regularization=1e-4)
    _, model = make_model(split, tiny_flags, **changes)
    expected = 1e-4 * sum(float(losses.orthogonal_penalty(w)) for w in model.generator_weights if len(w.shape) >= 2)
    np.testing.assert_allclose(float(model.regularization()), expected, rtol=1e-5)
    logs = model.train_step(batches_of(split, 1))
    assert float(logs["gradient_penalty"]) > 0
    assert not [name for name in logs if "accuracy" in name]


def test_bfloat16_keeps_weights_and_losses_in_float32(make_split, tiny_flags):
    keras.config.set_dtype_policy("mixed_bfloat16")
    split = make_split(num_classes=3)
    for flags in (
        dict(objective="gan", spectral_norm=True),
        dict(objective="gan", loss="relativistic", r1_weight=1.0, r2_weight=1.0),
        dict(objective="vae", spectral_norm=True),
        dict(objective="soft_intro_vae"),
    ):
        _, model = make_model(split, tiny_flags, **flags)
        logs = model.train_step(batches_of(split, 1))
        assert all(np.isfinite(float(value)) and value.dtype == tf.float32 for value in logs.values())
        assert {str(weight.dtype) for weight in model.weights} <= {"float32", "int64"}


def test_the_average_s_batch_statistics_are_those_of_its_own_pictures(make_split, tiny_flags):
    split = make_split(num_images=128)
    _, model = make_model(split, tiny_flags, objective="gan", ema_decay=0.5)
    model.train_step(batches_of(split, 1))
    model.measure_statistics(split.images, split.labels)
    norm = model.ema_generator.block_0.norm1
    means = []
    for i in range(2):
        latent, label = model.statistics_inputs(split.images[:64], split.labels[:64], tf.constant(i, tf.int64))
        x = model.ema_generator.linear(model.ema_generator.split_latent(latent, label)[0])
        means.append(np.mean(np.reshape(x, [-1, model.ema_generator.bottom_channels]), 0))
    np.testing.assert_allclose(norm.moving_mean.numpy(), np.mean(means, 0), atol=1e-5)
    assert norm.momentum == 0.9


@pytest.mark.parametrize("objective", ["gan", "vae"])
def test_equal_weights_draw_equal_pictures_on_any_number_of_replicas(objective, make_split, tiny_flags, two_replicas):
    split = make_split(num_images=128, num_classes=3)
    settings = build.resolve(Config(**tiny_flags | dict(objective=objective, spectral_norm=True)), split)
    measured = []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        keras.utils.set_random_seed(0)
        with strategy.scope():
            model = build.make_objective(settings, 3)
            model.measure_statistics(split.images, split.labels)
        measured.append([np.asarray(w.value) for average, _ in model.averages for w in average.weights])
    for one, two in zip(*measured):
        np.testing.assert_array_equal(one, two)


def test_a_vae_averages_both_of_its_networks(make_split, tiny_flags):
    split = make_split()
    _, model = make_model(split, tiny_flags, objective="vae", ema_decay=0.5)
    before = [w.numpy() for w in model.discriminator.trainable_weights]
    model.train_step(batches_of(split, 1))
    for average, old, new in zip(
        model.ema_discriminator.trainable_weights, before, model.discriminator.trainable_weights
    ):
        np.testing.assert_allclose(average.numpy(), 0.5 * old + 0.5 * new.numpy(), atol=1e-6)


def test_a_gan_has_no_encoder_and_averages_its_generator_alone(make_split, tiny_flags):
    _, model = make_model(make_split(), tiny_flags, objective="gan")
    assert model.encode is None and model.ema_discriminator is None
    assert [network for _, network in model.averages] == [model.generator]


def test_a_policy_that_is_named_twice_is_an_error(make_split, tiny_flags):
    with pytest.raises(ValueError, match="--augment=color,color: a policy is named twice"):
        make_model(make_split(), tiny_flags, objective="gan", augment=("color", "color"))


def test_names_of_losses_policies_and_variances_are_those_that_the_flags_list():
    from tfvae import config
    from tfvae.objectives import augment

    assert tuple(losses.ADVERSARIAL) == config.ADVERSARIAL_LOSSES
    assert tuple(augment.POLICIES) == config.AUGMENT_POLICIES

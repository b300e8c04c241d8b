"""The encoder's head, the learned variance's start, R1 and R2, the relativistic loss and Soft-IntroVAE."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from objectives_toys import batches_of, make_model

from tfvae.data.images import to_model_range
from tfvae.objectives import gan


def make(*arguments, **changes):
    return make_model(*arguments, **changes)[1]


# The encoder.


@pytest.mark.parametrize(("resolution", "side"), [(32, 4), (45, 5)])
def test_a_flattened_head_takes_the_last_map_with_its_positions(resolution, side, make_split, tiny_flags):
    split = make_split(2, resolution)
    flattened = make(split, tiny_flags, objective="vae").discriminator
    pooled = make(split, tiny_flags, objective="vae", encoder_head="pool").discriminator
    assert flattened.linear.kernel.shape == (side * side * 8 * 4, 2 * 16)
    assert pooled.linear.kernel.shape == (8 * 4, 2 * 16)


def test_a_flattened_head_tells_mirrored_maps_apart_and_a_sum_does_not(make_split, tiny_flags):
    """The last map of a picture of one colour is nearly the same everywhere; so the map itself is given, and mirrored."""
    last_map = np.random.default_rng(0).random((2, 4, 4, 32)).astype(np.float32)
    results = {}
    for head in ("flatten", "pool"):
        encoder = make(make_split(), tiny_flags, objective="vae", encoder_head=head).discriminator
        encoder.stem, encoder.blocks = None, []
        results[head] = [encoder(tf.constant(m)).numpy() for m in (last_map, last_map[:, :, ::-1])]
    assert np.abs(results["flatten"][0] - results["flatten"][1]).max() > 1e-2
    np.testing.assert_allclose(*results["pool"], atol=1e-5)


def test_a_learned_variance_starts_from_the_first_batch_s_optimum(make_split, tiny_flags):
    split = make_split()
    model = make(split, tiny_flags, objective="vae", decoder_variance="learned")
    (batch,) = batches_of(split, 1)
    logs = model.train_step((batch,))
    optimum = np.sqrt(float(logs["squared_error"]) / (32 * 32 * 3))
    np.testing.assert_allclose(float(logs["decoder_sigma"]), optimum, rtol=0.02)  # softly bounded below
    before = float(model.log_sigma.numpy())
    model.train_step(batches_of(split, 1))
    assert abs(float(model.log_sigma.numpy()) - before) < 1e-2, "from then on it moves by its optimizer alone"


# R1 and R2.


class Linear(keras.Model):
    """Logit w . x of a picture x: its gradient by the picture is w everywhere."""

    num_classes = 0

    def __init__(self):
        super().__init__(autocast=False)
        draw = np.random.default_rng(0).normal(size=(32 * 32 * 3, 1)).astype(np.float32)
        self.kernel = self.add_weight(shape=draw.shape, initializer=lambda *_, **__: draw)
        self.built = True

    def call(self, image, label=None, training=False):
        return tf.matmul(tf.reshape(image, [-1, 32 * 32 * 3]), self.kernel.value)


def linear_gan(make_split, tiny_flags, **options):
    networks = make(make_split(), tiny_flags, objective="gan")
    model = gan.GAN(networks.generator, Linear(), networks.ema_generator, None, global_batch_size=8, **options)
    model.compile(keras.optimizers.SGD(0.0), keras.optimizers.SGD(0.0))
    return model


def test_r1_and_r2_of_a_linear_discriminator_are_its_squared_weights(make_split, tiny_flags):
    model = linear_gan(make_split, tiny_flags, r1_weight=2.0, r2_weight=0.5)
    kernel = model.discriminator.kernel.numpy()
    pictures = tf.random.stateless_uniform([8, 32, 32, 3], [0, 0])
    (gradient,) = model.penalty_gradients([(pictures, None), (pictures, None)], 0)
    # d/dw of (2.0 / 2 + 0.5 / 2) |w|^2.
    np.testing.assert_allclose(gradient, 2.5 * kernel, rtol=1e-4)
    np.testing.assert_allclose(model.newest_penalties.numpy(), [np.sum(kernel**2)] * 2, rtol=1e-4)


def test_lazy_penalties_come_every_so_many_steps_with_so_many_times_their_weight(make_split, tiny_flags):
    model = linear_gan(make_split, tiny_flags, r1_weight=2.0, penalty_every_steps=3, discriminator_steps=2)
    kernel = model.discriminator.kernel.numpy()
    pictures = tf.random.stateless_uniform([8, 32, 32, 3], [0, 0])
    sizes = []
    for step in range(3):
        model.step.assign(step)
        for i in range(2):
            (gradient,) = model.penalty_gradients([(pictures, None), (pictures, None)], i)
            sizes.append(np.linalg.norm(gradient) / np.linalg.norm(kernel))
    # Discriminator steps 0 to 5; d/dw of 3 x 2.0 / 2 |w|^2 is 6 w.
    np.testing.assert_allclose(sizes, [6, 0, 0, 6, 0, 0], rtol=1e-4)
    np.testing.assert_allclose(model.newest_penalties.numpy()[0], np.sum(kernel**2), rtol=1e-4)


def test_penalties_have_the_slope_that_finite_differences_give(make_split, tiny_flags):
    split = make_split()
    model = make(split, tiny_flags, objective="gan", r1_weight=1.0, r2_weight=1.0, augment=("color",))
    # Smooth: where a ReLU switches, the penalty jumps, which no gradient shows and finite differences do.
    for part in (model.discriminator, *model.discriminator.blocks):
        part.activation = tf.nn.softplus
    real, fake = (to_model_range(batch["image"]) for batch in batches_of(split, 2))
    pictures = [(real, None), (fake, None)]
    gradients = [g.numpy() for g in model.penalty_gradients(pictures, 0)]
    length = np.sqrt(sum(np.sum(g**2) for g in gradients))

    def value_at(move):
        for weight, gradient in zip(model.discriminator_weights, gradients):
            weight.assign_add(move * gradient / length)
        model.penalty_gradients(pictures, 0)
        for weight, gradient in zip(model.discriminator_weights, gradients):
            weight.assign_sub(move * gradient / length)
        return 0.5 * float(np.sum(model.newest_penalties.numpy()))

    step = 3e-3
    slope = (value_at(step) - value_at(-step)) / (2 * step)
    np.testing.assert_allclose(slope, length, rtol=0.03)


def test_a_step_without_penalties_has_none_of_their_operations(make_split, tiny_flags):
    split = make_split()
    logs = make(split, tiny_flags, objective="gan").train_step(batches_of(split, 1))
    assert "r1" not in logs
    logs = make(split, tiny_flags, objective="gan", r1_weight=1.0).train_step(batches_of(split, 1))
    assert float(logs["r1"]) > 0 and float(logs["r2"]) == 0


# The relativistic loss.


def test_a_drawn_image_of_a_pair_has_the_real_one_s_label(make_split, tiny_flags, monkeypatch):
    split = make_split(num_classes=3)
    model = make(split, tiny_flags, objective="gan", loss="relativistic", discriminator_steps=2)
    drawn, draw = [], model.generator.call
    monkeypatch.setattr(model.generator, "call", lambda z, label=None, **k: drawn.append(label) or draw(z, label, **k))
    batches = batches_of(split, 2)
    logs = model.train_step(batches)
    # Two discriminator steps, and the generator's, which uses the last real batch again.
    for label, batch in zip(drawn, [batches[0], batches[1], batches[1]]):
        np.testing.assert_array_equal(label, batch["label"])
    assert len(drawn) == 3 and model.images_seen == 16
    assert not [name for name in logs if "accuracy" in name]


# Soft-IntroVAE.


@pytest.mark.parametrize("num_classes", [0, 3])
def test_soft_intro_vae_has_the_losses_of_its_equations(num_classes, make_split, tiny_flags):
    """Against a recomputation in NumPy from the networks' outputs; the rates are 0, so both steps see the same weights."""
    split = make_split(num_classes=num_classes)
    model = make(
        split,
        tiny_flags,
        objective="soft_intro_vae",
        optimizer="sgd",
        generator_learning_rate=0.0,
        discriminator_learning_rate=0.0,
        kl_weight=0.7,
        fake_kl_weight=3.0,
        fake_reconstruction_weight=0.4,
    )
    (batch,) = batches_of(split, 1)
    noise = [model.normal(stream, 16).numpy() for stream in range(8)]
    labels = [batch["label"], model.labels(3)] if num_classes else [None, None]
    logs = model.train_step((batch,))

    def encode(image):
        mean, log_variance = (x.numpy().astype(np.float64) for x in model.encode(tf.constant(image)))
        return mean, log_variance, 0.5 * np.sum(np.exp(log_variance) + mean**2 - 1.0 - log_variance, 1)

    def decode(latent, label):
        return model.generator(tf.constant(latent, tf.float32), label, training=True).numpy()

    def error(a, b):
        return np.sum(((a - b) / 2.0) ** 2, (1, 2, 3))

    def code(image, noise):
        mean, log_variance, kl = encode(image)
        return mean + np.exp(0.5 * log_variance) * noise, kl

    real, s = to_model_range(batch["image"]).numpy(), 1.0 / (32 * 32 * 3)
    latent, kl_real = code(real, noise[1])
    made = [decode(latent, labels[0]), decode(noise[2], labels[1])]
    exponentials, kls, again = [], [], []
    for i, (y, label) in enumerate(zip(made, labels)):
        z, kl = code(y, noise[4 + i])
        kls.append(kl)
        exponentials.append(np.exp(-2.0 * s * (error(y, decode(z, label)) + 3.0 * kl)))
        z, _ = code(y, noise[6 + i])
        again.append(error(y, decode(z, label)))
    encoder = s * (error(real, made[0]) + 0.7 * kl_real) + 0.25 * sum(exponentials)
    decoder = s * (error(real, made[0]) + 0.5 * 0.7 * sum(kls) + 0.5 * 0.4 * sum(again))
    expected = {
        "encoder_loss": encoder,
        "decoder_loss": decoder,
        "squared_error": error(real, made[0]),
        "kl_real": kl_real,
        "kl_reconstructed": kls[0],
        "kl_fake": kls[1],
        "kl_fake_minus_kl_real": kls[1] - kl_real,
        "exponential_elbo_reconstructed": exponentials[0],
        "exponential_elbo_fake": exponentials[1],
    }
    for name, value in expected.items():
        np.testing.assert_allclose(float(logs[name]), value.mean(), rtol=2e-3, err_msg=name)


def test_soft_intro_vae_moves_the_encoder_first_and_each_network_by_its_own_loss(make_split, tiny_flags, monkeypatch):
    split = make_split()
    model = make(split, tiny_flags, objective="soft_intro_vae")
    moved, update = [], model.update
    monkeypatch.setattr(model, "update", lambda o, g, w: moved.append([id(x) for x in w]) or update(o, g, w))
    encoder = [w.numpy() for w in model.discriminator.trainable_weights]
    model.train_step(batches_of(split, 1))
    assert moved == [[id(w) for w in model.discriminator_weights], [id(w) for w in model.generator_weights]]
    assert any(np.abs(w.numpy() - old).max() > 0 for w, old in zip(model.discriminator.trainable_weights, encoder))


def test_without_its_weight_pictures_are_not_decoded_again(make_split, tiny_flags, monkeypatch):
    split = make_split()
    numbers = {}
    for weight in (0.0, 0.5):
        model = make(split, tiny_flags, objective="soft_intro_vae", fake_reconstruction_weight=weight)
        calls, decode = [], model.decode
        monkeypatch.setattr(model, "decode", lambda *a, calls=calls, decode=decode: calls.append(1) or decode(*a))
        model.train_step(batches_of(split, 1))
        numbers[weight] = len(calls)
    assert numbers == {0.0: 6, 0.5: 8}


def test_the_average_decoder_s_statistics_are_of_half_prior_and_half_posterior_codes(make_split, tiny_flags):
    split = make_split(64)
    model = make(split, tiny_flags, objective="soft_intro_vae")
    latent, label = model.statistics_inputs(split.images[:64], split.labels[:64], tf.constant(0, tf.int64))
    mean, log_variance = model.encode(to_model_range(split.images[:64]), encoder=model.ema_discriminator)
    assert label is None and latent.shape == (64, 16)
    deviation = np.abs((latent - mean) / np.exp(0.5 * log_variance))
    assert deviation[:32].mean() < 1.2, "of the posterior"
    other = model.statistics_inputs(split.images[::-1][:64], split.labels[:64], tf.constant(0, tf.int64))[0]
    np.testing.assert_array_equal(latent[32:], other[32:])  # of the prior, whatever the images are
    assert np.abs(latent[:32] - other[:32]).max() > 0

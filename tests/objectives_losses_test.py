"""Losses and augmentations: values by hand, by NumPy loops and by numerical integration."""

import numpy as np
import pytest
import tensorflow as tf

from tfvae.objectives import augment, losses

REAL = np.array([-2.0, -0.5, 0.0, 0.5, 3.0], np.float32)
FAKE = np.array([1.0, -3.0, 0.0, 2.0, -0.25], np.float32)


def assert_close(actual, expected, tolerance=1e-5):
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=tolerance, atol=tolerance)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# Adversarial losses.


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x.astype(np.float64)))


EXPECTED = {
    "vanilla": (lambda x, y: -np.log(sigmoid(x)) - np.log(1.0 - sigmoid(y)), lambda x, y: -np.log(sigmoid(y))),
    "hinge": (lambda x, y: np.maximum(0.0, 1.0 - x) + np.maximum(0.0, 1.0 + y), lambda x, y: -y),
    "least_squares": (lambda x, y: ((x - 1.0) ** 2 + y**2) / 2.0, lambda x, y: (y - 1.0) ** 2 / 2.0),
    "wasserstein": (lambda x, y: y - x, lambda x, y: -y),
    "relativistic": (lambda x, y: -np.log(sigmoid(x - y)), lambda x, y: -np.log(sigmoid(y - x))),
}


def test_every_adversarial_loss_has_an_expected_value_here():
    assert EXPECTED.keys() == losses.ADVERSARIAL.keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_adversarial_losses_are_one_value_an_example(name):
    for loss, expected in zip(losses.ADVERSARIAL[name], EXPECTED[name]):
        actual = loss(tf.constant(REAL), tf.constant(FAKE))
        assert actual.shape == (5,) and actual.dtype == tf.float32
        assert_close(actual, expected(REAL, FAKE))


def test_vanilla_loss_and_its_gradient_are_right_at_logits_of_a_thousand():
    real, fake = tf.constant([1000.0, -1000.0, 1000.0]), tf.constant([-1000.0, 1000.0, 1000.0])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([real, fake])
        discriminator, generator = losses.vanilla_discriminator(real, fake), losses.vanilla_generator(real, fake)
    np.testing.assert_array_equal(discriminator, [0.0, 2000.0, 1000.0])
    np.testing.assert_array_equal(generator, [1000.0, 0.0, 0.0])
    np.testing.assert_array_equal(tape.gradient(discriminator, real), [0.0, -1.0, 0.0])
    np.testing.assert_array_equal(tape.gradient(discriminator, fake), [0.0, 1.0, 1.0])
    # The point of the non-saturating form: a confident discriminator leaves the generator its gradient.
    np.testing.assert_array_equal(tape.gradient(generator, fake), [-1.0, 0.0, 0.0])


def test_gradient_penalty_is_the_squared_distance_of_the_norm_from_one():
    gradient = normal(4, 3, 5, 2)
    norms = [np.sqrt(sum(float(v) ** 2 for v in row.ravel())) for row in gradient]
    assert_close(losses.gradient_penalty(gradient), [(n - 1.0) ** 2 for n in norms])


def test_squared_gradient_sums_over_pixels_and_channels():
    gradient = normal(4, 3, 5, 2)
    assert_close(losses.squared_gradient(gradient), [sum(float(v) ** 2 for v in row.ravel()) for row in gradient])


def test_gradient_penalty_has_a_finite_gradient_at_zero():
    gradient = tf.zeros([1, 2, 2, 3])
    with tf.GradientTape() as tape:
        tape.watch(gradient)
        penalty = losses.gradient_penalty(gradient)
    assert_close(penalty, [1.0])
    assert np.isfinite(tape.gradient(penalty, gradient)).all()


# The VAE's losses.


def test_squared_error_sums_over_pixels_and_channels():
    a, b = normal(3, 4, 5, 2), normal(3, 4, 5, 2, seed=1)
    expected = [sum(float(x - y) ** 2 for x, y in zip(a[i].ravel(), b[i].ravel())) for i in range(3)]
    assert_close(losses.squared_error(a, b), expected)


@pytest.mark.parametrize("sigma", [0.1, 1.0, 3.0])
def test_gaussian_negative_log_likelihood_is_minus_the_log_density(sigma):
    image, reconstruction = normal(2, 3, 3, 2), normal(2, 3, 3, 2, seed=1)
    density = np.exp(-0.5 * (np.float64(image - reconstruction) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
    error = losses.squared_error(image, reconstruction)
    actual = losses.gaussian_negative_log_likelihood(error, 18.0, tf.math.log(sigma))
    assert_close(actual, -np.log(density).sum((1, 2, 3)))


def test_gaussian_negative_log_likelihood_is_least_where_sigma_squared_is_the_mean_squared_error():
    log_sigma = tf.constant(0.5 * np.log(7.2 / 18.0), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(log_sigma)
        loss = losses.gaussian_negative_log_likelihood(tf.constant([7.2]), 18.0, log_sigma)
    assert_close(tape.gradient(loss, log_sigma), 0.0)


def test_kl_divergence_is_the_integral_of_p_log_p_over_q():
    mean, log_variance = np.array([[0.0, 1.5, -2.0]]), np.array([[0.0, -3.0, 1.0]])
    z = np.linspace(-25.0, 25.0, 200001)[:, None, None]
    log_p = -0.5 * (np.log(2 * np.pi) + log_variance + (z - mean) ** 2 / np.exp(log_variance))
    log_q = -0.5 * (np.log(2 * np.pi) + z**2)
    expected = np.trapezoid(np.exp(log_p) * (log_p - log_q), z[:, 0, 0], axis=0)
    actual = losses.kl_divergence(tf.constant(mean, tf.float32), tf.constant(log_variance, tf.float32))
    assert actual.shape == (1, 3), "one value a dimension"
    assert_close(actual, expected)
    assert actual[0, 0] == 0.0, "no divergence from itself"


@pytest.mark.parametrize("shape", [(6, 4), (3, 3, 2, 4)])
def test_orthogonal_penalty_sums_squared_products_of_different_columns(shape):
    kernel = normal(*shape)
    columns = kernel.reshape(-1, 4).T.astype(np.float64)
    expected = sum((columns[i] @ columns[j]) ** 2 for i in range(4) for j in range(4) if i != j)
    assert_close(losses.orthogonal_penalty(tf.constant(kernel)), expected)


def test_orthogonal_penalty_does_not_limit_the_norms_of_orthogonal_columns():
    columns = np.linalg.qr(normal(6, 4))[0] * [1.0, 5.0, 0.1, 10.0]
    assert_close(losses.orthogonal_penalty(tf.constant(columns, tf.float32)), 0.0, 1e-6)


# Augmentation.


def uniform(batch, seed=1):
    return np.random.default_rng(seed).uniform(size=(batch, 3)).astype(np.float32)


CORNERS = np.array([[0, 0, 0], [0.999999, 0, 0], [0, 0.999999, 0], [0.999999, 0.999999, 0.999999]], np.float32)


def numpy_color(image, numbers):
    out = []
    for picture, (brightness, saturation, contrast) in zip(image.astype(np.float64), numbers.astype(np.float64)):
        picture = picture + brightness - 0.5
        grey = picture.mean(-1, keepdims=True)
        picture = grey + (picture - grey) * 2.0 * saturation
        out.append(picture.mean() + (picture - picture.mean()) * (contrast + 0.5))
    return np.stack(out)


def numpy_translation(image, numbers):
    size = image.shape[1]
    reach = int(size * 0.125 + 0.5)
    out = np.zeros_like(image)
    for b in range(len(image)):
        down, right = (int(n * (2 * reach + 1)) - reach for n in numbers[b, :2])
        for i in range(size):
            for j in range(size):
                if 0 <= i + down < size and 0 <= j + right < size:
                    out[b, i, j] = image[b, i + down, j + right]
    return out


def numpy_cutout(image, numbers):
    """As the authors' code: a square of indices about the centre, those outside put on the edge."""
    size = image.shape[1]
    side = int(size * 0.5 + 0.5)
    out = image.copy()
    for b in range(len(image)):
        row, column = (int(n * (size + (1 - side % 2))) for n in numbers[b, :2])
        for i in range(side):
            for j in range(side):
                out[b, min(max(row + i - side // 2, 0), size - 1), min(max(column + j - side // 2, 0), size - 1)] = 0.0
    return out


NUMPY = {"color": numpy_color, "translation": numpy_translation, "cutout": numpy_cutout}


def test_every_augmentation_has_a_numpy_form_here():
    assert NUMPY.keys() == augment.POLICIES.keys()


@pytest.mark.parametrize("size", [16, 13], ids=["even", "odd"])
@pytest.mark.parametrize("name", NUMPY)
def test_augmentation_equals_a_numpy_loop(name, size):
    numbers = np.concatenate([uniform(12), CORNERS])
    image = normal(len(numbers), size, size, 3)
    actual = augment.POLICIES[name](tf.constant(image), tf.constant(numbers))
    assert actual.dtype == tf.float32
    assert_close(actual, NUMPY[name](image, numbers))


def test_translation_reaches_an_eighth_of_the_side_both_ways_and_no_further():
    image = np.arange(1, 257, dtype=np.float32).reshape(1, 16, 16, 1).repeat(4, 0)
    out = augment.translation(tf.constant(image), tf.constant(CORNERS)).numpy()
    for b, (down, right) in enumerate([(-2, -2), (2, -2), (-2, 2), (2, 2)]):
        black = np.zeros([16, 16], bool)
        black[: 2 if down < 0 else 0] = black[16 - 2 if down > 0 else 16 :] = True
        black[:, : 2 if right < 0 else 0] = black[:, 16 - 2 if right > 0 else 16 :] = True
        np.testing.assert_array_equal(out[b, :, :, 0] == 0.0, black)


def test_color_at_its_middle_changes_nothing():
    image = normal(2, 8, 8, 3)
    assert_close(augment.color(image, tf.fill([2, 3], 0.5)), image)


@pytest.mark.parametrize("name", NUMPY)
def test_augmentation_of_one_picture_does_not_depend_on_the_others(name):
    image, numbers = normal(3, 8, 8, 3), uniform(3)
    alone = augment.POLICIES[name](tf.constant(image[1:2]), tf.constant(numbers[1:2]))
    assert_close(augment.POLICIES[name](tf.constant(image), tf.constant(numbers))[1:2], alone)


@pytest.mark.parametrize("name", ["translation", "cutout"])
def test_gradient_reaches_exactly_the_pixels_that_the_augmentation_keeps(name):
    image, numbers = tf.constant(1.0 + normal(4, 8, 8, 3) ** 2), tf.constant(uniform(4))
    places = tf.reshape(tf.range(4 * 8 * 8 * 3, dtype=tf.float32) + 1.0, [4, 8, 8, 3])
    with tf.GradientTape() as tape:
        tape.watch(image)
        loss = tf.reduce_sum(augment.POLICIES[name](image, numbers))
    kept = set(augment.POLICIES[name](places, numbers).numpy().ravel()) - {0.0}
    expected = np.array([float(p in kept) for p in places.numpy().ravel()]).reshape(4, 8, 8, 3)
    assert 0 < expected.sum() < expected.size
    np.testing.assert_array_equal(tape.gradient(loss, image), expected)


def test_gradient_of_color_equals_finite_differences():
    image, numbers, factors = normal(2, 3, 3, 3), uniform(2), normal(2, 3, 3, 3, seed=4)
    x = tf.constant(image)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(augment.color(x, tf.constant(numbers)) * factors)
    expected = np.zeros(image.shape)
    for place in np.ndindex(*image.shape):
        step = np.zeros(image.shape)
        step[place] = 1e-3  # color is linear in the picture, so the step need not be small
        difference = numpy_color(image + step, numbers) - numpy_color(image - step, numbers)
        expected[place] = np.sum(factors * difference) / 2e-3
    assert_close(tape.gradient(loss, x), expected)


@pytest.mark.parametrize("name", NUMPY)
def test_augmentation_keeps_its_shape_in_a_graph_with_an_unknown_batch(name):
    signature = [tf.TensorSpec([None, 8, 8, 3]), tf.TensorSpec([None, 3])]
    function = tf.function(augment.POLICIES[name], input_signature=signature)
    image, numbers = tf.constant(normal(5, 8, 8, 3)), tf.constant(uniform(5))
    assert_close(function(image, numbers), augment.POLICIES[name](image, numbers))

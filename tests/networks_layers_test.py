"""Layers: the folded resampling, spectral norm, batch norm and attention against their textbook forms."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfvae.networks import layers


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def assert_close(actual, expected, tolerance=1e-5):
    """Equal shapes, and differences below `tolerance` of the largest entry (or of 1)."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    error = np.abs(actual - expected).max()
    assert error <= tolerance * max(1.0, np.abs(expected).max()), error


# Convolution.


def textbook_convolution(x, kernel, bias, resample):
    if resample == "up":
        x = tf.repeat(tf.repeat(x, 2, axis=1), 2, axis=2)
    x = tf.nn.conv2d(x, kernel, 1, "SAME") + bias
    return tf.nn.avg_pool2d(x, 2, 2, "VALID") if resample == "down" else x


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (6, 5)], ids=["even", "odd", "mixed"])
@pytest.mark.parametrize("kernel_size", [1, 3])
@pytest.mark.parametrize("resample", [None, "up", "down"])
def test_convolution_equals_resampling_and_convolution_in_turn(resample, kernel_size, size):
    layer = layers.Conv2D(3, 4, kernel_size, resample)
    layer.kernel.assign(normal(kernel_size, kernel_size, 3, 4))
    layer.bias.assign(normal(4, seed=1))
    x = tf.Variable(normal(2, *size, 3, seed=2))
    weights = [x, layer.kernel.value, layer.bias.value]
    with tf.GradientTape(persistent=True) as tape:
        actual = layer(x)
        expected = textbook_convolution(*weights, resample)
        factors = normal(*expected.shape, seed=3)
        actual_sum, expected_sum = tf.reduce_sum(actual * factors), tf.reduce_sum(expected * factors)
    assert_close(actual, expected)
    for a, b in zip(tape.gradient(actual_sum, weights), tape.gradient(expected_sum, weights)):
        assert_close(a, b)


def test_upsample_repeats_and_downsample_averages():
    x = np.arange(12, dtype=np.float32).reshape(1, 3, 4, 1)
    np.testing.assert_array_equal(layers.upsample(x), x.repeat(2, 1).repeat(2, 2))
    # Rows 0 and 1 are averaged, the odd row 2 is dropped.
    np.testing.assert_array_equal(layers.downsample(x)[0, :, :, 0], [[2.5, 4.5]])


def test_resize_nearest_takes_pixel_floor_of_i_times_32_over_45():
    x = np.arange(32 * 32, dtype=np.float32).reshape(1, 32, 32, 1)
    y = layers.resize_nearest(tf.constant(x), 45).numpy()
    assert y.shape == (1, 45, 45, 1)
    for i in range(45):
        for j in range(45):
            assert y[0, i, j, 0] == x[0, int(np.floor(i * 32 / 45)), int(np.floor(j * 32 / 45)), 0]
    assert set(y.ravel()) == set(x.ravel()), "a pixel was lost"


# Spectral norm.


def with_singular_values(rows, values, seed=0):
    """[rows, len(values)] matrix of the given singular values."""
    left = np.linalg.qr(normal(rows, len(values), seed=seed))[0]
    right = np.linalg.qr(normal(len(values), len(values), seed=seed + 1))[0]
    return (left * np.asarray(values, np.float32)) @ right


def spectral_convolution():
    layer = layers.Conv2D(4, 5, 3, spectral_norm=True)
    layer.kernel.assign(with_singular_values(36, [3.0, 2.0, 1.0, 0.5, 0.1]).reshape(3, 3, 4, 5))
    return layer


def test_sigma_is_the_largest_singular_value_after_many_training_calls():
    layer = spectral_convolution()
    kernel, x = layer.kernel.numpy(), normal(1, 4, 4, 4)
    for _ in range(40):
        layer(x, training=True)
    sigma = np.linalg.svd(kernel.reshape(-1, 5), compute_uv=False)[0]
    assert_close(layer.normalized_kernel(False), kernel / sigma)
    assert_close(layer(x), tf.nn.conv2d(x, kernel / sigma, 1, "SAME"))


@pytest.mark.parametrize("training", [False, True])
def test_spectral_norm_never_overwrites_the_kernel(training):
    layer = spectral_convolution()
    before = layer.kernel.numpy()
    layer(normal(1, 4, 4, 4), training=training)
    np.testing.assert_array_equal(layer.kernel.numpy(), before)


def test_u_changes_in_training_calls_only_and_is_not_trained():
    layer = spectral_convolution()
    x, start = normal(1, 4, 4, 4), layer.u.numpy()
    layer(x)
    np.testing.assert_array_equal(layer.u.numpy(), start)
    layer(x, training=True)
    assert np.abs(layer.u.numpy() - start).max() > 1e-2
    assert_close(np.linalg.norm(layer.u.numpy()), 1.0)
    assert [w.name for w in layer.trainable_weights] == ["kernel", "bias"]


def test_one_training_call_is_one_power_iteration():
    layer = spectral_convolution()
    matrix, u = layer.kernel.numpy().reshape(-1, 5).astype(np.float64), layer.u.numpy()
    v = matrix @ u
    v /= np.linalg.norm(v)
    u = matrix.T @ v
    u /= np.linalg.norm(u)
    assert_close(layer.normalized_kernel(True), (matrix / (v.T @ matrix @ u)).reshape(3, 3, 4, 5))
    assert_close(layer.u.numpy(), u)


@pytest.mark.parametrize("training", [False, True])
def test_gradient_flows_through_sigma_with_u_and_v_held(training):
    layer = layers.Dense(6, 4, spectral_norm=True, use_bias=False)
    matrix = with_singular_values(6, [3.0, 2.0, 1.0, 0.5])
    layer.kernel.assign(matrix)
    factors = normal(6, 4, seed=5)
    before = layer.u.numpy()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer.normalized_kernel(training) * factors)
    gradient = tape.gradient(loss, layer.kernel.value)
    v = matrix @ before
    v /= np.linalg.norm(v)
    u = layer.u.numpy()
    u /= np.linalg.norm(u)  # its first value, a draw, has any length
    sigma = (v.T @ matrix @ u).item()
    # d(W / sigma) with sigma = v^T W u.
    assert_close(gradient, factors / sigma - np.sum(factors * matrix) / sigma**2 * (v @ u.T))


def test_gradient_of_a_converged_spectral_norm_equals_finite_differences():
    layer = layers.Dense(6, 4, spectral_norm=True, use_bias=False)
    matrix = with_singular_values(6, [3.0, 2.0, 1.0, 0.5]).astype(np.float64)
    layer.kernel.assign(matrix)
    for _ in range(40):
        layer.normalized_kernel(True)
    factors = normal(6, 4, seed=5).astype(np.float64)

    def loss(w):
        return np.sum(factors * w / np.linalg.svd(w, compute_uv=False)[0])

    expected = np.zeros_like(matrix)
    for place in np.ndindex(*matrix.shape):
        step = np.zeros_like(matrix)
        step[place] = 1e-5
        expected[place] = (loss(matrix + step) - loss(matrix - step)) / 2e-5
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(layer.normalized_kernel(False) * factors.astype(np.float32))
    assert_close(tape.gradient(value, layer.kernel.value), expected)


def test_embedding_with_spectral_norm_looks_up_rows_of_the_normalized_matrix():
    layer = layers.Embedding(6, 4, spectral_norm=True)
    matrix = with_singular_values(6, [3.0, 2.0, 1.0, 0.5])
    layer.kernel.assign(matrix)
    for _ in range(40):
        layer(tf.constant([0]), training=True)
    assert_close(layer(tf.constant([4, 0, 4])), matrix[[4, 0, 4]] / 3.0)


# Batch norm.


def numpy_moments(x):
    """Mean, biased and unbiased variance of the channels, float64."""
    x = x.astype(np.float64).reshape(-1, x.shape[-1])
    return x.mean(0), x.var(0), x.var(0, ddof=1)


def test_plain_batch_norm_in_training_uses_the_batch_and_moves_the_statistics():
    layer = layers.BatchNorm(3)
    x, gain, offset = 2.0 + 3.0 * normal(4, 5, 6, 3), normal(3, seed=1), normal(3, seed=2)
    layer.gain.assign(gain)
    layer.offset.assign(offset)
    mean, biased, unbiased = numpy_moments(x)
    assert_close(layer(x, training=True), (x - mean) / np.sqrt(biased + 1e-5) * gain + offset)
    assert_close(layer.moving_mean.numpy(), 0.1 * mean)
    assert_close(layer.moving_variance.numpy(), 0.9 + 0.1 * unbiased)
    layer(x, training=True)
    assert_close(layer.moving_mean.numpy(), (1 - 0.9**2) * mean)
    assert_close(layer.moving_variance.numpy(), 0.9**2 + (1 - 0.9**2) * unbiased)


def test_plain_batch_norm_in_evaluation_uses_and_keeps_the_moving_statistics():
    layer = layers.BatchNorm(3)
    x, mean, variance = normal(4, 5, 6, 3), normal(3, seed=1), np.array([0.5, 2.0, 4.0], np.float32)
    layer.moving_mean.assign(mean)
    layer.moving_variance.assign(variance)
    assert_close(layer(x), (x - mean) / np.sqrt(variance + 1e-5))
    np.testing.assert_array_equal(layer.moving_mean.numpy(), mean)
    np.testing.assert_array_equal(layer.moving_variance.numpy(), variance)


@pytest.mark.parametrize("training", [False, True])
def test_conditional_batch_norm_has_gain_one_plus_w_h_and_bias_w_h(training):
    layer = layers.BatchNorm(3, condition_dim=5)
    gain, offset = normal(5, 3, seed=1), normal(5, 3, seed=2)
    layer.gain_dense.kernel.assign(gain)
    layer.offset_dense.kernel.assign(offset)
    x, condition = 2.0 + 3.0 * normal(4, 5, 6, 3), normal(4, 5, seed=3)
    mean, variance, _ = numpy_moments(x) if training else (0.0, 1.0, None)
    expected = (x - mean) / np.sqrt(variance + 1e-5)
    expected = expected * (1 + condition @ gain)[:, None, None] + (condition @ offset)[:, None, None]
    assert_close(layer(x, condition, training=training), expected)
    assert len(layer.trainable_weights) == 2, "an offset or gain of its own"


def test_conditional_batch_norm_with_zero_condition_is_normalization_alone():
    layer = layers.BatchNorm(3, condition_dim=5)
    x = normal(4, 5, 6, 3)
    mean, variance, _ = numpy_moments(x)
    assert_close(layer(x, tf.zeros([4, 5]), training=True), (x - mean) / np.sqrt(variance + 1e-5))


def values(result, strategy):
    """Per-replica tensors joined along the batch."""
    return np.concatenate([t.numpy() for t in strategy.experimental_local_results(result)])


def test_two_replicas_normalize_by_the_whole_batch(two_replicas):
    x, factors = 2.0 + 3.0 * normal(4, 3, 3, 2), normal(4, 3, 3, 2, seed=1)
    x[2:] += 5.0  # each replica's own mean is far from the whole batch's

    def outputs_and_gradients(layer, x, factors):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
            loss = tf.reduce_sum(y * factors)
        return [y, *tape.gradient(loss, [x, layer.gain.value, layer.offset.value])]

    one = layers.BatchNorm(2)
    with two_replicas.scope():
        two = layers.BatchNorm(2)

    @tf.function
    def run(x, factors):
        return two_replicas.run(outputs_and_gradients, (two, x, factors))

    def halves(array):
        return two_replicas.experimental_distribute_values_from_function(
            lambda context: tf.constant(np.split(array, 2)[context.replica_id_in_sync_group])
        )

    for _ in range(2):  # the second time from other moving statistics
        expected = outputs_and_gradients(one, tf.constant(x), factors)
        y, x_gradient, *gradients = run(halves(x), halves(factors))
        assert_close(values(y, two_replicas), expected[0])
        assert_close(values(x_gradient, two_replicas), expected[1])
        for actual, whole in zip(gradients, expected[2:]):
            assert_close(sum(t.numpy() for t in two_replicas.experimental_local_results(actual)), whole)
        assert_close(two.moving_mean.numpy(), one.moving_mean.numpy())
        assert_close(two.moving_variance.numpy(), one.moving_variance.numpy())
    mean, _, unbiased = numpy_moments(x)
    assert_close(two.moving_mean.numpy(), (1 - 0.9**2) * mean)
    assert_close(two.moving_variance.numpy(), 0.9**2 + (1 - 0.9**2) * unbiased)


class TwoNorms(keras.Model):
    """A network with two norms, the second one inside another layer."""

    def __init__(self):
        super().__init__(autocast=False)
        self.first = layers.BatchNorm(2)
        self.inner = keras.Sequential([layers.BatchNorm(2, momentum=0.7)])

    def call(self, x, training=False):
        return self.first(x, training=training) + self.inner(3.0 * x + 1.0, training=training)


@pytest.mark.parametrize("wrap", [lambda f: f, tf.function], ids=["eager", "graph"])
def test_reestimated_statistics_are_the_average_of_the_batches_moments(wrap):
    network = TwoNorms()
    batches = [tf.constant(seed + (1 + seed) * normal(4, 3, 3, 2, seed=seed)) for seed in range(3)]
    network(batches[2], training=True)
    norms = network.first, network.inner.layers[0]
    layers.reestimate_statistics(network, wrap(lambda x: network(x, training=True)), batches)
    moments = [numpy_moments(x.numpy()) for x in batches]
    mean, variance = np.mean([m[0] for m in moments], 0), np.mean([m[2] for m in moments], 0)
    assert_close(norms[0].moving_mean.numpy(), mean)
    assert_close(norms[0].moving_variance.numpy(), variance)
    assert_close(norms[1].moving_mean.numpy(), 3 * mean + 1)
    assert_close(norms[1].moving_variance.numpy(), 9 * variance)
    assert [norm.momentum for norm in norms] == [0.9, 0.7]


def test_reestimate_restores_momentum_when_the_call_fails():
    network = TwoNorms()

    def fail(batch):
        raise RuntimeError("no batch")

    with pytest.raises(RuntimeError, match="no batch"):
        layers.reestimate_statistics(network, fail, [0])
    assert network.first.momentum == 0.9
    np.testing.assert_array_equal(network.first.moving_variance.numpy(), [1.0, 1.0])


# Attention.


def numpy_attention(x, query, key, value, output):
    """Non-local block's branch, one position at a time; 1 x 1 kernels as matrices."""
    batch, height, width, _ = x.shape
    pooled = []
    for kernel in (key, value):
        y = x @ kernel
        y = y[:, : height // 2 * 2, : width // 2 * 2].reshape(batch, height // 2, 2, width // 2, 2, -1).max((2, 4))
        pooled.append(y.reshape(batch, -1, y.shape[-1]))
    out = np.zeros_like(x)
    for b, i, j in np.ndindex(batch, height, width):
        scores = pooled[0][b] @ (x[b, i, j] @ query)
        weights = np.exp(scores - scores.max())
        out[b, i, j] = (weights / weights.sum()) @ pooled[1][b] @ output
    return out


@pytest.mark.parametrize("size", [(4, 6), (5, 4)], ids=["even", "odd"])
def test_non_local_block_is_identity_at_first_and_numpy_attention_with_a_gain(size):
    layer = layers.NonLocalBlock(16)
    x = normal(2, *size, 16)
    np.testing.assert_array_equal(layer(x), x)
    layer.gain.assign(0.7)
    kernels = [c.kernel.numpy()[0, 0] for c in (layer.query, layer.key, layer.value, layer.output_conv)]
    assert [k.shape for k in kernels] == [(16, 2), (16, 2), (16, 8), (8, 16)]
    assert_close(layer(x), x + 0.7 * numpy_attention(x, *kernels))


# Activations.


def test_activations_by_name():
    x = tf.constant([-2.0, 0.0, 3.0])
    np.testing.assert_array_equal(layers.activation_function("relu")(x), [0.0, 0.0, 3.0])
    assert_close(layers.activation_function("leaky_relu", 0.1)(x), [-0.2, 0.0, 3.0])
    with pytest.raises(ValueError, match="--activation=gelu: expected relu or leaky_relu"):
        layers.activation_function("gelu")


@pytest.mark.parametrize("resample", [None, "up", "down"])
@pytest.mark.parametrize("kernel_size", [1, 3])
def test_the_gradient_of_a_bias_is_summed_in_more_digits_than_bfloat16_has(kernel_size, resample):
    keras.config.set_dtype_policy("mixed_bfloat16")
    layer = layers.Conv2D(1, 1, kernel_size, resample)
    with tf.GradientTape() as tape:
        y = layer(tf.zeros([4, 128, 128, 1]))
    (gradient,) = tape.gradient(y, [layer.bias.value], tf.ones_like(y))
    # One for each output pixel; in bfloat16, 256 + 1 is 256.
    assert float(gradient[0]) == tf.size(y).numpy()

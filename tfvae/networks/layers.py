"""Layers of BigGAN that Keras does not have in the paper's form, and its resampling convolutions in a cheaper one.

Weights are float32 and are made in the constructor, so that a network is complete without a first call. The arithmetic
runs in the layer's compute dtype; spectral norms and batch statistics stay in float32.
"""

import keras
import numpy as np
import tensorflow as tf

# Variables that a replica assigns (u, moving statistics) hold the same value on every replica: one copy is enough.
AGGREGATION = "only_first_replica"


def activation_function(name, leaky_relu_slope=0.2):
    """The networks' non-linearity: `relu`, or `leaky_relu` with its slope for negative inputs.

    Raises:
        ValueError: another name.
    """
    if name == "relu":
        return tf.nn.relu
    if name == "leaky_relu":
        return lambda x: tf.nn.leaky_relu(x, leaky_relu_slope)
    raise ValueError(f"--activation={name}: expected relu or leaky_relu.")


class _Weighted(keras.layers.Layer):
    """A kernel, a bias and the spectral normalisation W / sigma(W) (Miyato et al., arXiv 1802.05957, algorithm 1).

    Functional: the stored kernel is never overwritten and the gradient flows through sigma. One power iteration a
    training call; `u` is a weight, so that a resumed run goes on from the same estimate.
    """

    def __init__(self, shape, use_bias=True, spectral_norm=False, initializer="orthogonal", **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.kernel = self.add_weight(
            name="kernel", shape=shape, initializer=initializer, aggregation=AGGREGATION, autocast=False
        )
        self.bias = None
        if use_bias:
            self.bias = self.add_weight(
                name="bias", shape=shape[-1:], initializer="zeros", aggregation=AGGREGATION, autocast=False
            )
        self.u = None
        if spectral_norm:
            self.u = self.add_weight(
                name="u",
                shape=(shape[-1], 1),
                initializer="random_normal",
                trainable=False,
                aggregation=AGGREGATION,
                autocast=False,
            )
        self.built = True

    def normalized_kernel(self, training):
        """W, or W / sigma(W) with spectral norm: float32, the kernel's shape."""
        kernel = self.kernel.value
        if self.u is None:
            return tf.convert_to_tensor(kernel)
        matrix = tf.reshape(kernel, [-1, kernel.shape[-1]])
        u = tf.math.l2_normalize(self.u.value)
        constant = tf.stop_gradient(matrix)
        v = tf.math.l2_normalize(tf.matmul(constant, u), epsilon=1e-12)
        if training:
            u = tf.math.l2_normalize(tf.matmul(constant, v, transpose_a=True), epsilon=1e-12)
            self.u.value.assign(u)
        sigma = tf.reduce_sum(v * tf.matmul(matrix, tf.stop_gradient(tf.convert_to_tensor(u))))
        return kernel / sigma

    def add_bias(self, x):
        # Not tf.nn.bias_add: on CPUs its gradient is summed in bfloat16, where 256 + 1 is 256.
        return x if self.bias is None else x + tf.cast(self.bias.value, x.dtype)


class Dense(_Weighted):
    """Linear layer: [B, in_features] -> [B, units]."""

    def __init__(self, in_features, units, **kwargs):
        super().__init__((in_features, units), **kwargs)

    def call(self, x, training=False):
        kernel = tf.cast(self.normalized_kernel(training), self.compute_dtype)
        return self.add_bias(tf.matmul(tf.cast(x, self.compute_dtype), kernel))


class Embedding(_Weighted):
    """Learned vectors of the classes: int32 [B] in [0, num_classes) -> float32 [B, units]."""

    def __init__(self, num_classes, units, **kwargs):
        super().__init__((num_classes, units), use_bias=False, **kwargs)

    def call(self, label, training=False):
        return tf.gather(self.normalized_kernel(training), label)


class Conv2D(_Weighted):
    """Convolution, padding "same", with BigGAN's resampling folded in: [B, H, W, in] -> [B, H', W', filters].

    `resample="up"` is nearest-neighbour upsampling by 2 *before* the convolution, `resample="down"` is 2 x 2 average
    pooling *after* it. Both are linear, so for a 3 x 3 kernel each is one convolution of stride 2 with the 4 x 4 kernel
    that `_widen` computes: the same result up to rounding for 16 instead of 36 multiplications per output or input pixel,
    and the large intermediate picture is never made. A 1 x 1 kernel commutes with both, so it runs on the small side.
    """

    def __init__(self, in_channels, filters, kernel_size, resample=None, **kwargs):
        super().__init__((kernel_size, kernel_size, in_channels, filters), **kwargs)
        self.resample = resample
        self.flops = self.executed_flops = None  # per image; see `flops_per_image`

    def call(self, x, training=False):
        x = tf.cast(x, self.compute_dtype)
        height, width = x.shape[1:3]
        positions = height * width * (4 if self.resample == "up" else 1)
        self.flops = 2 * positions * self.kernel.value.shape.num_elements()
        folded = {3: 16 / 36, 1: 1 / 4} if self.resample else {}
        self.executed_flops = self.flops * folded.get(self.kernel.value.shape[0], 1)
        kernel = self.normalized_kernel(training)
        if self.resample is None:
            return self.add_bias(tf.nn.conv2d(x, tf.cast(kernel, x.dtype), 1, "SAME"))
        if kernel.shape[0] == 1:
            if self.resample == "down":
                return self.add_bias(tf.nn.conv2d(downsample(x), tf.cast(kernel, x.dtype), 1, "SAME"))
            return upsample(self.add_bias(tf.nn.conv2d(x, tf.cast(kernel, x.dtype), 1, "SAME")))
        if self.resample == "down":
            kernel = tf.cast(_widen(kernel, _BOX / 4), x.dtype)
            if height % 2 or width % 2:
                # Average pooling drops the last row of an odd picture, so nothing is padded there.
                x = tf.pad(x, [[0, 0], [1, 1 - height % 2], [1, 1 - width % 2], [0, 0]])
                return self.add_bias(tf.nn.conv2d(x, kernel, 2, "VALID"))
            # "SAME" pads 1 on every side here. Explicit padding means the same, but its gradients are not oneDNN's:
            # three times slower on a CPU.
            return self.add_bias(tf.nn.conv2d(x, kernel, 2, "SAME"))
        kernel = tf.cast(_widen(tf.transpose(kernel, [0, 1, 3, 2]), _FLIPPED_BOX), x.dtype)
        shape = [tf.shape(x)[0], 2 * height, 2 * width, kernel.shape[2]]
        return self.add_bias(tf.nn.conv2d_transpose(x, kernel, shape, 2, "SAME"))


# Rows: taps of the 4 x 4 kernel; columns: taps of the 3 x 3 kernel. Along one side, tap d of a [1, 1] box convolved with
# [w0, w1, w2] is w[d] + w[d - 1]. The flipped one serves the transposed convolution.
_BOX_1D = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 1]], np.float32)
_BOX = np.kron(_BOX_1D, _BOX_1D)
_FLIPPED_BOX = np.kron(_BOX_1D[:, ::-1], _BOX_1D[:, ::-1])


def _widen(kernel, box):
    """Convolves a [3, 3, a, b] kernel with a 2 x 2 box: [4, 4, a, b]. One matrix product: the kernels are large, and
    padded copies of them cost as much as the convolution itself.
    """
    return tf.reshape(tf.matmul(box, tf.reshape(kernel, [9, -1])), [4, 4, *kernel.shape[2:]])


def upsample(x):
    """Nearest-neighbour upsampling by 2: [B, H, W, C] -> [B, 2H, 2W, C]."""
    height, width, channels = x.shape[1:]
    x = tf.broadcast_to(x[:, :, None, :, None, :], [tf.shape(x)[0], height, 2, width, 2, channels])
    return tf.reshape(x, [-1, 2 * height, 2 * width, channels])


def downsample(x):
    """Average pooling 2 x 2, stride 2, an odd last row or column dropped: [B, H, W, C] -> [B, H // 2, W // 2, C]."""
    return tf.nn.avg_pool2d(x, 2, 2, "VALID")


def resize_nearest(x, size):
    """Nearest-neighbour resize to `size` x `size`, for the one stage (32 to 45 px) that is not a doubling."""
    # Integer gather instead of ResizeNearestNeighbor: its gradient exists for every dtype on every device.
    rows = tf.constant([i * x.shape[1] // size for i in range(size)])
    return tf.gather(tf.gather(x, rows, axis=1), rows, axis=2)


class BatchNorm(keras.layers.Layer):
    """Batch normalisation, plain or conditional: [B, H, W, C] -> the same.

    Conditional (BigGAN, appendix B): gain 1 + W h and bias W h from `condition` [B, condition_dim], no offset of their
    own. The "1 +" is not optional: without it BigGAN-deep does not train. Plain: a learned gain and bias per channel.

    Statistics are those of the global batch: with several replicas their moments are averaged. A fused kernel is used
    on one replica.
    """

    def __init__(
        self,
        channels,
        condition_dim=0,
        momentum=0.9,
        epsilon=1e-5,
        spectral_norm=False,
        initializer="orthogonal",
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        self.channels, self.momentum, self.epsilon = channels, momentum, epsilon

        def weight(name, value, trainable):
            return self.add_weight(
                name=name,
                shape=(channels,),
                initializer=value,
                trainable=trainable,
                aggregation=AGGREGATION,
                autocast=False,
            )

        self.moving_mean = weight("moving_mean", "zeros", False)
        self.moving_variance = weight("moving_variance", "ones", False)
        self.gain = self.offset = None
        if condition_dim:
            dense = dict(use_bias=False, spectral_norm=spectral_norm, initializer=initializer, dtype=self.dtype_policy)
            self.gain_dense = Dense(condition_dim, channels, **dense)
            self.offset_dense = Dense(condition_dim, channels, **dense)
        else:
            self.gain = weight("gain", "ones", True)
            self.offset = weight("offset", "zeros", True)
        self.built = True

    def call(self, x, condition=None, training=False):
        x = tf.cast(x, self.compute_dtype)
        if self.gain is not None:
            return self.normalize(
                x, tf.convert_to_tensor(self.gain.value), tf.convert_to_tensor(self.offset.value), training
            )
        x = self.normalize(x, tf.ones([self.channels]), tf.zeros([self.channels]), training)
        gain = 1.0 + self.gain_dense(condition, training=training)
        offset = self.offset_dense(condition, training=training)
        return x * gain[:, None, None, :] + offset[:, None, None, :]

    def normalize(self, x, gain, offset, training):
        """(x - mean) / std * gain + offset, by the batch's moments in training, else by the moving ones."""
        replicas = tf.distribute.get_replica_context()
        replicas = replicas.num_replicas_in_sync if replicas else 1
        if training and replicas > 1:
            mean, variance, count = self.global_moments(x)
            x = tf.nn.batch_normalization(tf.cast(x, tf.float32), mean, variance, offset, gain, self.epsilon)
            x = tf.cast(x, self.compute_dtype)
            # The moving variance is unbiased, as the fused kernel's is.
            variance *= count / (count - 1.0)
        else:
            empty = tf.zeros([0])
            x, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
                x=x,
                scale=gain,
                offset=offset,
                mean=empty if training else tf.convert_to_tensor(self.moving_mean.value),
                variance=empty if training else tf.convert_to_tensor(self.moving_variance.value),
                epsilon=self.epsilon,
                is_training=training,
            )
        if training:
            # momentum is read while tracing; see `reestimate_statistics`.
            for moving, batch in ((self.moving_mean.value, mean), (self.moving_variance.value, variance)):
                moving.assign(self.momentum * moving + (1.0 - self.momentum) * tf.stop_gradient(batch))
        return x

    def global_moments(self, x):
        """Mean and biased variance [C] over all replicas, and the number of values per channel.

        One collective forward and so one backward. With two, their gradients' order could differ between replicas: they
        would wait for each other for ever, or exchange each other's numbers.
        """
        context = tf.distribute.get_replica_context()
        count = tf.size(x, tf.int64) // x.shape[-1] * context.num_replicas_in_sync
        count = tf.cast(count, tf.float32)
        # E[d^2] - E[d]^2 loses its digits when E[d] is large, so d is the distance from about where the mean is.
        shift = tf.stop_gradient(tf.convert_to_tensor(self.moving_mean.value))
        distance = tf.cast(x, tf.float32) - shift
        sums = tf.stack([tf.reduce_sum(distance, [0, 1, 2]), tf.reduce_sum(tf.square(distance), [0, 1, 2])])
        mean, mean_of_squares = tf.unstack(context.all_reduce(tf.distribute.ReduceOp.SUM, sums) / count)
        return shift + mean, tf.nn.relu(mean_of_squares - tf.square(mean)), count


class NonLocalBlock(keras.layers.Layer):
    """Self-attention over positions, added through a gain that starts at 0: [B, H, W, C] -> the same.

    Source: SAGAN (arXiv 1805.08318), in BigGAN's form: queries and keys of C / 8, values of C / 2, keys and values
    max-pooled 2 x 2.

    Raises:
        ValueError: fewer than 8 channels.
    """

    def __init__(self, channels, spectral_norm=False, initializer="orthogonal", **kwargs):
        super().__init__(autocast=False, **kwargs)
        if channels < 8:
            raise ValueError(
                f"--base_channels is too small: the non-local block has {channels} channels, expected 8 or more."
            )
        conv = dict(
            use_bias=False, kernel_size=1, spectral_norm=spectral_norm, initializer=initializer, dtype=self.dtype_policy
        )
        self.query = Conv2D(channels, channels // 8, **conv)
        self.key = Conv2D(channels, channels // 8, **conv)
        self.value = Conv2D(channels, channels // 2, **conv)
        self.output_conv = Conv2D(channels // 2, channels, **conv)
        self.gain = self.add_weight(name="gain", shape=(), initializer="zeros", aggregation=AGGREGATION, autocast=False)
        self.built = True

    def call(self, x, training=False):
        height, width = x.shape[1:3]

        def rows(y):
            return tf.reshape(y, [-1, y.shape[1] * y.shape[2], y.shape[3]])

        query = rows(self.query(x, training=training))
        key = rows(tf.nn.max_pool2d(self.key(x, training=training), 2, 2, "VALID"))
        value = rows(tf.nn.max_pool2d(self.value(x, training=training), 2, 2, "VALID"))
        weights = tf.nn.softmax(tf.cast(tf.matmul(query, key, transpose_b=True), tf.float32))
        attended = tf.matmul(tf.cast(weights, value.dtype), value)
        attended = tf.reshape(attended, [-1, height, width, attended.shape[-1]])
        return x + tf.cast(self.gain.value, x.dtype) * self.output_conv(attended, training=training)


def reestimate_statistics(network, call, batches):
    """Measures a network's batch-norm statistics anew: their averages over `batches`.

    Averaged weights with the running statistics of another network's weights draw wrong pictures; BigGAN (section 3.1)
    calls these the standing statistics.

    Args:
        network: its `BatchNorm` layers' moving statistics are replaced.
        call: function of one of the `batches`; it runs the network once with `training=True`. May be a tf.function, if
            it is traced in here for the first time or was traced in an earlier call of this function.
        batches: non-empty list.
    """
    norms = [layer for layer in network._flatten_layers() if isinstance(layer, BatchNorm)]
    statistics = [w.value for norm in norms for w in (norm.moving_mean, norm.moving_variance)]
    momentum = [norm.momentum for norm in norms]
    totals = [0.0] * len(statistics)
    try:
        for norm in norms:
            norm.momentum = 0.0  # the "moving" statistics are then the last batch's
        for batch in batches:
            call(batch)
            totals = [total + weight.numpy() for total, weight in zip(totals, statistics)]
    finally:
        for norm, value in zip(norms, momentum):
            norm.momentum = value
    for weight, total in zip(statistics, totals):
        weight.assign(total / len(batches))


def flops_per_image(network, executed=False):
    """Multiplications and additions of one forward pass of one image in convolutions and linear layers.

    Args:
        network: has been called, eagerly or while tracing.
        executed: count what runs here, with resampling folded into the convolutions; else what the tables define.
    """
    total = 0
    for layer in network._flatten_layers():
        if isinstance(layer, Conv2D):
            total += layer.executed_flops if executed else layer.flops
        elif isinstance(layer, Dense):
            total += 2 * layer.kernel.value.shape.num_elements()
    return total

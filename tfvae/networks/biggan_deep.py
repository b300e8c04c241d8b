"""BigGAN-deep's two networks (Brock et al., arXiv 1809.11096, appendix B, table 7 and figure 16)."""

import keras
import tensorflow as tf

from tfvae.networks import layers, tables

BOTTLENECK = 4  # hidden channels of a block are a quarter of its input's (generator) or output's (discriminator)


class GeneratorBlock(keras.layers.Layer):
    """Bottleneck block (figure 16b): norm, activation and convolution four times, 1 x 1, (up) 3 x 3, 3 x 3, 1 x 1.

    The skip keeps the first `out_channels` channels and drops the others, then resizes: no parameters.
    """

    def __init__(self, in_channels, out_channels, in_size, size, condition_dim, activation, norm, conv, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.activation, self.in_size, self.size, self.out_channels = activation, in_size, size, out_channels
        hidden = in_channels // BOTTLENECK
        self.norm1 = layers.BatchNorm(in_channels, condition_dim, **norm)
        self.conv1 = layers.Conv2D(in_channels, hidden, 1, **conv)
        self.norm2 = layers.BatchNorm(hidden, condition_dim, **norm)
        self.conv2 = layers.Conv2D(hidden, hidden, 3, "up" if size == 2 * in_size else None, **conv)
        self.norm3 = layers.BatchNorm(hidden, condition_dim, **norm)
        self.conv3 = layers.Conv2D(hidden, hidden, 3, **conv)
        self.norm4 = layers.BatchNorm(hidden, condition_dim, **norm)
        self.conv4 = layers.Conv2D(hidden, out_channels, 1, **conv)
        self.built = True

    def call(self, x, condition=None, training=False):
        h = self.conv1(self.activation(self.norm1(x, condition, training=training)), training=training)
        h = self.activation(self.norm2(h, condition, training=training))
        x = x[..., : self.out_channels]
        if self.size == 2 * self.in_size:
            x = layers.upsample(x)
        elif self.size != self.in_size:
            h, x = layers.resize_nearest(h, self.size), layers.resize_nearest(x, self.size)
        h = self.conv2(h, training=training)
        h = self.conv3(self.activation(self.norm3(h, condition, training=training)), training=training)
        h = self.conv4(self.activation(self.norm4(h, condition, training=training)), training=training)
        return h + tf.cast(x, h.dtype)


class DiscriminatorBlock(keras.layers.Layer):
    """Bottleneck block (figure 16c): activation and convolution, 1 x 1, 3 x 3, 3 x 3, (down), 1 x 1.

    The skip pools, then a 1 x 1 convolution adds the channels that the input lacks.
    """

    def __init__(self, in_channels, out_channels, down, activation, conv, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.activation, self.down = activation, down
        hidden = out_channels // BOTTLENECK
        self.conv1 = layers.Conv2D(in_channels, hidden, 1, **conv)
        self.conv2 = layers.Conv2D(hidden, hidden, 3, **conv)
        self.conv3 = layers.Conv2D(hidden, hidden, 3, **conv)
        self.conv4 = layers.Conv2D(hidden, out_channels, 1, **conv)
        self.skip = None
        if out_channels > in_channels:
            self.skip = layers.Conv2D(in_channels, out_channels - in_channels, 1, **conv)
        self.out_channels = out_channels
        self.built = True

    def call(self, x, training=False):
        h = self.conv1(self.activation(x), training=training)
        h = self.conv2(self.activation(h), training=training)
        h = self.activation(self.conv3(self.activation(h), training=training))
        if self.down:
            h, x = layers.downsample(h), layers.downsample(x)
        h = self.conv4(h, training=training)
        if self.skip is not None:
            x = tf.concat([x, self.skip(x, training=training)], -1)
        # Chains that narrow (another --channel_multipliers) drop channels, as the generator's skip does.
        return h + x[..., : self.out_channels]


class Generator(keras.Model):
    """Latent (and label) to picture; as the VAE's decoder, the same.

    With labels, the whole latent, joined to the class embedding, conditions the linear layer and every norm.

    Args:
        blocks_per_stage: residual blocks a stage; the last of them resizes. None: 2.
        The others: as `biggan.Generator`'s; `base_channels` is a multiple of 4.

    Raises:
        ValueError: sizes that do not fit together.
    """

    def __init__(
        self,
        resolution,
        base_channels,
        latent_dim,
        num_classes=0,
        attention_resolution=64,
        channel_multipliers=None,
        blocks_per_stage=None,
        shared_embedding_dim=128,
        spectral_norm=False,
        activation="relu",
        leaky_relu_slope=0.2,
        initializer="orthogonal",
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        blocks_per_stage = blocks_per_stage or 2
        tables.check_sizes(base_channels, latent_dim, blocks_per_stage, num_classes, divisor=BOTTLENECK)
        channels = [base_channels * m for m in tables.generator_multipliers(resolution, channel_multipliers)]
        self.resolution, self.latent_dim, self.num_classes = resolution, latent_dim, num_classes
        self.activation = layers.activation_function(activation, leaky_relu_slope)
        conv = dict(spectral_norm=spectral_norm, initializer=initializer)
        self.bottom_channels = channels[0]
        condition_dim = 0
        if num_classes:
            condition_dim = latent_dim + shared_embedding_dim
            self.embedding = layers.Embedding(num_classes, shared_embedding_dim, initializer=initializer)
        self.linear = layers.Dense(condition_dim or latent_dim, 16 * channels[0], **conv)
        self.blocks, self.attention, self.attention_after = [], None, None
        size = 4
        for i, stage_size in enumerate(tables.generator_sizes(resolution)):
            for j in range(blocks_per_stage):
                last = j == blocks_per_stage - 1
                self.blocks.append(
                    GeneratorBlock(
                        channels[i],
                        channels[i + 1] if last else channels[i],
                        size,
                        stage_size if last else size,
                        condition_dim,
                        self.activation,
                        conv,
                        conv,
                    )
                )
            size = stage_size
            if size == attention_resolution:
                self.attention = layers.NonLocalBlock(channels[i + 1], **conv)
                self.attention_after = len(self.blocks) - 1
        self.output_norm = layers.BatchNorm(channels[-1])
        self.output_conv = layers.Conv2D(channels[-1], 3, 3, **conv)
        self.built = True

    def call(self, latent, label=None, training=False):
        """latent: float32 [B, latent_dim]; label: int32 [B] where there are classes. Returns float32 [B, R, R, 3] in [-1, 1]."""
        condition, x = None, latent
        if self.num_classes:
            condition = x = tf.concat([self.embedding(label), latent], -1)
        x = tf.reshape(self.linear(x, training=training), [-1, 4, 4, self.bottom_channels])
        for i, block in enumerate(self.blocks):
            x = block(x, condition, training=training)
            if i == self.attention_after:
                x = self.attention(x, training=training)
        x = self.activation(self.output_norm(x, training=training))
        # In float32: bfloat16 has 8 bits, which would band the picture.
        return tf.tanh(tf.cast(self.output_conv(x, training=training), tf.float32))


class Discriminator(keras.Model):
    """Picture (and label) to one number; as the VAE's encoder, to `output_dim` = 2 latent_dim numbers.

    Args:
        blocks_per_stage: residual blocks a stage; the first of them halves. None: 2.
        The others: as `biggan.Discriminator`'s; `base_channels` is a multiple of 4.
    """

    def __init__(
        self,
        resolution,
        base_channels,
        latent_dim=None,
        num_classes=0,
        attention_resolution=64,
        channel_multipliers=None,
        blocks_per_stage=None,
        spectral_norm=False,
        activation="relu",
        leaky_relu_slope=0.2,
        initializer="orthogonal",
        output_dim=1,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        blocks_per_stage = blocks_per_stage or 2
        tables.check_sizes(base_channels, latent_dim or 1, blocks_per_stage, num_classes, divisor=BOTTLENECK)
        channels = [base_channels * m for m in tables.discriminator_multipliers(resolution, channel_multipliers)]
        self.resolution, self.num_classes = resolution, num_classes
        self.activation = layers.activation_function(activation, leaky_relu_slope)
        conv = dict(spectral_norm=spectral_norm, initializer=initializer)
        self.input_conv = layers.Conv2D(3, channels[0], 3, **conv)
        self.blocks, self.attention, self.attention_after = [], None, None
        size = resolution
        for in_channels, width in zip(channels, channels[1:]):
            for j in range(blocks_per_stage):
                self.blocks.append(
                    DiscriminatorBlock(in_channels if j == 0 else width, width, j == 0, self.activation, conv)
                )
            size //= 2
            if size == attention_resolution:
                self.attention = layers.NonLocalBlock(width, **conv)
                self.attention_after = len(self.blocks) - 1
        # The head stays in float32: it is small, and a logit or a log variance needs the digits.
        self.linear = layers.Dense(channels[-1], output_dim, dtype="float32", **conv)
        if num_classes:
            self.embedding = layers.Embedding(num_classes, channels[-1], **conv)
        self.built = True

    def call(self, image, label=None, training=False):
        """image: float32 [B, R, R, 3] in [-1, 1]; label: int32 [B] where there are classes. Returns float32 [B, output_dim]."""
        x = self.input_conv(image, training=training)
        for i, block in enumerate(self.blocks):
            x = block(x, training=training)
            if i == self.attention_after:
                x = self.attention(x, training=training)
        h = tf.reduce_sum(tf.cast(self.activation(x), tf.float32), [1, 2])
        out = self.linear(h, training=training)
        if self.num_classes:
            out += tf.reduce_sum(self.embedding(label, training=training) * h, -1, keepdims=True)
        return out

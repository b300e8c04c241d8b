"""BigGAN's two networks (Brock et al., arXiv 1809.11096, appendix B, table 4 and figure 15)."""

import keras
import tensorflow as tf

from tfvae.networks import layers, tables


class GeneratorBlock(keras.layers.Layer):
    """Residual block (figure 15b): norm, activation, (up), 3 x 3, norm, activation, 3 x 3; skip: (up), 1 x 1 where needed.

    `size`: the side that the block ends with; twice the input's, the same, or (32 to 45 px) another one.
    """

    def __init__(self, in_channels, out_channels, in_size, size, condition_dim, activation, norm, conv, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.activation, self.in_size, self.size = activation, in_size, size
        resample = "up" if size == 2 * in_size else None
        self.norm1 = layers.BatchNorm(in_channels, condition_dim, **norm)
        self.conv1 = layers.Conv2D(in_channels, out_channels, 3, resample, **conv)
        self.norm2 = layers.BatchNorm(out_channels, condition_dim, **norm)
        self.conv2 = layers.Conv2D(out_channels, out_channels, 3, **conv)
        self.skip = None
        if in_channels != out_channels or size != in_size:
            self.skip = layers.Conv2D(in_channels, out_channels, 1, resample, **conv)
        self.built = True

    def call(self, x, condition=None, training=False):
        h = self.activation(self.norm1(x, condition, training=training))
        if self.size not in (self.in_size, 2 * self.in_size):
            h, x = layers.resize_nearest(h, self.size), layers.resize_nearest(x, self.size)
        h = self.conv1(h, training=training)
        h = self.activation(self.norm2(h, condition, training=training))
        h = self.conv2(h, training=training)
        return h + (x if self.skip is None else self.skip(x, training=training))


class DiscriminatorBlock(keras.layers.Layer):
    """Residual block (figure 15c): activation, 3 x 3, activation, 3 x 3, (down); skip: 1 x 1 where needed, (down).

    The first block of a network has no activation before its first convolution.
    """

    def __init__(self, in_channels, out_channels, down, first, activation, conv, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.activation, self.first = activation, first
        resample = "down" if down else None
        self.conv1 = layers.Conv2D(in_channels, out_channels, 3, **conv)
        self.conv2 = layers.Conv2D(out_channels, out_channels, 3, resample, **conv)
        self.skip = None
        if in_channels != out_channels or down:
            self.skip = layers.Conv2D(in_channels, out_channels, 1, resample, **conv)
        self.built = True

    def call(self, x, training=False):
        h = x if self.first else self.activation(x)
        h = self.activation(self.conv1(h, training=training))
        h = self.conv2(h, training=training)
        return h + (x if self.skip is None else self.skip(x, training=training))


class Generator(keras.Model):
    """Latent (and label) to picture; as the VAE's decoder, the same.

    Args:
        resolution: 32, 45, 64, 128, 256 or 512 pixels a side.
        base_channels: the paper's "ch"; every width is a multiple of it.
        latent_dim: length of the latent. With labels it is cut into chunks, one for the linear layer (it takes the
            remainder) and one for each block; without labels the linear layer takes it whole.
        num_classes: 0 for no labels: plain batch norm, no embedding.
        attention_resolution: the side after whose stage the non-local block stands; 0 for none.
        channel_multipliers: another chain than the table's, or None.
        blocks_per_stage: residual blocks a stage; the last of them resizes. None: 1.
        shared_embedding_dim: length of the class embedding that all conditional norms share.
        spectral_norm: divide every kernel by its largest singular value.
        activation, leaky_relu_slope: `relu`, or `leaky_relu` with its slope.
        initializer: of the kernels, any of Keras' by name.

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
        blocks_per_stage = blocks_per_stage or 1
        tables.check_sizes(base_channels, latent_dim, blocks_per_stage, num_classes)
        channels = [base_channels * m for m in tables.generator_multipliers(resolution, channel_multipliers)]
        sizes = tables.generator_sizes(resolution)
        self.resolution, self.latent_dim, self.num_classes = resolution, latent_dim, num_classes
        self.activation = layers.activation_function(activation, leaky_relu_slope)
        conv = dict(spectral_norm=spectral_norm, initializer=initializer)
        self.chunks = (latent_dim,)
        condition_dim = 0
        if num_classes:
            self.chunks = tables.latent_chunks(latent_dim, len(sizes) * blocks_per_stage)
            condition_dim = self.chunks[-1] + shared_embedding_dim
            self.embedding = layers.Embedding(num_classes, shared_embedding_dim, initializer=initializer)
        self.bottom_channels = channels[0]
        self.linear = layers.Dense(self.chunks[0], 16 * channels[0], **conv)
        self.blocks, self.attention, self.attention_after = [], None, None
        size = 4
        for i, stage_size in enumerate(sizes):
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
        chunks = tf.split(latent, self.chunks, axis=-1)
        conditions = [None] * len(self.blocks)
        if self.num_classes:
            embedded = self.embedding(label)
            conditions = [tf.concat([embedded, chunk], -1) for chunk in chunks[1:]]
        x = tf.reshape(self.linear(chunks[0], training=training), [-1, 4, 4, self.bottom_channels])
        for i, (block, condition) in enumerate(zip(self.blocks, conditions)):
            x = block(x, condition, training=training)
            if i == self.attention_after:
                x = self.attention(x, training=training)
        x = self.activation(self.output_norm(x, training=training))
        # In float32: bfloat16 has 8 bits, which would band the picture.
        return tf.tanh(tf.cast(self.output_conv(x, training=training), tf.float32))


class Discriminator(keras.Model):
    """Picture (and label) to one number; as the VAE's encoder, to `output_dim` = 2 latent_dim numbers.

    Args:
        output_dim: outputs of the last linear layer: 1 for a discriminator, mean and log variance for an encoder.
        latent_dim: not used; accepted so that both networks are made from one set of arguments.
        num_classes: with classes, the projection head adds embedding(label) . h; 0 for none.
        The others: as `Generator`'s.
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
        blocks_per_stage = blocks_per_stage or 1
        tables.check_sizes(base_channels, latent_dim or 1, blocks_per_stage, num_classes)
        channels = [base_channels * m for m in tables.discriminator_multipliers(resolution, channel_multipliers)]
        self.resolution, self.num_classes = resolution, num_classes
        self.activation = layers.activation_function(activation, leaky_relu_slope)
        conv = dict(spectral_norm=spectral_norm, initializer=initializer)
        self.blocks, self.attention, self.attention_after = [], None, None
        size, in_channels = resolution, 3
        for i, width in enumerate(channels):
            down = i < len(channels) - 1
            for j in range(blocks_per_stage):
                first = not self.blocks
                self.blocks.append(DiscriminatorBlock(in_channels, width, down and j == 0, first, self.activation, conv))
                in_channels = width
            size = size // 2 if down else size
            if down and size == attention_resolution:
                self.attention = layers.NonLocalBlock(width, **conv)
                self.attention_after = len(self.blocks) - 1
        # The head stays in float32: it is small, and a logit or a log variance needs the digits.
        self.linear = layers.Dense(channels[-1], output_dim, dtype="float32", **conv)
        if num_classes:
            self.embedding = layers.Embedding(num_classes, channels[-1], **conv)
        self.built = True

    def call(self, image, label=None, training=False):
        """image: float32 [B, R, R, 3] in [-1, 1]; label: int32 [B] where there are classes. Returns float32 [B, output_dim]."""
        x = image
        for i, block in enumerate(self.blocks):
            x = block(x, training=training)
            if i == self.attention_after:
                x = self.attention(x, training=training)
        h = tf.reduce_sum(tf.cast(self.activation(x), tf.float32), [1, 2])
        out = self.linear(h, training=training)
        if self.num_classes:
            out += tf.reduce_sum(self.embedding(label, training=training) * h, -1, keepdims=True)
        return out

"""What BigGAN's and BigGAN-deep's networks share: arguments, stages, attention, first and last layers."""

import keras
import tensorflow as tf

from tfvae.networks import layers, tables


def _add_block(network, block):
    """Appends to `network.blocks`, and makes the block an attribute: tf.train.Checkpoint leaves out what is in a list."""
    setattr(network, f"block_{len(network.blocks)}", block)
    network.blocks.append(block)


def named_weights(part):
    """The weights of a network, or of an objective with its networks, by the names of the attributes that lead to them.

    They are the names that `tf.train.Checkpoint` gives them.

    Returns:
        {"block_0/conv1/kernel": variable}, in the order of making.
    """
    found = {}
    for name, value in vars(part).items():
        if isinstance(value, (keras.Variable, tf.Variable)):
            found[name] = value
        elif isinstance(value, keras.layers.Layer):
            found |= {f"{name}/{inner}": weight for inner, weight in named_weights(value).items()}
    return found


class Generator(keras.Model):
    """Latent (and label) to picture; as the VAE's decoder, the same.

    Args:
        resolution: 32, 45, 64, 128, 256 or 512 pixels a side.
        base_channels: the paper's "ch"; every width is a multiple of it. For BigGAN-deep a multiple of 4.
        latent_dim: length of the latent.
        num_classes: 0 for no labels: plain batch norm, no embedding.
        attention_resolution: side in px of the stage that the non-local block follows; 0 for none.
        channel_multipliers: another chain than the table's, or None.
        blocks_per_stage: residual blocks per stage; the last of them resizes. None: BigGAN 1, BigGAN-deep 2.
        shared_embedding_dim: length of the class embedding that all conditional norms share.
        spectral_norm: divide every kernel by its largest singular value.
        activation: `relu` or `leaky_relu`. leaky_relu_slope: the latter's slope for negative inputs.
        initializer: of the kernels, any of Keras' by name.

    Raises:
        ValueError: sizes that do not fit together.
    """

    # Of the architecture:
    default_blocks_per_stage = None
    width_divisor = 1  # what base_channels is a multiple of

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
        blocks_per_stage = blocks_per_stage or self.default_blocks_per_stage
        tables.check_sizes(base_channels, latent_dim, blocks_per_stage, num_classes, self.width_divisor)
        channels = [base_channels * m for m in tables.generator_multipliers(resolution, channel_multipliers)]
        sizes = tables.generator_sizes(resolution)
        self.resolution, self.latent_dim, self.num_classes = resolution, latent_dim, num_classes
        self.activation = layers.activation_function(activation, leaky_relu_slope)
        conv = dict(spectral_norm=spectral_norm, initializer=initializer)
        if num_classes:
            self.embedding = layers.Embedding(num_classes, shared_embedding_dim, initializer=initializer)
        linear_dim, condition_dim = self.plan_latent(
            len(sizes) * blocks_per_stage, shared_embedding_dim if num_classes else 0
        )
        self.bottom_channels = channels[0]
        self.linear = layers.Dense(linear_dim, 16 * channels[0], **conv)
        self.blocks, self.attention, self.attention_after = [], None, None
        size = 4
        for in_channels, out_channels, end_size in zip(channels, channels[1:], sizes):
            for j in range(blocks_per_stage):
                last = j == blocks_per_stage - 1
                shape = (in_channels, out_channels if last else in_channels, size, end_size if last else size)
                _add_block(self, self.make_block(*shape, condition_dim, conv))
            size = end_size
            if size == attention_resolution:
                self.attention = layers.NonLocalBlock(out_channels, **conv)
                self.attention_after = len(self.blocks) - 1
        self.output_norm = layers.BatchNorm(channels[-1])
        self.output_conv = layers.Conv2D(channels[-1], 3, 3, **conv)
        self.built = True

    def plan_latent(self, num_blocks, embedding_dim):
        """Returns (inputs of the linear layer, length of a block's condition); `embedding_dim` is 0 without labels."""
        raise NotImplementedError  # abstract: of the architecture

    def make_block(self, in_channels, out_channels, in_size, size, condition_dim, conv):
        """Returns the residual block, called as block(x, condition, training)."""
        raise NotImplementedError  # abstract: of the architecture

    def split_latent(self, latent, embedded):
        """Returns (the linear layer's input, a list of the blocks' conditions); `embedded` is None without labels."""
        raise NotImplementedError  # abstract: of the architecture

    def call(self, latent, label=None, training=False):
        """Draws pictures.

        Args:
            latent: float32 [B, latent_dim], standard normal in training.
            label: int32 [B] in [0, num_classes) where there are classes.
            training: normalise by the batch's statistics, and update the moving ones.

        Returns:
            float32 [B, resolution, resolution, 3] in [-1, 1].
        """
        embedded = self.embedding(label) if self.num_classes else None
        x, conditions = self.split_latent(latent, embedded)
        x = tf.reshape(self.linear(x, training=training), [-1, 4, 4, self.bottom_channels])
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
        latent_dim: not used; accepted so that both networks are made from one set of arguments.
        num_classes: with classes, the projection head adds embedding(label) . h; 0 for none.
        blocks_per_stage: residual blocks per stage; the first of them halves. None: BigGAN 1, BigGAN-deep 2.
        discriminator_channel_multipliers: widths of its own, from the picture on, in place of the generator's mirrored; or None.
        output_dim: outputs of the last linear layer: 1 for a discriminator, mean and log variance for an encoder.
        flatten: give the last map to that layer with its positions, as an encoder needs; else sum over them, as BigGAN's
            discriminator does.
        resolution, base_channels, attention_resolution, channel_multipliers, spectral_norm, activation,
            leaky_relu_slope, initializer: as the generator's. `channel_multipliers` is the generator's chain.

    Raises:
        ValueError: sizes that do not fit together, or labels with `flatten`: the projection head needs the sum.
    """

    # Of the architecture:
    default_blocks_per_stage = None
    width_divisor = 1  # what base_channels is a multiple of

    def __init__(
        self,
        resolution,
        base_channels,
        latent_dim=None,
        num_classes=0,
        attention_resolution=64,
        channel_multipliers=None,
        discriminator_channel_multipliers=None,
        blocks_per_stage=None,
        spectral_norm=False,
        activation="relu",
        leaky_relu_slope=0.2,
        initializer="orthogonal",
        output_dim=1,
        flatten=False,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        if flatten and num_classes:
            raise ValueError("flatten with num_classes: the projection head needs the sum over positions.")
        blocks_per_stage = blocks_per_stage or self.default_blocks_per_stage
        tables.check_sizes(base_channels, latent_dim or 1, blocks_per_stage, num_classes, self.width_divisor)
        multipliers = tables.discriminator_multipliers(
            resolution, channel_multipliers, discriminator_channel_multipliers
        )
        channels = [base_channels * m for m in multipliers]
        self.resolution, self.num_classes = resolution, num_classes
        self.activation = layers.activation_function(activation, leaky_relu_slope)
        conv = dict(spectral_norm=spectral_norm, initializer=initializer)
        self.stem, stages = self.plan_stages(channels, conv)
        self.blocks, self.attention, self.attention_after = [], None, None
        size = resolution
        for in_channels, out_channels, down in stages:
            for j in range(blocks_per_stage):
                shape = (in_channels if j == 0 else out_channels, out_channels, down and j == 0)
                _add_block(self, self.make_block(*shape, conv))
            size = size // 2 if down else size
            if down and size == attention_resolution:
                self.attention = layers.NonLocalBlock(out_channels, **conv)
                self.attention_after = len(self.blocks) - 1
        # The head stays in float32: it is small, and a logit or a log variance needs the digits.
        self.flatten = flatten
        features = channels[-1] * (size**2 if flatten else 1)
        self.linear = layers.Dense(features, output_dim, dtype="float32", **conv)
        if num_classes:
            self.embedding = layers.Embedding(num_classes, channels[-1], **conv)
        self.built = True

    def plan_stages(self, channels, conv):
        """Returns (the first layer or None, a list of stages (channels in, channels out, whether it halves))."""
        raise NotImplementedError  # abstract: of the architecture

    def make_block(self, in_channels, out_channels, down, conv):
        """Returns the residual block, called as block(x, training)."""
        raise NotImplementedError  # abstract: of the architecture

    def call(self, image, label=None, training=False):
        """Judges, or encodes, pictures.

        Args:
            image: float32 [B, resolution, resolution, 3] in [-1, 1].
            label: int32 [B] in [0, num_classes) where there are classes.
            training: with spectral norm, do a power iteration.

        Returns:
            float32 [B, output_dim].
        """
        x = image if self.stem is None else self.stem(image, training=training)
        for i, block in enumerate(self.blocks):
            x = block(x, training=training)
            if i == self.attention_after:
                x = self.attention(x, training=training)
        h = tf.cast(self.activation(x), tf.float32)
        h = tf.reshape(h, [-1, h.shape[1] * h.shape[2] * h.shape[3]]) if self.flatten else tf.reduce_sum(h, [1, 2])
        out = self.linear(h, training=training)
        if self.num_classes:
            out += tf.reduce_sum(self.embedding(label, training=training) * h, -1, keepdims=True)
        return out

"""BigGAN-deep's two networks (Brock et al., arXiv 1809.11096, appendix B, table 7 and figure 16)."""

import keras
import tensorflow as tf

from tfvae.networks import layers, network

BOTTLENECK = 4  # hidden channels of a block are a quarter of its input's (generator) or output's (discriminator)


class GeneratorBlock(keras.layers.Layer):
    """Bottleneck block (figure 16b): norm, activation and convolution four times, 1 x 1, (up) 3 x 3, 3 x 3, 1 x 1.

    The skip keeps the first `out_channels` channels and drops the others, then resizes: no parameters.
    """

    def __init__(self, in_channels, out_channels, in_size, size, condition_dim, activation, conv, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.activation, self.in_size, self.size, self.out_channels = activation, in_size, size, out_channels
        hidden = in_channels // BOTTLENECK
        self.norm1 = layers.BatchNorm(in_channels, condition_dim, **conv)
        self.conv1 = layers.Conv2D(in_channels, hidden, 1, **conv)
        self.norm2 = layers.BatchNorm(hidden, condition_dim, **conv)
        self.conv2 = layers.Conv2D(hidden, hidden, 3, "up" if size == 2 * in_size else None, **conv)
        self.norm3 = layers.BatchNorm(hidden, condition_dim, **conv)
        self.conv3 = layers.Conv2D(hidden, hidden, 3, **conv)
        self.norm4 = layers.BatchNorm(hidden, condition_dim, **conv)
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


class Generator(network.Generator):
    """BigGAN-deep's generator. With labels the whole latent, joined to the class embedding, conditions the linear layer
    and every norm. Arguments: `network.Generator`'s.
    """

    default_blocks_per_stage = 2
    width_divisor = BOTTLENECK

    def plan_latent(self, num_blocks, embedding_dim):
        self.num_blocks = num_blocks
        return self.latent_dim + embedding_dim, self.latent_dim + embedding_dim if embedding_dim else 0

    def make_block(self, in_channels, out_channels, in_size, size, condition_dim, conv):
        return GeneratorBlock(in_channels, out_channels, in_size, size, condition_dim, self.activation, conv)

    def split_latent(self, latent, embedded):
        if embedded is None:
            return latent, [None] * self.num_blocks
        condition = tf.concat([embedded, latent], -1)
        return condition, [condition] * self.num_blocks


class Discriminator(network.Discriminator):
    """BigGAN-deep's discriminator: a 3 x 3 convolution, then stages that each halve. Arguments:
    `network.Discriminator`'s.
    """

    default_blocks_per_stage = 2
    width_divisor = BOTTLENECK

    def plan_stages(self, channels, conv):
        stages = [(a, b, True) for a, b in zip(channels, channels[1:])]
        return layers.Conv2D(3, channels[0], 3, **conv), stages

    def make_block(self, in_channels, out_channels, down, conv):
        return DiscriminatorBlock(in_channels, out_channels, down, self.activation, conv)

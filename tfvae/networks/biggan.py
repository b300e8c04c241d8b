"""BigGAN's two networks (Brock et al., arXiv 1809.11096, appendix B, table 4 and figure 15)."""

import keras
import tensorflow as tf

from tfvae.networks import layers, network, tables


class GeneratorBlock(keras.layers.Layer):
    """Residual block (figure 15b): norm, activation, (up), 3 x 3, norm, activation, 3 x 3; skip: (up), 1 x 1 where needed.

    `size`: the side that the block ends with; twice the input's, the same, or (32 to 45 px) another one.
    """

    def __init__(self, in_channels, out_channels, in_size, size, condition_dim, activation, conv, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.activation, self.in_size, self.size = activation, in_size, size
        resample = "up" if size == 2 * in_size else None
        self.norm1 = layers.BatchNorm(in_channels, condition_dim, **conv)
        self.conv1 = layers.Conv2D(in_channels, out_channels, 3, resample, **conv)
        self.norm2 = layers.BatchNorm(out_channels, condition_dim, **conv)
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


class Generator(network.Generator):
    """BigGAN's generator. With labels the latent is cut into chunks, one for the linear layer (it takes the remainder)
    and one for each block's norms; without labels the linear layer takes it whole. Arguments: `network.Generator`'s.
    """

    default_blocks_per_stage = 1

    def plan_latent(self, num_blocks, embedding_dim):
        self.num_blocks = num_blocks
        if not embedding_dim:
            return self.latent_dim, 0
        self.chunks = tables.latent_chunks(self.latent_dim, num_blocks)
        return self.chunks[0], self.chunks[-1] + embedding_dim

    def make_block(self, in_channels, out_channels, in_size, size, condition_dim, conv):
        return GeneratorBlock(in_channels, out_channels, in_size, size, condition_dim, self.activation, conv)

    def split_latent(self, latent, embedded):
        if embedded is None:
            return latent, [None] * self.num_blocks
        first, *others = tf.split(latent, self.chunks, axis=-1)
        return first, [tf.concat([embedded, chunk], -1) for chunk in others]


class Discriminator(network.Discriminator):
    """BigGAN's discriminator: the first block takes the picture, the last stage keeps the size. Arguments:
    `network.Discriminator`'s.
    """

    default_blocks_per_stage = 1

    def plan_stages(self, channels, conv):
        halves = [True] * (len(channels) - 1) + [False]
        return None, list(zip([3, *channels], channels, halves))

    def make_block(self, in_channels, out_channels, down, conv):
        return DiscriminatorBlock(in_channels, out_channels, down, not self.blocks, self.activation, conv)

"""The directions of a latent that change a generator's picture most, from its weights alone (SeFa, arXiv 2007.06600).

The same for every objective, so that what a GAN's and a VAE's strongest directions do can be compared.
"""

import dataclasses

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True, eq=False)
class Directions:
    """Attributes:
    vectors: float32 [K, Z], of length 1, at right angles, the strongest first.
    strengths: float32 [K], their singular values.
    moved: entries of the latent that they are made of.
    """

    vectors: np.ndarray
    strengths: np.ndarray
    moved: int


def strongest(network, number):
    """The `Directions` in which the first linear layer's output changes most: its left singular vectors.

    Where a labelled BigGAN cuts its latent into chunks, that layer takes the first one alone, and the directions move no other.

    Args:
        network: `tfvae.networks.network.Generator`. number: how many, if there are so many.
    """
    latent = tf.eye(network.latent_dim)
    # Without a label's part: what each entry of the latent gives to the layer's inputs.
    embedded = tf.zeros([network.latent_dim, network.embedding.kernel.shape[-1]]) if network.num_classes else None
    inputs = network.split_latent(latent, embedded)[0].numpy()
    moved = np.count_nonzero(inputs.any(axis=1))
    vectors, strengths, _ = np.linalg.svd(inputs @ network.linear.kernel.numpy(), full_matrices=False)
    vectors = vectors.T[: min(number, moved)]
    # A singular vector and its opposite are the same: the largest entry is positive.
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=1)[:, None], 1)
    return Directions((vectors * np.sign(largest)).astype(np.float32), strengths[: len(vectors)], moved)

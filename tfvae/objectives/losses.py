"""Losses as pure functions: one float32 value per example, [B]; no averages, no networks.

Logits are unbounded float32 [B]; `real` are of images of the data, `fake` of the generator's.
"""

import math

import tensorflow as tf


def vanilla_discriminator(real, fake):
    """-ln D(x) - ln(1 - D(G(z))), D = sigmoid(logit) (the paper, section 3; Goodfellow et al., arXiv 1406.2661).

    From logits: from a sigmoid's output it saturates, and the gradient is lost.
    """
    return tf.nn.softplus(-real) + tf.nn.softplus(fake)


def vanilla_generator(real, fake):
    """-ln D(G(z)), the non-saturating form (the paper, section 3)."""
    return tf.nn.softplus(-fake)


def hinge_discriminator(real, fake):
    """max(0, 1 - x) + max(0, 1 + y) of the logits x, y of real and fake (Geometric GAN, arXiv 1705.02894; BigGAN)."""
    return tf.nn.relu(1.0 - real) + tf.nn.relu(1.0 + fake)


def least_squares_discriminator(real, fake):
    """((x - 1)^2 + y^2) / 2 (LSGAN, arXiv 1611.04076, equation 9)."""
    return 0.5 * (tf.square(real - 1.0) + tf.square(fake))


def least_squares_generator(real, fake):
    """(y - 1)^2 / 2 (LSGAN, arXiv 1611.04076, equation 9)."""
    return 0.5 * tf.square(fake - 1.0)


def wasserstein_discriminator(real, fake):
    """y - x, without its gradient penalty (WGAN, arXiv 1701.07875)."""
    return fake - real


def negative_logit_generator(real, fake):
    """-y: the generator's loss beside the hinge and the Wasserstein discriminator."""
    return -fake


def relativistic_discriminator(real, fake):
    """softplus(-(x - y)) of the logits x, y of an image and of the drawn one that it is paired with (R3GAN, arXiv 2501.05441)."""
    return tf.nn.softplus(fake - real)


def relativistic_generator(real, fake):
    """softplus(-(y - x)): the drawn image of the pair is to be judged the more real one (R3GAN, arXiv 2501.05441)."""
    return tf.nn.softplus(real - fake)


# {name: (the discriminator's loss, the generator's), two functions of the logits of real and drawn images}.
ADVERSARIAL = {
    "vanilla": (vanilla_discriminator, vanilla_generator),
    "hinge": (hinge_discriminator, negative_logit_generator),
    "least_squares": (least_squares_discriminator, least_squares_generator),
    "wasserstein": (wasserstein_discriminator, negative_logit_generator),
    "relativistic": (relativistic_discriminator, relativistic_generator),
}
PAIRED = (
    "relativistic",
)  # whose generator's loss needs the real images' logits; the drawn image of a pair has its label


def gradient_penalty(gradient):
    """(|gradient| - 1)^2 of the discriminator's gradient by its picture (WGAN-GP, arXiv 1704.00028, equation 3).

    Args:
        gradient: float32 [B, H, W, C].
    """
    # The small number keeps the square root's own gradient finite at 0.
    norm = tf.sqrt(tf.reduce_sum(tf.square(gradient), [1, 2, 3]) + 1e-12)
    return tf.square(norm - 1.0)


def squared_gradient(gradient):
    """Squared norm of the discriminator's gradient by its picture: R1 of real, R2 of drawn images (Mescheder et al.,
    arXiv 1801.04406, section 4.1, without the half).

    Args:
        gradient: float32 [B, H, W, C].
    """
    return tf.reduce_sum(tf.square(gradient), [1, 2, 3])


def squared_error(image, reconstruction):
    """Squared error summed over pixels and channels: two float [B, H, W, C] -> [B]."""
    return tf.reduce_sum(tf.math.squared_difference(image, reconstruction), [1, 2, 3])


def gaussian_negative_log_likelihood(squared_error_sum, num_values, log_sigma):
    """-ln N(x; reconstruction, sigma^2 I) with one sigma for all (sigma-VAE, Rybkin et al., arXiv 2006.13202).

    Args:
        squared_error_sum: [B]. num_values: H x W x C. log_sigma: scalar.
    """
    constant = num_values * (log_sigma + 0.5 * math.log(2.0 * math.pi))
    return constant + 0.5 * squared_error_sum * tf.exp(-2.0 * log_sigma)


def kl_divergence(mean, log_variance):
    """KL(N(mean, variance) || N(0, 1)), one value per dimension: two [B, Z] -> [B, Z] (Kingma and Welling, appendix B)."""
    return 0.5 * (tf.exp(log_variance) + tf.square(mean) - 1.0 - log_variance)


def orthogonal_penalty(kernel):
    """Squared Frobenius norm of W^T W with its diagonal set to 0 (BigGAN, equation 3): a scalar."""
    matrix = tf.reshape(kernel, [-1, kernel.shape[-1]])
    if matrix.shape[0] >= matrix.shape[1]:
        gram = tf.matmul(matrix, matrix, transpose_a=True)
        return tf.reduce_sum(tf.square(tf.linalg.set_diag(gram, tf.zeros(tf.shape(gram)[0]))))
    # A wide matrix: W^T W would have gigabytes for a first linear layer. W W^T has the same norm, and a wide W cannot make
    # the difference small, so few digits are lost.
    diagonal = tf.reduce_sum(tf.square(matrix), 0)
    return tf.reduce_sum(tf.square(tf.matmul(matrix, matrix, transpose_b=True))) - tf.reduce_sum(tf.square(diagonal))

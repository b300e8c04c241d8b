"""How well a VAE gives images back, and how much of its latent it uses; arrays only.

Errors take images and reconstructions, uint8 [N, H, W, 3] both, compute in float64 and return a value per image, float64 [N].
They raise a ValueError of one line for shapes or types that differ.
"""

import numpy as np
from scipy import ndimage

from tfvae.scoring import checks

# Of SSIM: Gaussian window of 11 px, and its two constants for pixels from 0 to 255.
SIGMA, RADIUS = 1.5, 5
C1, C2 = (0.01 * 255.0) ** 2, (0.03 * 255.0) ** 2
LEAST_VARIANCE = 0.01  # of a unit, or of a direction, that is in use


def squared_error(images, reconstructions):
    """Mean squared error of pixels in [0, 1]."""
    images, reconstructions = _pixels(images, reconstructions)
    return np.mean(((images - reconstructions) / 255.0) ** 2, axis=(1, 2, 3))


def psnr(images, reconstructions):
    """Peak signal-to-noise ratio in decibels; infinite for equal images."""
    with np.errstate(divide="ignore"):
        return -10.0 * np.log10(squared_error(images, reconstructions))


def ssim(images, reconstructions):
    """Structural similarity, -1 to 1 (Wang et al., 2004, equation 13, and its Gaussian window): mean over places and channels.

    Windows lie whole within the image, as in TensorFlow's `tf.image.ssim`. That computes in float32, in which the variances of
    flat images are rounding: it then exceeds 1.

    Args:
        images, reconstructions: H and W 11 or more.
    """
    images, reconstructions = _pixels(images, reconstructions)
    if min(images.shape[1:3]) <= 2 * RADIUS:
        height, width = images.shape[1:3]
        raise ValueError(f"SSIM of images of {width} x {height} px: expected {2 * RADIUS + 1} px or more a side.")

    def local_mean(values):
        mean = ndimage.gaussian_filter(values, (0.0, SIGMA, SIGMA, 0.0), radius=(0, RADIUS, RADIUS, 0))
        return mean[:, RADIUS:-RADIUS, RADIUS:-RADIUS]

    one, other = local_mean(images), local_mean(reconstructions)
    variances = local_mean(images**2) - one**2 + local_mean(reconstructions**2) - other**2
    covariance = local_mean(images * reconstructions) - one * other
    similarity = (2.0 * one * other + C1) * (2.0 * covariance + C2) / ((one**2 + other**2 + C1) * (variances + C2))
    return similarity.mean(axis=(1, 2, 3))


def active_units(means):
    """Entries of the latent whose posterior mean varies over images by more than `LEAST_VARIANCE`.

    Burda et al., arXiv 1509.00519, section 5. At small n the variance is uncertain, and few units lie near the limit.

    Args:
        means: float [N, Z], N 2 or more.
    """
    means = checks.matrix("means", means, 2)
    return int(np.count_nonzero(means.var(axis=0) > LEAST_VARIANCE))


def active_units_rank(means):
    """Eigenvalues of the covariance of the posterior means above `LEAST_VARIANCE`: independent directions in use.

    Active units that are combinations of fewer values, such as of an encoder's sums over positions, are no more than those.

    Args:
        means: float [N, Z], N 2 or more; at most N - 1 directions can show.
    """
    means = checks.matrix("means", means, 2)
    covariance = np.atleast_2d(np.cov(means, rowvar=False, bias=True))
    return int(np.count_nonzero(np.linalg.eigvalsh(covariance) > LEAST_VARIANCE))


def _pixels(images, reconstructions):
    """Both as float64."""
    images, reconstructions = np.asarray(images), np.asarray(reconstructions)
    if images.shape != reconstructions.shape or images.dtype != np.uint8 or reconstructions.dtype != np.uint8:
        raise ValueError(
            f"images are {images.dtype} {list(images.shape)} and reconstructions {reconstructions.dtype} "
            f"{list(reconstructions.shape)}: expected uint8 [N, H, W, 3], both of one shape."
        )
    return images.astype(np.float64), reconstructions.astype(np.float64)

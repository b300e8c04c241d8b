"""How well a VAE gives images back, and how much of its latent it uses; arrays only."""

import numpy as np
import tensorflow as tf

from tfvae.scoring import checks


def reconstruction_errors(images, reconstructions):
    """Squared error, PSNR and SSIM, each the mean over images of the value of an image.

    SSIM is TensorFlow's (Wang et al., 2004: Gaussian window of 11 px, sigma 1.5, k 0.01 and 0.03), mean over channels.

    Args:
        images, reconstructions: uint8 [N, H, W, 3], H and W 11 or more.

    Returns:
        {"squared_error": of pixels in [0, 1], "psnr": decibels (infinite for equal images), "ssim": -1 to 1}, floats.

    Raises:
        ValueError: shapes or types that differ.
    """
    images, reconstructions = np.asarray(images), np.asarray(reconstructions)
    if images.shape != reconstructions.shape or images.dtype != np.uint8 or reconstructions.dtype != np.uint8:
        raise ValueError(
            f"images are {images.dtype} {list(images.shape)} and reconstructions {reconstructions.dtype} "
            f"{list(reconstructions.shape)}: expected uint8 [N, H, W, 3], both of one shape."
        )
    squared, ssim = [], []
    for start in range(0, len(images), 256):
        pair = images[start : start + 256], reconstructions[start : start + 256]
        difference = (pair[0].astype(np.float64) - pair[1]) / 255.0
        squared.append(np.mean(difference**2, axis=(1, 2, 3)))
        ssim.append(tf.image.ssim(*map(tf.constant, pair), max_val=255).numpy())
    squared = np.concatenate(squared)
    with np.errstate(divide="ignore"):
        psnr = -10.0 * np.log10(squared)
    return {
        "squared_error": float(squared.mean()),
        "psnr": float(psnr.mean()),
        "ssim": float(np.concatenate(ssim).mean(dtype=np.float64)),
    }


def active_units(means, least_variance=0.01):
    """Entries of the latent whose posterior mean varies over images by more than `least_variance`.

    Burda et al., arXiv 1509.00519, section 5. At small n the variance is uncertain, and few units lie near the limit.

    Args:
        means: float [N, Z], N 2 or more.
    """
    means = checks.matrix("means", means, 2)
    return int(np.count_nonzero(means.var(axis=0) > least_variance))

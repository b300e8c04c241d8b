"""How likely images are under a model with an encoder: bounds on their likelihood, rate and distortion.

With y an image of the model's range, z its latent, p(z) = N(0, I), p(y|z) = N(decoder's image, sigma^2 I) and q(z|y) the
encoder's posterior. The pixels x of 8 bits are dequantised, y = (x + u - 1/2) / 127.5 - 1 with u uniform in [0, 1), so that a
density of y bounds the probability of x (Theis et al., arXiv 1511.01844, section 3.1).
"""

import math

import numpy as np

BITS_PER_NAT = 1.0 / math.log(2.0)
# Images whose squared error gives sigma where a model has not learned it, and images whose likelihood is bounded.
SIGMA_IMAGES, SCORED_IMAGES = 10_000, 1_000


def dequantise(images, draw):
    """uint8 [N, H, W, 3] -> float32 of the same shape, each level spread evenly over its share of about [-1, 1].

    Args:
        draw: NumPy's `Generator` of u; images that come in parts get what all at once would get.
    """
    noise = draw.random(images.shape, np.float32)
    return (images.astype(np.float32) + noise - 0.5) / 127.5 - 1.0


def bits_per_dimension(log_density, num_values):
    """Of pixels of 8 bits, from the log density of dequantised images.

    Args:
        log_density: ln p(y), float [N], nats. num_values: H W C.

    Returns:
        float [N], bits: a level of x is 1 / 127.5 wide in y.
    """
    return -np.asarray(log_density) * BITS_PER_NAT / num_values + math.log2(127.5)


def log_normal(value, mean, log_variance):
    """ln N(value; mean, exp(log_variance)) summed over all but the first axis: float64 [N]."""
    value, mean, log_variance = (np.asarray(x, np.float64) for x in (value, mean, log_variance))
    density = -0.5 * (np.log(2.0 * np.pi) + log_variance + (value - mean) ** 2 * np.exp(-log_variance))
    return density.reshape(len(density), -1).sum(1)


def posterior_samples(mean, log_variance, draw):
    """One draw for each row of a diagonal normal: float32 [N, Z]."""
    noise = draw.standard_normal(mean.shape, np.float32)
    return (mean + np.exp(0.5 * log_variance) * noise).astype(np.float32)


def bounds(images, encode, decode, sigma, num_samples=1, seed=0):
    """Lower bounds on the log likelihood of images, and what they are made of.

    Args:
        images: y, float32 [N, H, W, C]. encode: of such images -> mean, log variance, float32 [N, Z].
        decode: float32 [N, Z] -> float32 [N, H, W, C]. sigma: of p(y|z), more than 0.
        num_samples: K of the importance-weighted bound (Burda et al., arXiv 1509.00519, equation 8), which never falls in K and
            reaches ln p(y); with 1 it is the ELBO by one draw.
        seed: of the draws.

    Returns:
        {"importance_weighted": ln p(y) or less, "elbo": -distortion - rate, "rate": KL(q(z|y) || p(z)), "distortion":
        -ln p(y|z) of one draw}, float64 [N] in nats, and "rate_by_dimension", float64 [N, Z].

    Raises:
        ValueError: no samples, or a sigma that is not positive.
    """
    if num_samples < 1 or not sigma > 0.0:
        raise ValueError(f"num_samples={num_samples}, sigma={sigma}: expected 1 or more samples and a sigma above 0.")
    draw = np.random.default_rng(seed)
    mean, log_variance = encode(images)
    log_sigma_squared = np.float64(2.0 * math.log(sigma))
    log_weights, distortion = [], None
    for _ in range(num_samples):
        latent = posterior_samples(mean, log_variance, draw)
        likelihood = log_normal(images, decode(latent), log_sigma_squared)
        distortion = -likelihood if distortion is None else distortion
        prior, posterior = log_normal(latent, 0.0, np.float64(0.0)), log_normal(latent, mean, log_variance)
        log_weights.append(likelihood + prior - posterior)
    log_weights = np.stack(log_weights)
    highest = log_weights.max(0)
    mean, log_variance = (np.asarray(x, np.float64) for x in (mean, log_variance))
    rate = 0.5 * (np.exp(log_variance) + mean**2 - 1.0 - log_variance)
    return {
        "importance_weighted": highest + np.log(np.mean(np.exp(log_weights - highest), 0)),
        "elbo": -distortion - rate.sum(1),
        "rate": rate.sum(1),
        "distortion": distortion,
        "rate_by_dimension": rate,
    }


def sample_errors(images, encode, decode, seed=0):
    """Mean squared error of one posterior sample of each image: float64 [N]. Arguments as `bounds`'.

    The root of their mean is the likeliest sigma of p(y|z).
    """
    latent = posterior_samples(*encode(images), np.random.default_rng(seed))
    return np.mean((np.asarray(images, np.float64) - decode(latent)) ** 2, axis=(1, 2, 3))

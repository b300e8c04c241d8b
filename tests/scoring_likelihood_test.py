"""Bounds on the likelihood, against a linear-Gaussian model whose likelihood is known in closed form."""

import numpy as np
import pytest

from tfvae.scoring import likelihood

SIGMA = 0.3
# Columns at right angles: then the posterior of the latent is diagonal, as the encoder's is.
WEIGHTS = np.linalg.qr(np.random.default_rng(0).normal(size=(12, 3)))[0] * [2.0, 1.0, 0.5]
OFFSET = np.random.default_rng(1).normal(size=12)


def images(number=50):
    draw = np.random.default_rng(2)
    flat = draw.normal(size=(number, 3)) @ WEIGHTS.T + OFFSET + SIGMA * draw.normal(size=(number, 12))
    return flat.reshape(number, 2, 2, 3).astype(np.float32)


def decode(latent):
    return (latent @ WEIGHTS.T + OFFSET).reshape(-1, 2, 2, 3).astype(np.float32)


def posterior(y, shift=0.0):
    """The exact one; moved, one that is not."""
    precision = 1.0 + np.sum(WEIGHTS**2, 0) / SIGMA**2
    mean = (y.reshape(-1, 12) - OFFSET) @ WEIGHTS / SIGMA**2 / precision
    return (mean + shift).astype(np.float32), np.broadcast_to(-np.log(precision), mean.shape).astype(np.float32)


def log_likelihood(y):
    """ln N(y; offset, W W^T + sigma^2 I)."""
    covariance = WEIGHTS @ WEIGHTS.T + SIGMA**2 * np.eye(12)
    rest = y.reshape(-1, 12).astype(np.float64) - OFFSET
    return -0.5 * (
        12 * np.log(2 * np.pi) + np.linalg.slogdet(covariance)[1] + np.sum(rest @ np.linalg.inv(covariance) * rest, 1)
    )


@pytest.mark.parametrize("num_samples", [1, 10])
def test_with_the_exact_posterior_the_bound_is_the_likelihood(num_samples):
    y = images()
    found = likelihood.bounds(y, posterior, decode, SIGMA, num_samples)
    np.testing.assert_allclose(found["importance_weighted"], log_likelihood(y), rtol=1e-4, atol=1e-3)


def test_the_elbo_lies_below_the_likelihood_and_reaches_it_on_average_with_the_exact_posterior():
    y = np.repeat(images(3), 4000, axis=0)  # many draws of each
    elbo = likelihood.bounds(y, posterior, decode, SIGMA)["elbo"].reshape(3, 4000).mean(1)
    np.testing.assert_allclose(elbo, log_likelihood(images(3)), atol=0.15)
    wrong = likelihood.bounds(y, lambda v: posterior(v, 0.3), decode, SIGMA)["elbo"].reshape(3, 4000).mean(1)
    # KL(N(m + 0.3, v) || N(m, v)) = 0.3^2 / (2 v), summed over the latent.
    gap = np.sum(0.3**2 / 2 * (1.0 + np.sum(WEIGHTS**2, 0) / SIGMA**2))
    np.testing.assert_allclose(log_likelihood(images(3)) - wrong, gap, atol=0.15)


def test_more_samples_bring_a_wrong_posterior_nearer_to_the_likelihood():
    y = images(200)
    means = [
        likelihood.bounds(y, lambda v: posterior(v, 0.1), decode, SIGMA, k)["importance_weighted"].mean()
        for k in (1, 10, 100)
    ]
    assert means[0] < means[1] < means[2] <= log_likelihood(y).mean() + 0.05


def test_rate_is_the_kl_divergence_and_its_parts_add_up():
    found = likelihood.bounds(images(), posterior, decode, SIGMA)
    mean, log_variance = (x.astype(np.float64) for x in posterior(images()))
    expected = 0.5 * np.sum(np.exp(log_variance) + mean**2 - 1 - log_variance, 1)
    np.testing.assert_allclose(found["rate"], expected)
    np.testing.assert_allclose(found["rate_by_dimension"].sum(), expected.mean())
    np.testing.assert_allclose(found["elbo"], -found["rate"] - found["distortion"])


def test_sigma_is_the_root_mean_squared_error_of_posterior_samples():
    """E (y - W z - b)^2 is sigma^2 for y and z of the model."""
    np.testing.assert_allclose(likelihood.sigma_of(images(20_000), posterior, decode), SIGMA, rtol=0.01)


def test_uniform_pixels_have_eight_bits_per_dimension():
    """A density of 1 / 2 in [-1, 1] gives each of 255 steps 1 / 255: nearly 8 bits."""
    bits = likelihood.bits_per_dimension(np.array([12 * np.log(0.5)]), 12)
    np.testing.assert_allclose(bits, np.log2(255.0))


def test_dequantised_pixels_keep_their_level():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, 3)
    y = likelihood.dequantise(levels)
    np.testing.assert_array_equal(np.round((y + 1.0) * 127.5), levels)
    assert y.dtype == np.float32 and np.std((y + 1.0) * 127.5 - levels) == pytest.approx(12**-0.5, rel=0.05)


@pytest.mark.parametrize("wrong", [dict(num_samples=0), dict(sigma=0.0), dict(sigma=float("nan"))])
def test_wrong_arguments_are_one_line(wrong):
    with pytest.raises(ValueError, match="expected 1 or more samples and a sigma above 0"):
        likelihood.bounds(images(2), posterior, decode, **dict(sigma=SIGMA) | wrong)

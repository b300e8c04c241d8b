"""Latents: where they are drawn from, how they are truncated, and the way from one to another.

They are drawn from the standard normal, or from a mixture fitted to a trained VAE's codes of its training images.
A VAE's decoder was trained on codes. Where these do not fill the normal, samples from the normal look worse than the decoder
can draw: with the mixture (Ghosh et al., arXiv 1903.12436, section 4) a poor prior can be told from a poor decoder.
"""

import warnings

import numpy as np
import tensorflow as tf

COMPONENTS = 10  # as Ghosh et al.
LATENT, LABEL = 0, 1  # streams of a seed's random numbers


def latents(number, latent_dim, seed=0):
    """Standard normal, float32 [number, latent_dim]: row i is the same whatever the number of rows."""
    return tf.random.stateless_normal([number, latent_dim], [seed, 0], alg="philox").numpy()


def interpolate(start, end, steps):
    """Spherical interpolation between latents: two [N, Z] -> [N, steps, Z], both ends included."""
    return between(start, end, np.linspace(0.0, 1.0, steps))


def between(start, end, shares):
    """Latents on the sphere's way from some to others: two [N, Z] -> float32 [N, S, Z].

    Straight lines would pass through lengths that a normal of many dimensions hardly ever has (White, arXiv 1609.04468).

    Args:
        shares: [S], how far along the way, 0 to 1.
    """
    share = np.asarray(shares, np.float32)[None, :, None]
    start, end = start[:, None], end[:, None]
    norms = np.linalg.norm(start, axis=-1, keepdims=True) * np.linalg.norm(end, axis=-1, keepdims=True)
    cosine = np.clip(np.sum(start * end, -1, keepdims=True) / np.maximum(norms, 1e-12), -1.0, 1.0)
    angle = np.arccos(cosine)
    sine = np.sin(angle)
    straight = (1.0 - share) * start + share * end
    with np.errstate(divide="ignore", invalid="ignore"):
        curved = (np.sin((1.0 - share) * angle) * start + np.sin(share * angle) * end) / sine
    return np.where(sine < 1e-6, straight, curved).astype(np.float32)


def truncated_normal(uniform, truncation):
    """Normal numbers as if redrawn until they are within +-truncation (BigGAN's truncation trick).

    By the inverse of the normal's distribution function: with u uniform, ndtri(Phi(-t) + u (Phi(t) - Phi(-t))). So one u gives
    one number for every truncation, and pictures at two truncations compare.

    Args:
        uniform: float64 tensor, more than 0 and less than 1. truncation: float32 tensor that broadcasts to it, more than 0; a
            large one, infinity too, leaves plain normal numbers.

    Returns:
        float32 tensor of `uniform`'s shape.
    """
    # The same sum, without its cancellation for small t. From 10 on the limit is beyond what u can give; erf(infinity) is NaN.
    limit = tf.minimum(tf.cast(truncation, tf.float64), 10.0)
    share = 0.5 + (uniform - 0.5) * tf.math.erf(limit / np.sqrt(2.0))
    # Into float32 first, so that rounding leaves no entry beyond the limit.
    return tf.clip_by_value(tf.cast(tf.math.ndtri(share), tf.float32), -truncation, truncation)


def truncated(latent, truncation):
    """Latents, float32 [N, Z], as if redrawn until every entry is within +-truncation, entry by entry: the same shape."""
    uniform = 0.5 * tf.math.erfc(-tf.constant(latent, tf.float64) / np.sqrt(2.0))
    return truncated_normal(uniform, tf.constant(truncation, tf.float32)).numpy()


def uniform_of_seeds(seed, stream, shape):
    """Uniform numbers, float64 [N, *shape], more than 0 and less than 1: row i depends on seed i alone.

    Args:
        seed: int64 [N]; where a graph does not know N, its rows are drawn in a loop.
        stream: of the seed's numbers, such as `LATENT`.
    """

    def row_of(one):
        return tf.random.stateless_uniform(shape, tf.stack([one, stream]), dtype=tf.float64, alg="philox")

    if seed.shape[0] is None:
        rows = tf.map_fn(row_of, seed, fn_output_signature=tf.float64)
    else:
        rows = tf.stack([row_of(one) for one in tf.unstack(seed)])
    # The middle of each of 2^52 steps: never 0 or 1, whose ndtri is infinite.
    return rows + 2.0**-53


def latents_of_seeds(seed, truncation, latent_dim):
    """The latents that an endpoint's `sample` draws from: standard normal, truncated (`truncated_normal`), each of its own seed.

    Args:
        seed: int64 [N]. truncation: float32 [N], more than 0.

    Returns:
        float32 [N, latent_dim]: row i depends on seed i and truncation i alone.
    """
    return truncated_normal(uniform_of_seeds(seed, LATENT, [latent_dim]), truncation[:, None])


class Normal:
    """The standard normal, the same for every label.

    Args:
        latent_dim: Z.
    """

    def __init__(self, latent_dim):
        self.latent_dim = latent_dim
        self.facts = {"kind": "normal"}

    def draw(self, labels, seed):
        """Latents, float32 [N, Z], for labels int32 [N]; row i is the same whatever N is."""
        return latents(len(labels), self.latent_dim, seed)


class Mixture:
    """Gaussian mixtures with full covariances, one for each label: COMPONENTS in all, and at least one per label.

    A decoder that is told the label has another distribution of codes for each.

    Args:
        codes: float [N, Z], one draw from the posterior of each training image.
        labels: int32 [N]; zeros without classes.
        seed: of the fit.

    Raises:
        ValueError: a label with fewer images than its mixture needs.
    """

    def __init__(self, codes, labels, seed=0):
        from sklearn import exceptions, mixture  # takes a second to import, and training never needs it

        present = np.unique(labels)
        components = max(1, COMPONENTS // len(present))
        self.latent_dim = codes.shape[1]
        self.facts = {
            "kind": "gmm",
            "components_per_label": components,
            "labels": len(present),
            "covariance": "full",
            "images": len(codes),
            "seed": seed,
        }
        self.mixtures = {}
        for label in present:
            members = codes[labels == label]
            if len(members) <= components:
                raise ValueError(
                    f"--prior=gmm: {len(members)} training images of class {label}: expected more than {components}, one a "
                    "component."
                )
            fitted = mixture.GaussianMixture(components, covariance_type="full", random_state=seed)
            with warnings.catch_warnings():
                # After 100 rounds the likelihood hardly rises any more.
                warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
                self.mixtures[int(label)] = fitted.fit(members.astype(np.float64))

    def draw(self, labels, seed):
        """Latents, float32 [N, Z], for labels int32 [N].

        Raises:
            ValueError: a label that no training image has.
        """
        unknown = set(np.unique(labels).tolist()) - set(self.mixtures)
        if unknown:
            raise ValueError(
                f"no training image has the label {min(unknown)}: expected one of {sorted(self.mixtures)}."
            )
        latent = np.empty([len(labels), self.latent_dim], np.float32)
        for label, fitted in self.mixtures.items():
            rows = np.flatnonzero(labels == label)
            if len(rows):
                latent[rows] = self._sample(fitted, len(rows), [seed, label])
        return latent

    def _sample(self, fitted, number, seed):
        # Not scikit-learn's `sample`, which returns its rows sorted by component.
        draw = np.random.default_rng(seed)
        chosen = draw.choice(len(fitted.weights_), number, p=fitted.weights_)
        noise = draw.normal(size=(number, self.latent_dim))
        latent = np.empty_like(noise)
        for component, covariance in enumerate(fitted.covariances_):
            rows = chosen == component
            latent[rows] = fitted.means_[component] + noise[rows] @ np.linalg.cholesky(covariance).T
        return latent

"""Where latents are drawn from: the standard normal, or a mixture fitted to a trained VAE's codes of its training images.

A VAE's decoder was trained on codes. Where these do not fill the normal, samples from the normal look worse than the decoder
can draw: with the mixture (Ghosh et al., arXiv 1903.12436, section 4) a poor prior can be told from a poor decoder.
"""

import warnings

import numpy as np

from tfvae.drawing import sheets

COMPONENTS = 10  # as Ghosh et al.


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
        return sheets.latents(len(labels), self.latent_dim, seed)


class Mixture:
    """Gaussian mixtures with full covariances, one for each label: COMPONENTS in all, and at least one a label.

    A decoder that is told the label has another distribution of codes for each.

    Args:
        codes: float [N, Z], one draw from the posterior of each training image.
        labels: int32 [N]; zeros without classes.
        seed: of the fit.

    Raises:
        ValueError: a label with fewer images than its mixture needs.
    """

    def __init__(self, codes, labels, seed=0):
        from sklearn import exceptions, mixture  # a second to import, and training never needs it

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

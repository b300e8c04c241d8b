"""The Vendi score: the variety of a set of images, compared with nothing else."""

import numpy as np

from tfvae.scoring import checks


def vendi_score(features):
    """The number of wholly different images that would vary as much (Friedman and Dieng, arXiv 2210.02410).

    The exponential of the entropy of the similarities' eigenvalues; similarity is the cosine of two images' features.

    1 for copies of one image; n for n images of which no two have anything in common. The eigenvalues are those of the features'
    [D, D] Gram matrix, which the [n, n] matrix of similarities shares.

    At small n: at most n, and too low, for it counts what is there.

    Args:
        features: float [n, D], not all zero in any row.

    Raises:
        ValueError: an image whose features are all zero, which has no cosine.
    """
    features = checks.matrix("features", features)
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    if not norms.all():
        raise ValueError(
            f"the features of {np.count_nonzero(norms == 0)} images are all zero: expected features with a direction."
        )
    features /= norms
    # The smaller of the two matrices.
    gram = features.T @ features if features.shape[1] < len(features) else features @ features.T
    shares = np.linalg.eigvalsh(gram / len(features))
    shares = shares[shares > 0]  # rounding makes some of them negative
    return float(np.exp(-np.sum(shares * np.log(shares))))

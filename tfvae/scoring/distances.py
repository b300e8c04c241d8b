"""Scores of logits and of two sets of features as a whole: Inception score, Fréchet and kernel distance, by TF-GAN.

Rows are images. Features are any float [n, D], logits float [n, K] before the softmax; all is computed in float64. The names that
papers gave to scores with Inception's outputs (Inception score, FID, KID) are right with those alone.

Every function raises a ValueError of one line for empty arrays, too few images, widths that differ, NaN and infinity.
"""

import warnings

import numpy as np

from tfvae.scoring import checks, tfgan

KERNEL_BLOCK = 1024  # images, as published kernel distances have it at most


def inception_score(logits, splits=10):
    """exp(mean over x of KL(p(y|x) || p(y))), p(y) the mean of p(y|x) (Salimans et al., arXiv 1606.03498, section 4).

    TF-GAN's `classifier_score_from_logits` gives one score for all it gets; here, as published scores are, for each of `splits`
    runs of neighbouring images, then the mean and the spread. From 1 (one class, or no idea) to K.

    At small n: too low, for p(y) is then the mean of few images; by up to about (K - 1) / 2n of itself for splits of n images. It
    sees neither lack of variety within a class nor copies of the training images. Images must not be sorted by class.

    Args:
        logits: float [n, K], n >= splits.
        splits: 1 or more.

    Returns:
        (mean, std): two floats; std as NumPy's, divided by `splits`.
    """
    logits = checks.matrix("logits", logits)
    if splits < 1 or len(logits) < splits:
        raise ValueError(
            f"the score of {len(logits)} images in {splits} splits: expected 1 split or more, each with an image."
        )
    # TF-GAN's ln p(y) is -inf, and its score NaN, where a class's probability underflows; exp(-600) is far above that and far
    # below anything that shows.
    logits = np.maximum(logits - logits.max(axis=1, keepdims=True), -600.0)
    bounds = [i * len(logits) // splits for i in range(splits + 1)]
    scores = [tfgan.score(logits[start:end]) for start, end in zip(bounds, bounds[1:])]
    return float(np.mean(scores)), float(np.std(scores))


def frechet_distance(real_features, fake_features):
    """|m - m'|^2 + Tr(C + C' - 2 (C C')^(1/2)) of the means m and covariances C (Heusel et al., arXiv 1706.08500, equation 6).

    TF-GAN's `frechet_classifier_distance_from_activations`: covariances divided by n - 1; square roots by eigenvalues.

    At small n: too high, by about a constant over n, and more so the more features; compare only with one n on each side.
    With n <= D a covariance is rank-deficient: the value is given, with a warning, and means little.

    Args:
        real_features: float [n, D]. fake_features: float [m, D]. n, m >= 2.

    Returns:
        A float, 0 for identical sets (to rounding: about 1e-8 of the covariances' trace, and it may be below 0).
    """
    real, fake = checks.pair(real_features, fake_features, 2)
    fewest, features = min(len(real), len(fake)), real.shape[1]
    # n images minus their mean span n - 1 dimensions.
    if fewest <= features:
        warnings.warn(
            f"Fréchet distance of {len(real)} real and {len(fake)} fake images with {features} features: the covariance of "
            f"{fewest} is rank-deficient and the distance too high, as it is up to {features} images.",
            stacklevel=2,
        )
    return tfgan.frechet_distance(real, fake)


def frechet_distance_of_moments(mean, covariance, other_mean, other_covariance):
    """The same of means, float64 [D], and covariances, float64 [D, D]."""
    difference = mean - other_mean
    root = tfgan.trace_of_root(covariance, other_covariance)
    return float(difference @ difference + np.trace(covariance) + np.trace(other_covariance) - 2.0 * root)


def frechet_distance_per_class(real_features, real_labels, fake_features, fake_labels, num_classes):
    """`frechet_distance` between the real and the fake images of each class: shows a class that has collapsed.

    Means over classes are comparable only with one number of images per class on each side; the bias is that of so few images.

    Args:
        real_features: float [n, D]. real_labels: int [n], 0 to num_classes - 1. fake_features: [m, D]. fake_labels: [m].

    Returns:
        float64 [num_classes]; NaN for a class with fewer than 2 images on either side.
    """
    real, fake = checks.pair(real_features, fake_features, 2)
    real_labels = checks.labels("real_labels", real_labels, num_classes, len(real))
    fake_labels = checks.labels("fake_labels", fake_labels, num_classes, len(fake))
    distances = np.full(num_classes, np.nan)
    deficient = 0
    for label in range(num_classes):
        members = real[real_labels == label], fake[fake_labels == label]
        fewest = min(map(len, members))
        if fewest >= 2:
            distances[label] = tfgan.frechet_distance(*members)
            deficient += fewest <= real.shape[1]
    if deficient:
        warnings.warn(
            f"Fréchet distance per class: {deficient} of {num_classes} classes have no more images than the {real.shape[1]} "
            "features, so their covariances are rank-deficient and their distances too high.",
            stacklevel=2,
        )
    return distances


def kernel_distance(real_features, fake_features, block_size=KERNEL_BLOCK, seed=0):
    """Squared maximum mean discrepancy with the kernel (x.y / D + 1)^3 (KID: Binkowski et al., arXiv 1801.01401, section 4).

    TF-GAN's `kernel_classifier_distance_and_std_from_activations`: the unbiased estimate in each of ceil(max(n, m) / block_size)
    blocks, then the mean and its standard error.

    At small n: not biased (identical distributions give values about 0, also below), only uncertain. With one block the standard
    error is unknown: NaN.

    Args:
        real_features: float [n, D]. fake_features: float [m, D]. At least 2 of each per block.
        block_size: the largest block, in images.
        seed: of the order in which both are put first; blocks of sorted images would give a wrong value.

    Returns:
        (mean, std): two floats; std is the standard error of the mean.
    """
    real, fake = checks.pair(real_features, fake_features, 2)
    blocks = -(-max(len(real), len(fake)) // block_size)
    if min(len(real), len(fake)) < 2 * blocks:
        raise ValueError(
            f"the kernel distance of {len(real)} real and {len(fake)} fake images in {blocks} blocks: expected {2 * blocks} or "
            "more of each, 2 in every block."
        )
    draw = np.random.default_rng(seed)
    return tfgan.kernel_distance(real[draw.permutation(len(real))], fake[draw.permutation(len(fake))], block_size)

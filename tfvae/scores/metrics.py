"""Scores from logits, features and labels: NumPy arrays in, floats out; no images, no files.

Rows are images. Features are any float [n, D], logits float [n, K] before the softmax, labels int [n]; all is computed in
float64. The names that papers gave to scores with Inception's outputs (Inception score, FID, KID) are right with those alone.

Every function raises a ValueError of one line for empty arrays, too few images, widths that differ, NaN and infinity.
"""

import logging
import math
import warnings

import numpy as np
import tensorflow as tf

from tfvae.scores import checks, tfgan

# Squared distances by |a|^2 + |b|^2 - 2ab lose digits: below this part of |a|^2 + |b|^2 two points are one (float32 features
# hold no more), and distances whose squares differ by less than _TIE of themselves are equal.
_SAME_POINT = 1e-12
_TIE = 1e-9
_BLOCK_VALUES = 2**23  # distances held at once: 64 MiB in float64


# What TF-GAN measures.


def inception_score(logits, splits=10):
    """exp(mean over x of KL(p(y|x) || p(y))), p(y) the mean of p(y|x) (Salimans et al., arXiv 1606.03498, section 4).

    TF-GAN's `classifier_score_from_logits` gives one score for all it gets; here, as published scores are, for each of `splits`
    runs of neighbouring images, then the mean and the spread. From 1 (one class, or no idea) to K.

    At small n: too low, for p(y) is then the mean of few images; by up to about (K - 1) / 2n of itself for n a split. It sees
    neither lack of variety within a class nor copies of the training images. Images must not be sorted by class.

    Args:
        logits: float [n, K], n >= splits.
        splits: 1 or more.

    Returns:
        (mean, std): two floats; std as NumPy's, divided by `splits`.
    """
    logits = checks.matrix("logits", logits)
    if splits < 1 or len(logits) < splits:
        raise ValueError(f"splits is {splits}, and there are {len(logits)} logits: expected 1 to as many as images.")
    # TF-GAN's ln p(y) is -inf, and its score NaN, where a class's probability underflows; exp(-600) is far above that and far
    # below anything that shows.
    logits = np.maximum(logits - logits.max(axis=1, keepdims=True), -600.0)
    bounds = [i * len(logits) // splits for i in range(splits + 1)]
    with tf.device("CPU:0"):
        score = tfgan.classifier_metrics().classifier_score_from_logits
        scores = [float(score(tf.constant(logits[start:end]))) for start, end in zip(bounds, bounds[1:])]
    return float(np.mean(scores)), float(np.std(scores))


def frechet_distance(real_features, fake_features):
    """|m - m'|^2 + Tr(C + C' - 2 (C C')^(1/2)) of the means m and covariances C (Heusel et al., arXiv 1706.08500, equation 6).

    TF-GAN's `frechet_classifier_distance_from_activations`: covariances divided by n - 1, square roots by SVD. It takes
    no root of eigenvalues below 1e-10, whatever the features' unit: the value is off by parts of a percent where they vary
    little. So here they are put to a scale at which that limit is float64's own rounding, and the value is put back.

    At small n: too high, by about a constant over n, and more so the more features; compare only with one n on each side.
    With n <= D a covariance is rank-deficient: the value stands, with a warning, and means little.

    Args:
        real_features: float [n, D]. fake_features: float [m, D]. n, m >= 2.

    Returns:
        A float, 0 for identical sets (to rounding: about 1e-8 of the covariances' trace, and it may be below 0).
    """
    real, fake = checks.pair(real_features, fake_features, 2)
    _warn_if_rank_deficient(real, fake)
    scale = _scale_for_tfgan(real, fake)
    # On the CPU: one value on every machine, and no GPU memory beside the networks'.
    with tf.device("CPU:0"):
        distance = tfgan.classifier_metrics().frechet_classifier_distance_from_activations
        return float(distance(tf.constant(real * scale), tf.constant(fake * scale))) / scale**2


def frechet_distance_fast(real_features, fake_features):
    """`frechet_distance`, several times as fast: square roots by eigenvalues of symmetric matrices in place of SVDs.

    Tr (C C')^(1/2) = sum of the roots of the eigenvalues of A C' A, A = C^(1/2). For what is called often, such as per class.
    Formula, bias, arguments and value (to 1e-6) as `frechet_distance`.
    """
    real, fake = checks.pair(real_features, fake_features, 2)
    _warn_if_rank_deficient(real, fake)
    return _frechet_by_eigenvalues(real, fake)


def kernel_distance(real_features, fake_features, block_size=1024, seed=0):
    """Squared maximum mean discrepancy with the kernel (x.y / D + 1)^3 (KID: Binkowski et al., arXiv 1801.01401, section 4).

    TF-GAN's `kernel_classifier_distance_and_std_from_activations`: the unbiased estimate in each of ceil(max(n, m) / block_size)
    blocks, then the mean and its standard error.

    At small n: not biased (identical distributions give values about 0, also below), only uncertain. With one block the standard
    error is unknown: NaN.

    Args:
        real_features: float [n, D]. fake_features: float [m, D]. At least 2 of each a block.
        block_size: the largest block, in images.
        seed: of the order in which both are put first; blocks of sorted images would give a wrong value.

    Returns:
        (mean, std): two floats; std is the standard error of the mean.
    """
    real, fake = checks.pair(real_features, fake_features, 2)
    blocks = -(-max(len(real), len(fake)) // block_size)
    if min(len(real), len(fake)) < 2 * blocks:
        raise ValueError(
            f"Kernel distance of {len(real)} real and {len(fake)} fake images in {blocks} blocks: expected 2 or more of each in "
            "every block; give sets of nearer sizes or a larger block_size."
        )
    draw = np.random.default_rng(seed)
    real, fake = real[draw.permutation(len(real))], fake[draw.permutation(len(fake))]
    logger = tf.get_logger()
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)  # TF-GAN's map_fn has an argument that TensorFlow warns of
        with tf.device("CPU:0"):
            distance = tfgan.classifier_metrics().kernel_classifier_distance_and_std_from_activations
            mean, std = distance(tf.constant(real), tf.constant(fake), max_block_size=block_size)
    finally:
        logger.setLevel(level)
    return float(mean), float(std)


# Variety, within classes and over them.


def frechet_distance_per_class(real_features, real_labels, fake_features, fake_labels, num_classes):
    """`frechet_distance_fast` between the real and the fake images of each class: shows a class that has collapsed.

    Means over classes are comparable only with one number of images a class on each side; the bias is that of so few images.

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
            distances[label] = _frechet_by_eigenvalues(*members)
            deficient += fewest <= real.shape[1]
    if deficient:
        warnings.warn(
            f"Fréchet distance per class: {deficient} of {num_classes} classes have no more images than the {real.shape[1]} "
            "features, so their covariances are rank-deficient and their distances too high.",
            stacklevel=2,
        )
    return distances


def precision_recall(real_features, fake_features, neighbours=3):
    """Parts of fakes in the reals' manifold and of reals in the fakes' (Kynkäänniemi et al., arXiv 1904.06991, section 2).

    A set's manifold is the union of balls around its points, each reaching to the point's k-th nearest neighbour in the set,
    itself not counted; on the edge is inside, as in the authors' code. Precision: quality; recall: variety.

    At small n: balls are wide, so both are too high; both depend on n and m. One outlier's wide ball can hold many points.
    Two sets of one distribution do not give 1.

    Args:
        real_features: float [n, D]. fake_features: float [m, D]. n, m >= neighbours + 1.
        neighbours: k.

    Returns:
        (precision, recall): two floats from 0 to 1.
    """
    real, fake = checks.centred_pair(real_features, fake_features, neighbours)
    real_radii, fake_radii = _radii(real, neighbours), _radii(fake, neighbours)
    precise = 0
    recalled = np.zeros(len(real), bool)
    for _, distances in _distance_blocks(fake, real):
        precise += np.count_nonzero((distances <= real_radii * (1.0 + _TIE)).any(axis=1))
    for rows, distances in _distance_blocks(real, fake):
        recalled[rows] = (distances <= fake_radii * (1.0 + _TIE)).any(axis=1)
    return float(precise / len(fake)), float(recalled.mean())


def density_coverage(real_features, fake_features, neighbours=5):
    """Density and coverage (Naeem et al., arXiv 2002.09797, section 3); both use the reals' balls alone.

    Density: how many of the balls hold a fake, over k, averaged over fakes. Coverage: the part of the balls that hold a fake.
    Balls reach to the k-th nearest neighbour, itself not counted. On the edge is outside, as in the authors' code (prdc), so
    identical sets give density 1 and not (k + 1) / k. A real with k or more exact copies then has an empty ball: never covered.

    At small n: sets of one distribution give density 1 and coverage 1 - (n - 1) ... (n - k) / ((2n - 1) ... (2n - k)) for n of
    each (the paper's lemma on its mean), about 1 - 2^-k whatever n is: a coverage of 0.97 is all that k = 5 can give.

    Args:
        real_features: float [n, D]. fake_features: float [m, D]. n >= neighbours + 1, m >= 1.
        neighbours: k.

    Returns:
        (density, coverage): two floats; density 0 or more, also above 1; coverage from 0 to 1.
    """
    real, fake = checks.centred_pair(real_features, fake_features, neighbours, fake_images=1)
    radii = _radii(real, neighbours)
    inside = 0
    covered = np.zeros(len(real), bool)
    for _, distances in _distance_blocks(fake, real):
        held = distances < radii * (1.0 - _TIE)
        inside += np.count_nonzero(held)
        covered |= held.any(axis=0)
    return float(inside / (neighbours * len(fake))), float(covered.mean())


def class_entropy(labels_or_logits, num_classes=None):
    """-sum p ln p of the histogram p of classes, in nats: ln K for equal parts, 0 for a single class.

    At small n: too low, by about (K - 1) / 2n (Miller, 1955).

    Args:
        labels_or_logits: int [n], or logits float [n, K], whose largest is the label.
        num_classes: K; needed neither for logits nor for the value, only to check labels.
    """
    histogram = checks.class_counts("labels_or_logits", labels_or_logits, num_classes)
    part = histogram[histogram > 0] / histogram.sum()
    return float(max(0.0, -np.sum(part * np.log(part))))


def class_divergence(fake, reference, num_classes=None, pseudo_count=0.5):
    """KL(p || q) = sum p ln(p / q), in nats, of the fakes' histogram p of classes to the reference's, q: 0 when they agree.

    At small n: too high, by about (K - 1) / 2n + (K - 1) / 2m.

    Args:
        fake: int [n], or logits float [n, K], whose largest is the label. reference: [m] or [m, K].
        num_classes: K; needed with labels.
        pseudo_count: images added to every class on both sides (Jeffreys' prior), so that a class that the reference happens to
            lack does not make the value infinite; 0: none.
    """
    counts = []
    for name, value in (("fake", fake), ("reference", reference)):
        if np.ndim(value) == 1 and num_classes is None:
            raise ValueError(f"{name} are labels: class_divergence then needs num_classes.")
        counts.append(checks.class_counts(name, value, num_classes) + pseudo_count)
    if len(counts[0]) != len(counts[1]):
        raise ValueError(f"fake have {len(counts[0])} classes and reference {len(counts[1])}: expected one number.")
    p, q = (count / count.sum() for count in counts)
    present = p > 0
    with np.errstate(divide="ignore"):
        return float(max(0.0, np.sum(p[present] * np.log(p[present] / q[present]))))


def modes_captured(labels, num_modes, min_images=1):
    """How many of the modes have `min_images` fakes or more (as on stacked MNIST: VEEGAN, arXiv 1705.07761).

    At small n: too low; n draws from K equal modes find K (1 - (1 - 1 / K)^n) of them. A classifier's mistakes are captures too:
    with many fakes give a larger min_images.

    Args:
        labels: int [n], 0 to num_modes - 1: which mode a classifier sees in each fake. Logits [n, num_modes] are taken too.
    """
    return int(np.count_nonzero(checks.class_counts("labels", labels, num_modes) >= min_images))


def memorisation_ratio(real_train, real_test, fake):
    """Mean distance of a fake to its nearest training image over that of a held-out real image: below 1, fakes are copied.

    0: every fake is a training image; 1: as near as new real images; above 1: fakes are off the data, which says nothing against
    copying in part. A simple form of the data-copying test (Meehan et al., arXiv 2004.05675).

    At small n: both means fall with more training images, their ratio hardly; its noise is that of the smaller of the two sets.

    Args:
        real_train: float [n, D]: all that the model was trained on. real_test: [m, D], not trained on. fake: [l, D].
    """
    train, test = checks.pair(real_train, real_test, 1, ("real_train", "real_test"))
    _, fake = checks.pair(real_train, fake, 1, ("real_train", "fake"))
    centre = train.mean(axis=0)
    expected, actual = (_nearest_distance(points - centre, train - centre) for points in (test, fake))
    if expected == 0.0:
        raise ValueError("Every image of real_test is in real_train: the memorisation ratio needs held-out images.")
    return actual / expected


# Arithmetic.


def _warn_if_rank_deficient(real, fake):
    fewest, features = min(len(real), len(fake)), real.shape[1]
    # n images minus their mean span n - 1 dimensions.
    if fewest <= features:
        warnings.warn(
            f"Fréchet distance of {len(real)} real and {len(fake)} fake images with {features} features: the covariance of "
            f"{fewest} is rank-deficient and the distance too high; give more than {features} images.",
            stacklevel=3,
        )


def _frechet_by_eigenvalues(real, fake):
    mean_difference = real.mean(axis=0) - fake.mean(axis=0)
    covariances = []
    for features in (real, fake):
        features = features - features.mean(axis=0)
        covariances.append(features.T @ features / (len(features) - 1))
    values, vectors = np.linalg.eigh(covariances[0])
    root = (vectors * np.sqrt(_without_rounding(values))) @ vectors.T
    product = np.linalg.eigvalsh(root @ covariances[1] @ root)
    cross = np.sum(np.sqrt(_without_rounding(product)))
    return float(mean_difference @ mean_difference + sum(map(np.trace, covariances)) - 2.0 * cross)


def _scale_for_tfgan(real, fake):
    """What to multiply features by, so that 1e-10 is rounding of the largest eigenvalue of the covariances' product."""
    rounding = np.finfo(np.float64).eps * real.shape[1]
    largest = [_largest_variance(features) for features in (real, fake)]
    # With one of the two sets a single point, the product is 0 at every scale.
    product = math.prod(variance if variance > 0.0 else max(largest) for variance in largest)
    return (1e-10 / rounding / product) ** 0.25 if product > 0.0 else 1.0


def _largest_variance(features):
    """The covariance's largest eigenvalue, a little too low: power iteration, without the covariance."""
    centred = features - features.mean(axis=0)
    direction = np.random.default_rng(0).normal(size=features.shape[1])
    variance = 0.0
    for _ in range(10):
        direction /= np.linalg.norm(direction)
        direction = centred.T @ (centred @ direction) / (len(features) - 1)
        variance = float(np.linalg.norm(direction))
        if variance == 0.0:
            break
    return variance


def _without_rounding(eigenvalues):
    """Eigenvalues that should be 0 come out as rounding of the largest, of either sign, and their roots would add up."""
    limit = np.finfo(np.float64).eps * len(eigenvalues) * np.abs(eigenvalues).max()
    return np.where(eigenvalues > limit, eigenvalues, 0.0)


def _distance_blocks(rows, columns):
    """Yields (slice of rows, squared distances [rows of the slice, columns]), so that memory stays bounded."""
    row_norms, column_norms = np.sum(rows**2, axis=1), np.sum(columns**2, axis=1)
    step = max(1, _BLOCK_VALUES // len(columns))
    for start in range(0, len(rows), step):
        block = slice(start, min(start + step, len(rows)))
        norms = row_norms[block, None] + column_norms
        distances = rows[block] @ columns.T
        distances *= -2.0
        distances += norms
        distances[distances <= _SAME_POINT * norms] = 0.0
        yield block, distances


def _radii(points, neighbours):
    """Squared distance of each point to its k-th nearest neighbour in the set, itself not counted: [n]."""
    radii = np.empty(len(points))
    for block, distances in _distance_blocks(points, points):
        distances[np.arange(len(distances)), np.arange(block.start, block.stop)] = np.inf
        radii[block] = np.partition(distances, neighbours - 1, axis=1)[:, neighbours - 1]
    return radii


def _nearest_distance(points, training):
    """Mean over points of the distance to the nearest of `training`."""
    total = sum(np.sqrt(distances.min(axis=1)).sum() for _, distances in _distance_blocks(points, training))
    return float(total / len(points))

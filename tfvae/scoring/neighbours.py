"""Scores from distances between single images: precision, recall, density, coverage, memorisation.

Rows are images. Features are any float [n, D]; all is computed in float64.

Every function raises a ValueError of one line for empty arrays, too few images, widths that differ, NaN and infinity.
"""

import numpy as np

from tfvae.scoring import checks

# Squared distances by |a|^2 + |b|^2 - 2ab lose digits: below this part of |a|^2 + |b|^2 two points are one (float32 features
# hold no more), and distances whose squares differ by less than _TIE of themselves are equal.
_SAME_POINT = 1e-12
_TIE = 1e-9
_BLOCK_VALUES = 2**23  # distances held at once: 64 MiB in float64


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


def share_of_near_pairs(features, distance):
    """Part of all pairs of images that are nearer than `distance` to each other: by a face descriptor, pairs of one person.

    1 / m for m people as often as each other; 1 where all images are of one.

    Args:
        features: float [n, D], n 2 or more. distance: in the features' unit.
    """
    points = checks.matrix("features", features, 2)
    points = points - points.mean(axis=0)
    near = sum(np.count_nonzero(distances < distance**2) for _, distances in _distance_blocks(points, points))
    return float((near - len(points)) / (len(points) * (len(points) - 1)))


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

"""Scores from distances between single images: precision and recall in three forms, coverage by rarity, memorisation.

Rows are images. Features are any float [n, D]; all is computed in float64.

Every function raises a ValueError of one line for empty arrays, too few images, widths that differ, NaN and infinity.
"""

import dataclasses

import numpy as np

from tfvae.scoring import checks

# Squared distances by |a|^2 + |b|^2 - 2ab lose digits: below this part of |a|^2 + |b|^2 two points are one (float32 features
# hold no more), and distances whose squares differ by less than _TIE of themselves are equal.
_SAME_POINT = 1e-12
_TIE = 1e-9
CLOSED, OPEN = True, False  # whether an image on a ball's edge is inside
# The balls that the scores use, all from one pass over the distances: (neighbours, edge), as in the papers' own code.
PRECISION_BALLS, DENSITY_BALLS = (3, CLOSED), (5, OPEN)
TENTHS, TENTH_IMAGES = 10, 10  # parts of the reals by their rarity; fewest images of one
_BLOCK_VALUES = 2**23  # distances held at once: 64 MiB in float64


@dataclasses.dataclass(frozen=True, eq=False)
class Balls:
    """Which images of two sets lie in the balls around the others, for one number of neighbours.

    A ball reaches from an image to its k-th nearest neighbour in its own set, itself not counted.

    Attributes:
        real_radii: squared, float [n].
        pairs: how many pairs of a real's ball and a fake within it there are.
        fakes_inside: bool [m], fakes that lie in some real's ball. reals_holding: bool [n], reals whose ball holds a fake.
        reals_inside, fakes_holding: the same of the fakes' balls, bool [n] and [m]; None where there are too few fakes.
    """

    real_radii: np.ndarray
    pairs: int
    fakes_inside: np.ndarray
    reals_holding: np.ndarray
    reals_inside: np.ndarray | None
    fakes_holding: np.ndarray | None


class Neighbourhoods:
    """Two sets of images, and the scores that come from all distances within and between them.

    Args:
        real_features: float [n, D]. fake_features: float [m, D]. For a score by k neighbours n is k + 1 or more, and m too where
            the fakes' balls are used.
    """

    def __init__(self, real_features, fake_features):
        self.real, self.fake = checks.centred_pair(real_features, fake_features)
        self._balls = {}

    def balls(self, neighbours, edge, of_fakes=True):
        """`Balls` of one number of neighbours, with CLOSED or OPEN edges; `of_fakes`: the fakes' are needed too."""
        checks.enough_for("real", self.real, neighbours)
        if of_fakes:
            checks.enough_for("fake", self.fake, neighbours)
        if (neighbours, edge) not in self._balls:
            self._balls |= self._measure({(neighbours, edge), PRECISION_BALLS, DENSITY_BALLS})
        return self._balls[neighbours, edge]

    def precision_recall(self, neighbours=PRECISION_BALLS[0]):
        """Parts of fakes in the reals' manifold and of reals in the fakes' (Kynkäänniemi et al., arXiv 1904.06991, section 2).

        A set's manifold is the union of its balls; on the edge is inside, as in the authors' code. Precision: quality; recall:
        variety.

        At small n: balls are wide, so both are too high; both depend on n and m. One outlier's wide ball can hold many points.
        Two sets of one distribution do not give 1.

        Returns:
            (precision, recall): two floats from 0 to 1.
        """
        balls = self.balls(neighbours, CLOSED)
        return float(balls.fakes_inside.mean()), float(balls.reals_inside.mean())

    def density_coverage(self, neighbours=DENSITY_BALLS[0]):
        """Density and coverage (Naeem et al., arXiv 2002.09797, section 3); both use the reals' balls alone.

        Density: how many of the balls hold a fake, over k, averaged over fakes. Coverage: the part of the balls that hold a
        fake. On the edge is outside, as in the authors' code (prdc), so identical sets give density 1 and not (k + 1) / k. A real
        with k or more exact copies then has an empty ball: never covered.

        At small n: sets of one distribution give density 1 and coverage 1 - (n - 1) ... (n - k) / ((2n - 1) ... (2n - k)) for n
        of each (the paper's lemma on its mean), about 1 - 2^-k whatever n is: a coverage of 0.97 is all that k = 5 can give.

        Returns:
            (density, coverage): two floats; density 0 or more, also above 1; coverage from 0 to 1.
        """
        balls = self.balls(neighbours, OPEN, of_fakes=False)
        return float(balls.pairs / (neighbours * len(self.fake))), float(balls.reals_holding.mean())

    def symmetric_precision_recall(self, neighbours=DENSITY_BALLS[0]):
        """The smaller of each and its complement (Khayatkhoei and AbdAlmageed, arXiv 2306.09618), with one k for all four.

        Precision's complement is the part of the fakes whose own ball holds a real; recall's is coverage. In many dimensions
        precision can be high where recall is 0 though neither set is the better: the balls of the wider set hold all of the
        narrower one. On the edge is outside, as in the authors' code.

        Returns:
            (precision, recall): two floats from 0 to 1.
        """
        balls = self.balls(neighbours, OPEN)
        precision = min(balls.fakes_inside.mean(), balls.fakes_holding.mean())
        return float(precision), float(min(balls.reals_inside.mean(), balls.reals_holding.mean()))

    def coverage_by_rarity(self, neighbours=DENSITY_BALLS[0]):
        """Coverage of each tenth of the reals, from the most usual to the rarest.

        An image's rarity is the distance to its k-th nearest neighbour, its ball's radius. Sets of one distribution cover all
        tenths alike, about 1 - 2^-k: a ball reaches as far as k real neighbours, wherever it is. (In two or three dimensions the
        smallest balls are small by chance, and hold a little less.)

        Returns:
            float [10], from 0 to 1.

        Raises:
            ValueError: fewer than 100 reals.
        """
        if len(self.real) < TENTHS * TENTH_IMAGES:
            raise ValueError(
                f"real_features are of {len(self.real)} images: expected {TENTHS * TENTH_IMAGES} or more to cut into tenths."
            )
        balls = self.balls(neighbours, OPEN, of_fakes=False)
        by_rarity = balls.reals_holding[np.argsort(balls.real_radii, kind="stable")]
        return np.array([part.mean() for part in np.array_split(by_rarity, TENTHS)])

    def _measure(self, wanted):
        """{(neighbours, edge): `Balls`} where there are images enough, from one pass over the distances between the sets."""
        n, m = len(self.real), len(self.fake)
        wanted = [(neighbours, edge) for neighbours, edge in wanted if neighbours < n]
        real_radii, fake_radii = (_radii(points, [k for k, _ in wanted]) for points in (self.real, self.fake))
        found = {
            (k, edge): Balls(
                real_radii[k],
                0,
                np.zeros(m, bool),
                np.zeros(n, bool),
                np.zeros(n, bool) if k < m else None,
                np.zeros(m, bool) if k < m else None,
            )
            for k, edge in wanted
        }
        for rows, distances in _distance_blocks(self.fake, self.real):
            for (k, edge), balls in found.items():
                held = _within(distances, real_radii[k], edge)
                balls.fakes_inside[rows] = held.any(axis=1)
                balls.reals_holding[:] |= held.any(axis=0)
                found[k, edge] = dataclasses.replace(balls, pairs=balls.pairs + np.count_nonzero(held))
                if k < m:
                    held = _within(distances, fake_radii[k][rows, None], edge)
                    balls.fakes_holding[rows] = held.any(axis=1)
                    balls.reals_inside[:] |= held.any(axis=0)
        return found


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


def nearest(points, blocks, number):
    """The rows of the nearest of many other points, from near to far: int64 [n, number].

    Args:
        points: [n, D]. blocks: yields [m, D] each, the other points in the order of their rows, `number` or more in all.
    """
    points = np.asarray(points, np.float64)
    centre = points.mean(axis=0)
    points = points - centre
    distances, rows, first = np.empty([len(points), 0]), np.empty([len(points), 0], np.int64), 0
    for block in blocks:
        here = _squared_distances(points, np.asarray(block, np.float64) - centre)
        distances = np.concatenate([distances, here], axis=1)
        rows = np.concatenate([rows, np.broadcast_to(np.arange(first, first + len(block)), here.shape)], axis=1)
        first += len(block)
        kept = np.argsort(distances, axis=1, kind="stable")[:, :number]
        distances, rows = (np.take_along_axis(values, kept, 1) for values in (distances, rows))
    return rows


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


def _squared_distances(rows, columns):
    norms = np.sum(rows**2, axis=1)[:, None] + np.sum(columns**2, axis=1)
    distances = rows @ columns.T
    distances *= -2.0
    distances += norms
    distances[distances <= _SAME_POINT * norms] = 0.0
    return distances


def _distance_blocks(rows, columns):
    """Yields (slice of rows, squared distances [rows of the slice, columns]), so that memory stays bounded."""
    step = max(1, _BLOCK_VALUES // len(columns))
    for start in range(0, len(rows), step):
        block = slice(start, min(start + step, len(rows)))
        yield block, _squared_distances(rows[block], columns)


def _within(distances, radii, edge):
    return distances <= radii * (1.0 + _TIE) if edge == CLOSED else distances < radii * (1.0 - _TIE)


def _radii(points, neighbours):
    """{k: squared distance of each point to its k-th nearest neighbour in the set, itself not counted, [n]}, for every k of
    `neighbours` that the set has so many of. Each pair of blocks is measured once.
    """
    most = max(neighbours)
    nearest = np.full([len(points), most], np.inf)
    side = max(1, round(_BLOCK_VALUES**0.5 / 2))
    blocks = [slice(start, start + side) for start in range(0, len(points), side)]
    for i, rows in enumerate(blocks):
        for columns in blocks[i:]:
            distances = _squared_distances(points[rows], points[columns])
            if rows is columns:
                np.fill_diagonal(distances, np.inf)
            else:
                nearest[columns] = _smallest(np.concatenate([nearest[columns], distances.T], 1), most)
            nearest[rows] = _smallest(np.concatenate([nearest[rows], distances], 1), most)
    nearest.sort(axis=1)
    return {k: nearest[:, k - 1] for k in neighbours if k < len(points)}


def _smallest(values, number):
    return np.partition(values, number - 1, axis=1)[:, :number]


def _nearest_distance(points, training):
    """Mean over points of the distance to the nearest of `training`."""
    total = sum(np.sqrt(distances.min(axis=1)).sum() for _, distances in _distance_blocks(points, training))
    return float(total / len(points))

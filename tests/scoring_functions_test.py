"""Scores against SciPy and NumPy in float64, against loops, and in cases that are known by hand."""

import importlib.util
import json
import math
import subprocess
import sys
import types
import warnings

import numpy as np
import pytest
import scipy.linalg

from tfvae.scoring import classes, distances, neighbours, scores, tfgan, vendi
from tfvae.scoring.protocol import Outputs

pytestmark = pytest.mark.filterwarnings("ignore:.*rank-deficient")


def features(num_images, width, seed=0, rank=None, shift=0.0):
    """float64 [num_images, width], correlated, in a subspace of `rank` dimensions."""
    draw = np.random.default_rng(seed)
    rank = rank or width
    return draw.normal(size=(num_images, rank)) @ draw.normal(size=(rank, width)) / math.sqrt(rank) + shift


def exactly(mean, covariance, num_images=400, seed=0):
    """Points whose sample mean and unbiased covariance are exactly these."""
    points = np.random.default_rng(seed).normal(size=(num_images, len(mean)))
    points -= points.mean(axis=0)
    points = points @ np.linalg.inv(np.linalg.cholesky(np.cov(points.T))).T
    return points @ np.linalg.cholesky(covariance).T + mean


# Import.


def test_tfgan_is_imported_without_leaving_its_stand_ins_behind():
    assert tfgan.classifier_metrics().__name__ == "tensorflow_gan.python.eval.classifier_metrics"
    assert tfgan.classifier_metrics() is tfgan.classifier_metrics()
    assert "tensorflow_gan" not in sys.modules and "tensorflow_gan.python" not in sys.modules


def test_names_of_scores_and_extractors_come_without_tensorflow():
    code = "import sys; from tfvae.scoring import extractors, scores; print('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_missing_tfgan_is_one_line_that_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(tfgan.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install tensorflow-gan==2.1.0"):
        tfgan.classifier_metrics.__wrapped__()


# Score.


def score_by_numpy(logits, splits):
    scores = []
    for part in [logits[i * len(logits) // splits : (i + 1) * len(logits) // splits] for i in range(splits)]:
        p = np.exp(part - part.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        scores.append(np.exp(np.mean(np.sum(p * (np.log(p) - np.log(p.mean(axis=0))), axis=1))))
    return np.mean(scores), np.std(scores)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("num_images, splits", [(200, 10), (203, 10), (50, 1)])
def test_inception_score_is_numpys_in_float64(num_images, splits, dtype):
    logits = (3 * features(num_images, 20)).astype(dtype)
    expected = score_by_numpy(logits.astype(np.float64), splits)
    np.testing.assert_allclose(distances.inception_score(logits, splits), expected, rtol=1e-6, atol=1e-12)


def test_inception_score_by_hand():
    certain = 2000.0 * np.eye(10)[np.arange(100) % 10]  # far enough to underflow
    np.testing.assert_allclose(distances.inception_score(certain), (10.0, 0.0), atol=1e-9)
    np.testing.assert_allclose(distances.inception_score(np.repeat(certain[:1], 100, 0)), (1.0, 0.0), atol=1e-9)
    np.testing.assert_allclose(distances.inception_score(np.zeros((100, 10))), (1.0, 0.0), atol=1e-9)
    # Certain of the one class in the first split, of two in the second: scores 1 and 2.
    np.testing.assert_allclose(distances.inception_score(certain[[0, 0, 0, 1]], 2), (1.5, 0.5), atol=1e-9)


# Fréchet distance.


def frechet_by_scipy(real, fake):
    covariances = np.cov(real.T), np.cov(fake.T)
    # sqrtm of the product itself is unstable where it is singular: the roots of C' seen from C's root are not.
    root = np.real(scipy.linalg.sqrtm(covariances[0]))
    cross = np.trace(np.real(scipy.linalg.sqrtm(root @ covariances[1] @ root)))
    return np.sum((real.mean(0) - fake.mean(0)) ** 2) + np.trace(covariances[0] + covariances[1]) - 2 * cross


@pytest.mark.parametrize(
    "num_real, num_fake, width, rank",
    [(300, 300, 16, 16), (500, 200, 64, 64), (200, 200, 32, 8), (20, 30, 64, 64), (500, 20, 48, 48)],
    ids=["random", "other sizes", "subspace", "fewer images than features", "few fakes"],
)
def test_frechet_distance_is_that_of_scipys_sqrtm(num_real, num_fake, width, rank):
    real, fake = features(num_real, width, 1, rank), features(num_fake, width, 2, rank, shift=0.3)
    np.testing.assert_allclose(distances.frechet_distance(real, fake), frechet_by_scipy(real, fake), rtol=1e-6)


def test_frechet_distance_of_full_rank_is_the_textbook_root_of_the_product():
    real, fake = features(300, 16, 1), features(300, 16, 2)
    c, d = np.cov(real.T), np.cov(fake.T)
    expected = np.sum((real.mean(0) - fake.mean(0)) ** 2) + np.trace(c + d - 2 * np.real(scipy.linalg.sqrtm(c @ d)))
    np.testing.assert_allclose(distances.frechet_distance(real, fake), expected, rtol=1e-6)


@pytest.fixture
def installed_tfgan(monkeypatch):
    """TF-GAN's module as it is installed, whose square roots are by SVD."""
    ours = tfgan.classifier_metrics()
    package = ours.__name__.rpartition(".")[0]
    for name in ("tensorflow_gan", "tensorflow_gan.python", package):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setattr(sys.modules[package], "eval_utils", ours.eval_utils, raising=False)
    spec = importlib.util.spec_from_file_location("installed_classifier_metrics", ours.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("num_images, width, rank", [(300, 64, 64), (300, 64, 20), (30, 64, 64), (2, 16, 16)])
@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_frechet_distance_is_that_of_tfgan_as_it_is_installed(num_images, width, rank, scale, installed_tfgan):
    real = (scale * features(num_images, width, 1, rank)).astype(np.float32)
    fake = (scale * features(num_images, width, 2, rank, shift=0.1)).astype(np.float32)
    # It takes no root of eigenvalues below 1e-10: at this scale of the features, that is rounding of the largest.
    largest = np.prod([np.linalg.eigvalsh(np.cov(points.T.astype(np.float64)))[-1] for points in (real, fake)])
    unit = (1e-10 / (np.finfo(np.float64).eps * width) / largest) ** 0.25
    distance = installed_tfgan.frechet_classifier_distance_from_activations
    expected = float(distance(unit * real.astype(np.float64), unit * fake.astype(np.float64))) / unit**2
    np.testing.assert_allclose(distances.frechet_distance(real, fake), expected, rtol=1e-6)
    assert installed_tfgan.trace_sqrt_product is not tfgan.classifier_metrics().trace_sqrt_product


def test_frechet_distance_of_gaussians_by_hand():
    distance = distances.frechet_distance
    real = exactly([0.0, 0.0], np.eye(2))
    # Means 3 and 4 apart; covariances I and diag(4, 9): 25 + (1 - 2)^2 + (1 - 3)^2.
    assert distance(real, exactly([3.0, 4.0], np.diag([4.0, 9.0]), seed=1)) == pytest.approx(30.0, rel=1e-9)
    # Commuting with correlation: eigenvalues 3 and 1 beside 1 and 1: (sqrt 3 - 1)^2.
    correlated = exactly([0.0, 0.0], np.array([[2.0, 1.0], [1.0, 2.0]]), seed=2)
    assert distance(real, correlated) == pytest.approx((math.sqrt(3) - 1) ** 2, rel=1e-9)
    assert distance(real, real) == pytest.approx(0.0, abs=1e-6)
    # All fakes one point: the mean's distance and the real trace.
    assert distance(real, np.tile([1.0, 2.0], (50, 1))) == pytest.approx(5.0 + 2.0, rel=1e-6)


@pytest.mark.parametrize("rank", [32, 8])
def test_frechet_distance_of_scaled_features_is_the_square_of_the_scale(rank):
    distance = distances.frechet_distance
    real, fake = features(200, 32, 1, rank), features(200, 32, 2, rank)
    for scale in (1e-5, 1e-2, 1e3):
        assert distance(scale * real, scale * fake) == pytest.approx(scale**2 * distance(real, fake), rel=1e-6)


def test_frechet_distance_warns_by_name_when_images_are_fewer_than_features():
    with pytest.warns(UserWarning, match="20 real and 30 fake images with 20 features.*rank-deficient"):
        distances.frechet_distance(features(20, 20), features(30, 20))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        distances.frechet_distance(features(21, 20), features(30, 20))


def test_frechet_distance_per_class_is_that_of_each_classs_images():
    real, fake = features(300, 4, 1), features(200, 4, 2)
    real_labels, fake_labels = np.arange(300) % 3, np.where(np.arange(200) == 0, 2, np.arange(200) % 2)
    actual = distances.frechet_distance_per_class(real, real_labels, fake, fake_labels, 4)
    for label in (0, 1):
        expected = distances.frechet_distance(real[real_labels == label], fake[fake_labels == label])
        assert actual[label] == pytest.approx(expected, rel=1e-6)
    assert np.isnan(actual[2:]).all()  # one fake; neither
    with pytest.warns(UserWarning, match="2 of 2 classes.*rank-deficient"):
        distances.frechet_distance_per_class(features(8, 4), np.arange(8) % 2, features(8, 4), np.arange(8) % 2, 2)


# Kernel distance.


def kernel_by_loops(real, fake):
    def kernel(x, y):
        return (x @ y / len(x) + 1) ** 3

    within = [
        np.mean([kernel(x, y) for i, x in enumerate(points) for j, y in enumerate(points) if i != j])
        for points in (real, fake)
    ]
    return sum(within) - 2 * np.mean([kernel(x, y) for x in real for y in fake])


def test_kernel_distance_of_one_block_is_the_unbiased_estimate():
    real, fake = features(40, 8, 1), features(30, 8, 2, shift=0.5)
    mean, std = distances.kernel_distance(real, fake)
    assert mean == pytest.approx(kernel_by_loops(real, fake), rel=1e-6)
    assert math.isnan(std)


def test_kernel_distance_averages_blocks_and_gives_their_standard_error():
    real, fake = features(40, 8, 1), features(40, 8, 2)
    draw = np.random.default_rng(5)
    shuffled = real[draw.permutation(40)], fake[draw.permutation(40)]
    blocks = [kernel_by_loops(*(s[i : i + 10] for s in shuffled)) for i in range(0, 40, 10)]
    expected = np.mean(blocks), np.std(blocks, ddof=1) / 2
    np.testing.assert_allclose(distances.kernel_distance(real, fake, block_size=10, seed=5), expected, rtol=1e-6)


def test_kernel_distance_of_sorted_images_is_not_fooled_by_their_order():
    real, fake = features(400, 4, 1), features(400, 4, 2)
    real, fake = real[np.argsort(real[:, 0])], fake[np.argsort(-fake[:, 0])]
    whole = distances.kernel_distance(real, fake)[0]
    mean, std = distances.kernel_distance(real, fake, block_size=100)
    assert abs(mean - whole) < 4 * std


# Neighbours.


def radius(points, index, neighbours):
    return sorted(np.linalg.norm(points[index] - p) for j, p in enumerate(points) if j != index)[neighbours - 1]


def neighbours_by_loops(real, fake, neighbours):
    """Precision, recall, density, coverage and the symmetric forms, as their papers have them."""
    real_radii = [radius(real, i, neighbours) for i in range(len(real))]
    fake_radii = [radius(fake, j, neighbours) for j in range(len(fake))]
    precision = recall = density = coverage = 0
    symmetric = np.zeros(4)
    for y, s in zip(fake, fake_radii):
        symmetric[0] += any(np.linalg.norm(x - y) < r for x, r in zip(real, real_radii)) / len(fake)
        symmetric[1] += any(np.linalg.norm(x - y) < s for x in real) / len(fake)
    for x, r in zip(real, real_radii):
        symmetric[2] += any(np.linalg.norm(x - y) < s for y, s in zip(fake, fake_radii)) / len(real)
        symmetric[3] += any(np.linalg.norm(x - y) < r for y in fake) / len(real)
    for y in fake:
        precision += any(np.linalg.norm(x - y) <= r for x, r in zip(real, real_radii))
        density += sum(np.linalg.norm(x - y) < r for x, r in zip(real, real_radii))
    for x, r in zip(real, real_radii):
        recall += any(np.linalg.norm(x - y) <= s for y, s in zip(fake, fake_radii))
        coverage += any(np.linalg.norm(x - y) < r for y in fake)
    return (
        (precision / len(fake), recall / len(real)),
        (density / (neighbours * len(fake)), coverage / len(real)),
        (min(symmetric[:2]), min(symmetric[2:])),
    )


@pytest.mark.parametrize("block_values", [2**23, 100])
@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("num_real, num_fake, shift", [(60, 60, 0.0), (70, 40, 0.7), (40, 70, 1000.0)])
def test_neighbour_scores_are_those_of_loops(monkeypatch, num_real, num_fake, shift, k, block_values):
    monkeypatch.setattr(neighbours, "_BLOCK_VALUES", block_values)
    real, fake = features(num_real, 5, 1), features(num_fake, 5, 2, shift=shift)
    # Far from 0: distances must not drown in the norms.
    real, fake = real + 1000.0, fake + 1000.0
    expected = neighbours_by_loops(real, fake, k)
    found = neighbours.Neighbourhoods(real, fake)
    np.testing.assert_allclose(found.precision_recall(k), expected[0], rtol=1e-12)
    np.testing.assert_allclose(found.density_coverage(k), expected[1], rtol=1e-12)
    np.testing.assert_allclose(found.symmetric_precision_recall(k), expected[2], rtol=1e-12)


def test_many_blocks_give_what_one_does(monkeypatch):
    real, fake = features(500, 3, 1), features(300, 3, 2)
    once = neighbours.Neighbourhoods(real, fake)
    expected = once.precision_recall(), once.density_coverage(), once.symmetric_precision_recall()
    monkeypatch.setattr(neighbours, "_BLOCK_VALUES", 30_000)
    cut = neighbours.Neighbourhoods(real, fake)
    assert (cut.precision_recall(), cut.density_coverage(), cut.symmetric_precision_recall()) == expected


def test_identical_sets_have_precision_recall_density_and_coverage_1():
    # Ties everywhere: each point's k-th neighbour is on the edge of its ball.
    real = features(200, 16, 1).astype(np.float32)
    assert neighbours.Neighbourhoods(real, real).precision_recall() == (1.0, 1.0)
    assert neighbours.Neighbourhoods(real, real).density_coverage() == (1.0, 1.0)
    assert neighbours.Neighbourhoods(real, real[::-1]).density_coverage() == (1.0, 1.0)


def test_disjoint_sets_have_precision_recall_density_and_coverage_0():
    real, fake = features(50, 4, 1), features(50, 4, 2, shift=100.0)
    assert neighbours.Neighbourhoods(real, fake).precision_recall() == (0.0, 0.0)
    assert neighbours.Neighbourhoods(real, fake).density_coverage() == (0.0, 0.0)


def test_fakes_collapsed_to_one_real_are_precise_and_have_no_recall():
    real = np.arange(20.0)[:, None]
    fake = np.full((30, 1), 10.0)
    # The fakes' balls are points: they hold one real of the 20.
    assert neighbours.Neighbourhoods(real, fake).precision_recall(2) == (1.0, 1 / 20)
    # Radii are 1, at both ends 2. On the edge of its neighbours' balls, inside its own alone.
    assert neighbours.Neighbourhoods(real, fake).density_coverage(2) == (1 / 2, 1 / 20)


def test_reals_collapsed_to_one_point_hold_only_fakes_on_it():
    real, fake = np.full((10, 3), 0.1, np.float32), np.full((10, 3), 0.1, np.float32)
    assert neighbours.Neighbourhoods(real, fake).precision_recall() == (1.0, 1.0)
    assert neighbours.Neighbourhoods(real, fake + 1e-3).precision_recall() == (0.0, 0.0)
    assert neighbours.Neighbourhoods(real, fake).density_coverage() == (
        0.0,
        0.0,
    )  # strictly inside a ball of radius 0: none


def test_coverage_of_one_distribution_is_as_the_paper_says():
    real, fake = np.random.default_rng(0).normal(size=(2, 1000, 4))
    density, coverage = neighbours.Neighbourhoods(real, fake).density_coverage()
    assert density == pytest.approx(1.0, abs=0.1)
    assert coverage == pytest.approx(1 - math.comb(999, 5) / math.comb(1999, 5), abs=0.02)


def test_a_narrow_set_in_the_middle_of_a_wide_one_is_not_precise_in_the_symmetric_form():
    # In many dimensions the middle lies in the balls of points far from it, though its own are far too small to hold one.
    wide = np.random.default_rng(0).normal(size=(400, 64))
    narrow = 0.2 * np.random.default_rng(1).normal(size=(400, 64))
    found = neighbours.Neighbourhoods(wide, narrow)
    assert found.precision_recall(5)[0] == 1.0 and found.symmetric_precision_recall() == (0.0, 0.0)


def test_coverage_of_one_distribution_is_alike_for_usual_and_rare_images_and_falls_where_the_rare_ones_are_left_out():
    draw = np.random.default_rng(0)
    real, fake, other = draw.normal(size=(3, 2000, 8)) * np.exp(0.5 * draw.normal(size=(3, 2000, 1)))
    tenths = neighbours.Neighbourhoods(real, fake).coverage_by_rarity()
    np.testing.assert_allclose(tenths, 1 - 2**-5, atol=0.05)
    # Only what lies near the middle is drawn.
    usual = other[np.linalg.norm(other, axis=1) < 2.8]
    tenths = neighbours.Neighbourhoods(real, usual).coverage_by_rarity()
    assert tenths[0] > 0.9 and tenths[-1] < 0.1
    with pytest.raises(ValueError, match="of 99 images: expected 100 or more to cut into tenths"):
        neighbours.Neighbourhoods(real[:99], fake).coverage_by_rarity()


def test_the_slope_over_rarity_is_that_of_a_line_through_the_tenths():
    # Ten groups of ten points each, the next one twice as far apart as the one before; a fake at every point of the first five.
    real = np.concatenate([[[1000.0 * i + 2.0**i * j, 0.0] for j in range(10)] for i in range(10)])
    given = scores.Given(*(Outputs(None, points, None) for points in (real, real[:50])))
    found = {key: scores.SCORES[key].function(given) for key in scores.SCORES if "rarity" in key}
    assert [found[f"coverage_of_rarity_tenth_{i + 1}"] for i in range(10)] == [1.0] * 5 + [0.0] * 5
    # Sum of (i / 9 - 1 / 2) y over sum of (i / 9 - 1 / 2)^2.
    places = np.arange(10) / 9 - 0.5
    assert found["coverage_slope_over_rarity"] == pytest.approx(places[:5].sum() / np.sum(places**2))


def test_the_vendi_score_counts_images_that_have_nothing_in_common():
    assert vendi.vendi_score(np.full([7, 3], 2.0)) == pytest.approx(1.0)
    assert vendi.vendi_score(np.diag([1.0, 2.0, 3.0, 4.0])) == pytest.approx(4.0)  # lengths do not count
    # Two of one kind and one of another: eigenvalues 2/3 and 1/3.
    assert vendi.vendi_score(np.eye(2)[[0, 0, 1]]) == pytest.approx(np.exp(np.log(3) - 2 / 3 * np.log(2)))
    # Two at an angle whose cosine is 0.6: eigenvalues (1 + 0.6) / 2 and (1 - 0.6) / 2.
    assert vendi.vendi_score([[1.0, 0.0], [0.6, 0.8]]) == pytest.approx(np.exp(-0.8 * np.log(0.8) - 0.2 * np.log(0.2)))
    with pytest.raises(ValueError, match="of 1 images are all zero: expected features with a direction"):
        vendi.vendi_score([[0.0, 0.0], [1.0, 0.0]])


@pytest.mark.parametrize(("number", "width"), [(30, 8), (8, 30)])
def test_the_vendi_score_is_that_of_the_matrix_of_similarities(number, width):
    unit = features(number, width) / np.linalg.norm(features(number, width), axis=1, keepdims=True)
    shares = np.linalg.eigvalsh(unit @ unit.T / number)
    shares = shares[shares > 1e-12]
    assert vendi.vendi_score(features(number, width)) == pytest.approx(np.exp(-np.sum(shares * np.log(shares))))


def test_memorisation_ratio_by_hand():
    train = np.array([[0.0, 0.0], [10.0, 0.0]])
    test = np.array([[0.0, 3.0], [10.0, 1.0]])  # 3 and 1 from the nearest: 2 on average
    assert neighbours.memorisation_ratio(train, test, np.array([[0.0, 4.0], [10.0, 0.0]])) == pytest.approx(1.0)
    assert neighbours.memorisation_ratio(train, test, np.array([[6.0, 0.0]])) == pytest.approx(2.0)
    assert neighbours.memorisation_ratio(train, test, train[[0, 0, 1]]) == 0.0
    with pytest.raises(ValueError, match="held-out"):
        neighbours.memorisation_ratio(train, train, test)


# Classes.


def test_class_entropy_by_hand_of_labels_and_of_logits():
    assert classes.class_entropy([0, 1, 2, 3]) == pytest.approx(math.log(4))
    assert classes.class_entropy([5, 5, 5], 10) == 0.0
    assert classes.class_entropy(np.eye(4)[[0, 0, 3, 3]]) == pytest.approx(math.log(2))


def test_class_divergence_by_hand():
    divergence = classes.class_divergence
    assert divergence([0, 1, 1, 0], [0, 1], 2) == 0.0
    assert divergence([0, 0, 0], [0, 1], 2, pseudo_count=0) == pytest.approx(math.log(2))
    assert divergence([0, 1], [0, 0], 2, pseudo_count=0) == math.inf
    # (0.5 + 3) / 4 and 0.5 / 4 against 1 / 2 each.
    expected = 7 / 8 * math.log(7 / 4) + 1 / 8 * math.log(1 / 4)
    assert divergence([0, 0, 0], [0, 1], 2) == pytest.approx(expected)
    assert divergence(np.eye(2)[[0, 0, 0]], np.array([0, 1]), 2) == pytest.approx(expected)


def test_modes_captured_by_hand():
    labels = np.array([0, 0, 0, 2, 2, 7])
    assert classes.modes_captured(labels, 8) == 3
    assert classes.modes_captured(labels, 8, min_images=2) == 2
    assert classes.modes_captured(np.eye(8)[labels], 8, min_images=4) == 0


def test_the_spread_within_classes_is_that_of_pairs():
    features = np.array([[0.0], [2.0], [4.0], [10.0], [11.0], [99.0]])
    labels = np.array([0, 0, 0, 1, 1, 2])
    outputs = Outputs(np.eye(3)[labels], features, None)
    # Class 0: pairs 2, 4, 2: mean square 8; class 1: 1; class 2 has no pair.
    assert classes.spread_within_classes(outputs) == pytest.approx(np.sqrt((3 * 8 + 2 * 1) / 5))
    assert classes.spread_within_classes(outputs, np.array([2, 6, 0])) == pytest.approx(np.sqrt((2 * 8 + 6 * 1) / 8))


# Bad input.

GOOD = features(20, 4)
NAN = np.where(np.arange(20)[:, None] == 3, np.nan, GOOD)
PAIRED = [
    distances.frechet_distance,
    distances.kernel_distance,
    neighbours.Neighbourhoods,
    lambda real, fake: neighbours.memorisation_ratio(real, GOOD, fake),
]


@pytest.mark.parametrize("score", PAIRED)
@pytest.mark.parametrize(
    "real, fake, message",
    [
        (GOOD, NAN, "of 1 of 20 images hold NaN"),
        (np.where(np.isnan(NAN), np.inf, NAN), GOOD, "of 1 of 20 images hold NaN"),
        (GOOD, GOOD[:, :3], "4 values per image and .* 3"),
        (GOOD, GOOD[:0], "of 0 images"),
        (GOOD, GOOD[0], r"shape \[4\]"),
    ],
    ids=["NaN", "infinity", "widths", "empty", "one axis"],
)
def test_bad_features_are_one_clear_line(score, real, fake, message):
    with pytest.raises(ValueError, match=message) as error:
        score(real, fake)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: distances.frechet_distance(GOOD, GOOD[:1]), "1 images: expected 2"),
        (
            lambda: neighbours.Neighbourhoods(GOOD, GOOD[:3]).precision_recall(),
            "fake_features are of 3 images: expected 4",
        ),
        (
            lambda: neighbours.Neighbourhoods(GOOD[:3], GOOD).precision_recall(),
            "real_features are of 3 images: expected 4",
        ),
        (lambda: neighbours.Neighbourhoods(GOOD[:5], GOOD).density_coverage(), "expected 6 or more for 5 neighbours"),
        (lambda: neighbours.Neighbourhoods(GOOD, GOOD).density_coverage(0), "neighbours is 0"),
        (lambda: distances.kernel_distance(GOOD, GOOD[:3], block_size=5), "in 4 blocks"),
        (
            lambda: distances.inception_score(GOOD, 21),
            "20 images in 21 splits: expected 1 split or more, each with an image",
        ),
        (lambda: distances.inception_score(NAN), "NaN"),
        (lambda: classes.class_entropy([]), "expected"),
        (lambda: classes.class_entropy([0, 3], 3), "from 0 to 3: expected 0 to 2"),
        (lambda: classes.class_entropy([0.5, 1.0]), "expected integers"),
        (lambda: classes.class_divergence([0], [1]), "needs num_classes"),
        (lambda: classes.class_divergence(GOOD, GOOD[:, :3]), "4 classes and reference 3"),
        (lambda: classes.modes_captured([-1], 3), "from -1"),
        (lambda: distances.frechet_distance_per_class(GOOD, [0], GOOD, [0] * 20, 1), "real_labels are 1 for"),
    ],
)
def test_bad_arguments_are_one_clear_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_the_benchmark_measures_every_score_that_takes_long():
    # In a process of its own: its flags are those of other commands too.
    path = importlib.util.find_spec("tfvae").origin
    code = (
        "import runpy, json; benchmark = runpy.run_path('scripts/benchmark.py', run_name='benchmark'); "
        "print(json.dumps(benchmark['measure_metrics'](200, 8)))"
    )
    root = path.rpartition("/tfvae/")[0]
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    assert list(found) == [
        "inception_score", "frechet_distance", "kernel_distance", "neighbours", "vendi_score", "peak_memory_mb",
    ]  # fmt: skip

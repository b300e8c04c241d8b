"""Scores of known modes against values by hand, and where they are computed."""

import math

import numpy as np
import pytest
import scipy.optimize

from tfvae.data import stacked
from tfvae.scoring import extractors, modes, protocol
from tfvae.scoring.kinds import Extractor

pytestmark = pytest.mark.filterwarnings("ignore:.*rank-deficient")
UNIFORM, ZIPF = stacked.frequencies("uniform"), stacked.frequencies("zipf")


def kinds_of(*modes_and_counts):
    """Kinds of so many images of each mode."""
    return np.concatenate([[divmod(m // 10, 10) + (m % 10,)] * n for m, n in modes_and_counts]).astype(np.int32)


# 407 twice, 12 once; the fourth and fifth have a channel without an object.
FIVE = np.array([[4, 0, 7], [4, 0, 7], [0, 1, 2], [10, 1, 2], [10, 10, 3]], np.int32)


def test_modes_are_counted_among_recognised_images():
    count = modes.counts(FIVE)
    assert (count[407], count[12], count.sum(), len(count)) == (2, 1, 3, 1000)
    assert modes.found(FIVE) == 2 and modes.unrecognised(FIVE) == 0.4


def test_the_divergence_is_that_by_hand():
    # Two thirds and a third against a thousandth each.
    expected = 2 / 3 * math.log(2000 / 3) + 1 / 3 * math.log(1000 / 3)
    assert modes.divergence(FIVE, UNIFORM) == pytest.approx(expected)
    every = kinds_of(*((mode, 1) for mode in range(1000)))
    assert modes.divergence(every, UNIFORM) == pytest.approx(0, abs=1e-12)
    assert modes.divergence(every, ZIPF) == pytest.approx(np.mean(np.log(0.001 / ZIPF)))


def test_the_slope_of_counts_that_are_a_power_of_the_frequencies_is_that_power():
    for power in (0.5, 1.0, 2.0):
        count = np.round(1e6 * ZIPF**power / np.sum(ZIPF**power)).astype(int)
        assert modes.slope(kinds_of(*enumerate(count)), ZIPF) == pytest.approx(power, abs=2e-3)


def test_the_slope_counts_modes_without_an_image():
    """It solves the likelihood's equation: the mean log frequency under p^s is that of the images."""
    few = kinds_of((3, 40), (500, 2), (77, 9))
    log = np.log(ZIPF)
    mean = (40 * log[3] + 2 * log[500] + 9 * log[77]) / 51
    expected = scipy.optimize.brentq(lambda s: np.sum(ZIPF**s * log) / np.sum(ZIPF**s) - mean, -5, 5)
    assert modes.slope(few, ZIPF) == pytest.approx(expected, abs=1e-4)


def test_held_out_images_have_a_slope_of_1():
    kinds, _ = stacked.drawn_kinds("zipf", "test", 26_000)
    assert modes.slope(kinds, ZIPF) == pytest.approx(1, abs=0.02)
    # As many modes as so many independent images find, and a divergence of (K - 1) / 2n.
    assert modes.found(kinds) == pytest.approx(np.sum(1 - (1 - ZIPF) ** 26_000), abs=10)
    assert modes.divergence(kinds, ZIPF) == pytest.approx(999 / 52_000, rel=0.15)


def test_marginals_are_those_of_each_channel_by_itself():
    found = modes.marginals(FIVE)
    np.testing.assert_allclose(found[0, [0, 4]], [1 / 3, 2 / 3])
    np.testing.assert_allclose(found[1, [0, 1]], [1 / 2, 1 / 2])
    np.testing.assert_allclose(found[2, [2, 3, 7]], [2 / 5, 1 / 5, 2 / 5])
    np.testing.assert_allclose(modes.nominal_marginals(UNIFORM), np.full([3, 10], 0.1))
    of_zipf = [sum(ZIPF[m] for m in range(1000) if m // 100 == kind) for kind in range(10)]
    np.testing.assert_allclose(modes.nominal_marginals(ZIPF)[0], of_zipf)
    assert modes.channel_divergence(FIVE, UNIFORM, 1) == pytest.approx(math.log(5))


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda: modes.divergence(np.full([4, 3], 10), UNIFORM), "no image is recognised"),
        (lambda: modes.channel_divergence(np.full([4, 3], 10), UNIFORM, 0), "no image is recognised"),
        (lambda: modes.slope(FIVE, UNIFORM), "all modes are equally frequent"),
        (lambda: modes.slope(np.full([4, 3], 10), ZIPF), "no image, or all are of the most"),
        (lambda: modes.slope(kinds_of((int(ZIPF.argmax()), 5)), ZIPF), "no image, or all are of the most"),
        (lambda: modes.found(np.zeros([4, 2], int)), r"shape \[4, 2\]: expected \[images, 3\]"),
        (lambda: modes.found(np.full([4, 3], 11)), "from 11 to 11: expected 0 to 10"),
    ],
)
def test_what_has_no_value_is_one_line(call, line):
    with pytest.raises(ValueError, match=line) as error:
        call()
    assert "\n" not in str(error.value)


# Where they are computed.

CLASSIFIER = extractors.EXTRACTORS["classifier"]
OF_MODES = ["modes_found", "mode_divergence", "unrecognised", "red_divergence", "green_divergence", "blue_divergence"]


def outputs(kinds):
    features = np.random.default_rng(0).normal(size=(len(kinds), 4))
    return protocol.Outputs(None, features, None, kinds)


@pytest.mark.parametrize(("frequencies", "slope"), [(UNIFORM, []), (ZIPF, ["mode_slope"]), (None, None)])
def test_scores_of_modes_come_first_where_modes_are_known(frequencies, slope):
    drawn = outputs(np.tile(FIVE, (8, 1)))
    reference = protocol.Reference(drawn, 0, held_out=drawn, mode_frequencies=frequencies)
    extractor = Extractor(CLASSIFIER, "stand-in", "of a stand-in", None)
    found, undefined = protocol.score(reference, drawn, extractor)
    held_out, number = protocol.modes_of_held_out(reference, extractor, 20)
    if slope is None:
        assert not set(found) & {*OF_MODES, "mode_slope"} and (held_out, number) == ({}, 0)
        return
    expected = OF_MODES[:2] + slope + OF_MODES[2:]
    assert list(found)[: len(expected)] == expected == list(held_out) and number == 20
    assert found["modes_found"] == 2 and found["unrecognised"] == 0.4
    assert not {"modes_captured", "class_entropy", "classifier_score", "mode_slope"} & set(undefined)


def test_a_classifier_of_other_data_tells_no_modes():
    def frequencies(dataset, of):
        return protocol.mode_frequencies(dataset, Extractor(CLASSIFIER, "one", "sum", None, dataset=of))

    np.testing.assert_array_equal(frequencies("stacked_mnist/zipf", "stacked_mnist"), ZIPF)
    np.testing.assert_array_equal(frequencies("stacked_shapes", "stacked_shapes/zipf"), UNIFORM)
    for dataset, of in (("stacked_mnist", "stacked_shapes"), ("stacked_mnist", None), ("cifar10", "cifar10")):
        assert frequencies(dataset, of) is None


def test_kinds_are_kept_with_the_features(make_split, tmp_path):
    def run(images):
        return {"features": np.ones([len(images), 2], np.float32), "kinds": np.tile(FIVE[:1], (len(images), 1))}

    class OfKinds(Extractor):
        def __call__(self, images):
            return run(images)

    split = make_split(10)
    first = protocol.outputs_of_split(split, OfKinds(CLASSIFIER, "one", "sum", None), tmp_path)
    again = protocol.outputs_of_split(split, Extractor(CLASSIFIER, "one", "sum", None), tmp_path)
    for found in (first, again, again.rows(np.arange(4))):
        np.testing.assert_array_equal(found.kinds[:4], np.tile(FIVE[:1], (4, 1)))
        assert found.logits is None

"""Scores of images whose 1,000 modes are known: the kinds of object in their three channels.

As in the field's test of mode dropping on stacked MNIST, 26,000 drawn images are classified by a classifier of single digits, one
channel at a time; counted are the modes found, one image being enough, and the KL divergence of the modes' frequencies to
the true ones, in nats (the page of VEEGAN's authors, akashgit.github.io/VEEGAN; the code of PacGAN,
github.com/fjxmlzn/PacGAN). The code of self-conditioned GANs (github.com/stevliu/self-conditioned-gan) takes logarithms to
base 10, for "log10 seems to reproduce pacgan results": 2.303 times smaller numbers.

`kinds` are int [n, 3], 0 to 9, and 10 where the classifier sees no object; an image with such a channel is not recognised
and belongs to no mode. `frequencies` are float [1000], of mode 100 a + 10 b + c for the kinds a, b, c. Every function raises
a ValueError of one line where its value is not defined.
"""

import numpy as np
from sklearn.linear_model import PoissonRegressor

from tfvae.scoring import checks

NUM_KINDS = 10
CHANNELS = ("red", "green", "blue")
NUM_CHANNELS = len(CHANNELS)
NUM_MODES = NUM_KINDS**NUM_CHANNELS


def counts(kinds):
    """How many of the recognised images each mode has, int [1000]."""
    kinds = _checked(kinds)
    kinds = kinds[(kinds < NUM_KINDS).all(axis=1)].astype(np.int64)
    modes = np.ravel_multi_index(tuple(kinds.T), (NUM_KINDS,) * NUM_CHANNELS)
    return np.bincount(modes, minlength=NUM_MODES)


def found(kinds):
    """How many of the 1,000 modes have an image.

    At small n: too low; n images of the true frequencies p find sum 1 - (1 - p)^n of them.
    """
    return int(np.count_nonzero(counts(kinds)))


def divergence(kinds, frequencies):
    """KL of the recognised images' modes to the nominal frequencies, in nats.

    At small n: too high, by about (K - 1) / 2n where all K modes are found.
    """
    return _divergence(counts(kinds), frequencies)


def unrecognised(kinds):
    """The share of images with a channel in which the classifier sees no object."""
    return float(np.mean((_checked(kinds) == NUM_KINDS).any(axis=1)))


def slope(kinds, frequencies):
    """The coefficient of a Poisson regression of the modes' counts on their log frequencies; modes without an image count.

    1 for images of the nominal frequencies; above 1 the frequent modes are drawn too often, below 1 the rare ones.
    """
    count, logarithm = counts(kinds), np.log(frequencies)
    if not np.ptp(logarithm) > 1e-9:
        raise ValueError("all modes are equally frequent: a slope needs frequencies that differ.")
    if count[logarithm < logarithm.max()].sum() == 0 or count[logarithm > logarithm.min()].sum() == 0:
        raise ValueError("no image, or all are of the most or of the least frequent mode: no slope fits them best.")
    regression = PoissonRegressor(alpha=0, solver="newton-cholesky", tol=1e-9, max_iter=1000)
    return float(regression.fit((logarithm - logarithm.mean())[:, None], count).coef_[0])


def marginals(kinds):
    """The share of each kind among the channels of an object, by channel: float [3, 10]; NaN for a channel without any."""
    count = np.stack([np.bincount(channel, minlength=NUM_KINDS + 1)[:NUM_KINDS] for channel in _checked(kinds).T])
    with np.errstate(invalid="ignore"):
        return count / count.sum(axis=1, keepdims=True)


def nominal_marginals(frequencies):
    """The same of nominal frequencies."""
    cube = np.reshape(frequencies, (NUM_KINDS,) * NUM_CHANNELS)
    return np.stack([cube.sum(axis=tuple({0, 1, 2} - {channel})) for channel in range(NUM_CHANNELS)])


def channel_divergence(kinds, frequencies, channel):
    """KL of the kinds in one channel, of those that have an object, to the nominal ones, in nats."""
    count = np.bincount(_checked(kinds)[:, channel], minlength=NUM_KINDS + 1)[:NUM_KINDS]
    return _divergence(count, nominal_marginals(frequencies)[channel])


def _divergence(count, frequencies):
    if not count.sum():
        raise ValueError("no image is recognised: expected one or more.")
    part = count / count.sum()
    present = part > 0
    return float(max(0.0, np.sum(part[present] * np.log(part[present] / np.asarray(frequencies)[present]))))


def _checked(kinds):
    kinds = np.asarray(kinds)
    if kinds.ndim != 2 or kinds.shape[1] != NUM_CHANNELS:
        raise ValueError(f"kinds have the shape {list(kinds.shape)}: expected [images, {NUM_CHANNELS}].")
    checks.labels("kinds", kinds.reshape(-1), NUM_KINDS + 1)
    return kinds

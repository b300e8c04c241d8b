"""Scores of the classes that an extractor sees: how even they are, how many there are, how much each of them varies.

Rows are images. Labels are int [n], logits float [n, K] before the softmax, whose largest is the label; all is computed in
float64.

Every function raises a ValueError of one line for empty arrays, labels out of range, widths that differ, NaN and infinity.
"""

import numpy as np

from tfvae.scoring import checks


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


def spread_within_classes(outputs, counts=None):
    """Root of the mean squared distance, in features, between two images to which the extractor gives one class.

    Args:
        outputs: `protocol.Outputs`.
        counts: int [K], by which the classes are weighed, such as another set's images of each; default: its own.

    Returns:
        A float; NaN without a class of two images.
    """
    labels = outputs.logits.argmax(axis=1)
    counts = np.bincount(labels) if counts is None else counts
    counts = np.where(counts > 1, counts, 0)  # one image alone has no distance
    total, weight = 0.0, 0
    for label in np.flatnonzero(counts):
        members = outputs.features[labels == label].astype(np.float64)
        if len(members) > 1:
            # The mean squared distance of two different members is twice their variance.
            total += counts[label] * 2.0 * members.var(axis=0, ddof=1).sum()
            weight += counts[label]
    return float(np.sqrt(total / weight)) if weight else float("nan")

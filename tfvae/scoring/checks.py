"""What scores ask of the arrays that they are given; every function raises a ValueError of one line."""

import numpy as np


def matrix(name, value, min_images=1):
    """`value` as float64 [images, values]: finite, of `min_images` or more."""
    value = np.asarray(value)
    if value.ndim != 2 or value.shape[1] == 0:
        raise ValueError(f"{name} have the shape {list(value.shape)}: expected [images, values].")
    if len(value) < min_images:
        raise ValueError(f"{name} are of {len(value)} images: expected {min_images} or more.")
    value = value.astype(np.float64)
    bad = len(value) - np.count_nonzero(np.isfinite(value).all(axis=1))
    if bad:
        raise ValueError(f"{name} of {bad} of {len(value)} images hold NaN or infinity: expected finite values.")
    return value


def pair(first, second, min_images, names=("real_features", "fake_features")):
    """Both as `matrix`, of one width."""
    first, second = (matrix(name, value, min_images) for name, value in zip(names, (first, second)))
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"{names[0]} have {first.shape[1]} values per image and {names[1]} {second.shape[1]}: expected one extractor's."
        )
    return first, second


def centred_pair(real, fake):
    """Both without the reals' mean, which distances do not need and which would cost them digits."""
    real, fake = pair(real, fake, 1)
    centre = real.mean(axis=0)
    return real - centre, fake - centre


def enough_for(name, features, neighbours):
    """Raises a ValueError unless every image has so many neighbours."""
    if neighbours < 1:
        raise ValueError(f"neighbours is {neighbours}: expected 1 or more.")
    if len(features) <= neighbours:
        raise ValueError(
            f"{name}_features are of {len(features)} images: expected {neighbours + 1} or more for {neighbours} neighbours."
        )


def labels(name, labels, num_classes, num_images=None):
    """Integers [n], 0 to num_classes - 1 (None: no limit), as many as images (None: any number but 0)."""
    labels = np.asarray(labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"{name} are {labels.dtype} {list(labels.shape)}: expected integers, one per image.")
    if len(labels) == 0:
        raise ValueError(f"{name} are of 0 images: expected 1 or more.")
    if num_images is not None and len(labels) != num_images:
        raise ValueError(f"{name} are {len(labels)} for the features of {num_images} images: expected one per image.")
    if labels.min() < 0 or (num_classes is not None and labels.max() >= num_classes):
        limit = "" if num_classes is None else f" to {num_classes - 1}"
        raise ValueError(f"{name} are from {labels.min()} to {labels.max()}: expected 0{limit}.")
    return labels


def class_counts(name, labels_or_logits, num_classes):
    """How many images each class has, int [K], from labels [n] or from logits [n, K]."""
    if np.ndim(labels_or_logits) == 2:
        logits = matrix(name, labels_or_logits)
        if num_classes not in (None, logits.shape[1]):
            raise ValueError(f"{name} are logits of {logits.shape[1]} classes: expected {num_classes}.")
        labels_or_logits, num_classes = logits.argmax(axis=1), logits.shape[1]
    return np.bincount(labels(name, labels_or_logits, num_classes), minlength=num_classes or 0)

"""The pictures by which a study shows one model, and the arithmetic behind their choice."""

import json

import numpy as np
from sklearn import metrics, neighbors

from tfvae.data.split import CHUNK, choose
from tfvae.drawing import prior, sheets
from tfvae.scoring import protocol

SHOWN = 12  # pictures a row
REFERENCE_IMAGES = 5_000  # real images whose balls make the manifold
PATHS = 2  # interpolations


def take(model, train, extractor, number, seed):
    """The arrays that every model has, by name.

    `best` are the most realistic of the drawn images, `…_neighbours` the training images that are nearest in features.

    Args:
        model: `Model`. train: the `Split` that it was trained on. extractor: of `scores.features`.
        number: images that are drawn. seed: of latents.
    """
    real = protocol.outputs_of_split(train, extractor, protocol.cache_dir())
    # One class after the other, so that the same place shows the same class in every model that has classes.
    labels = (np.arange(number) % model.num_classes).astype(np.int32) if model.num_classes else None
    latent = prior.Normal(model.latent_dim).draw(np.zeros(number), seed)
    drawn = model.generate(latent, labels)
    chunks = (drawn[i : i + CHUNK] for i in range(0, number, CHUNK))
    fake = protocol.outputs_of(((chunk, None) for chunk in chunks), extractor, number, "pictures")
    reference = real.features[choose(len(real), REFERENCE_IMAGES)]
    score = realism(reference, fake.features)
    order = np.argsort(-score, kind="stable")[:SHOWN]
    first = np.arange(SHOWN)
    nearest, distance = neighbours(real.features, fake.features[np.concatenate([first, order])])
    ends = prior.latents(2 * PATHS, model.latent_dim, seed)
    path = prior.interpolate(ends[:PATHS], ends[PATHS:], SHOWN).reshape(-1, model.latent_dim)
    spread = spread_within_classes(fake) / spread_within_classes(real, np.bincount(fake.logits.argmax(1)))
    facts = {
        "seed": seed,
        "drawn": number,
        "images_seen": model.images_seen,
        "extractor": extractor.checksum,
        "spread_within_classes": float(spread) if np.isfinite(spread) else None,
    }
    return {
        "unselected": drawn[first],
        "unselected_neighbours": train.images[nearest[:SHOWN]],
        "unselected_distance": distance[:SHOWN],
        "best": drawn[order],
        "best_realism": score[order],
        "best_neighbours": train.images[nearest[SHOWN:]],
        "best_distance": distance[SHOWN:],
        "interpolations": model.generate(path, sheets.row_labels(len(path), model.num_classes, SHOWN)),
        "facts": np.array(json.dumps(facts)),
    }


def realism(real, fake, k=protocol.PRECISION_NEIGHBOURS):
    """Realism of each fake: the largest of (radius of a real image's ball / the fake's distance to that image), float [m].

    A ball reaches to the k-th nearest real image. Half of the balls, the wide ones, are left out, as in the paper: they lie
    where real images are rare and say little. 1 or more: inside of a ball.

    Args:
        real: float [n, D], n more than k. fake: float [m, D].
    """
    found = neighbors.NearestNeighbors(n_neighbors=min(k + 1, len(real)), algorithm="brute").fit(real)
    radii = found.kneighbors(real)[0][:, -1]
    kept = radii <= np.median(radii)
    parts = metrics.pairwise_distances_chunked(
        fake, real[kept], reduce_func=lambda part, start: (radii[kept] / np.maximum(part, 1e-12)).max(axis=1)
    )
    return np.concatenate(list(parts))


def neighbours(real, fake):
    """(index int [m] of the nearest row of `real`, distance [m]) for every row of `fake`."""
    distance, index = neighbors.NearestNeighbors(n_neighbors=1, algorithm="brute").fit(real).kneighbors(fake)
    return index[:, 0], distance[:, 0]


def spread_within_classes(outputs, counts=None):
    """Root of the mean squared distance between two images of one class, which the extractor tells, in its features.

    Args:
        outputs: `protocol.Outputs`. counts: images of each class, int [K], by which classes are weighed; default: its own.

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

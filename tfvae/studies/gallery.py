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

    Args:
        model: `Model`. train: the `Split` that it was trained on. extractor: of `scoring.extractors`.
        number: images that are drawn. seed: of latents.

    Returns:
        uint8 [n, R, R, 3] each: `unselected`, the first drawn images; `best`, the most realistic of them all, and
        `best_neighbours`, the training images nearest to those in features; `interpolations`, `PATHS` paths one after the other.
        And `facts`, a JSON text.
    """
    real = protocol.outputs_of_split(train, extractor, protocol.cache_dir())
    # One class after the other, so that the same place shows the same class in every model that has classes.
    labels = (np.arange(number) % model.num_classes).astype(np.int32) if model.num_classes else None
    latent = prior.Normal(model.latent_dim).draw(np.zeros(number), seed)
    drawn = model.generate(latent, labels)
    chunks = (drawn[i : i + CHUNK] for i in range(0, number, CHUNK))
    fake = protocol.outputs_of(((chunk, None) for chunk in chunks), extractor, number, "pictures")
    reference = real.features[choose(len(real), REFERENCE_IMAGES)]
    best = np.argsort(-realism(reference, fake.features), kind="stable")[:SHOWN]
    nearest = neighbors.NearestNeighbors(n_neighbors=1, algorithm="brute").fit(real.features)
    ends = sheets.latents(2 * PATHS, model.latent_dim, seed)
    path = sheets.interpolate(ends[:PATHS], ends[PATHS:], SHOWN).reshape(-1, model.latent_dim)
    spread = spread_within_classes(fake) / spread_within_classes(real, np.bincount(fake.logits.argmax(1)))
    facts = {
        "seed": seed,
        "drawn": number,
        "images_seen": model.images_seen,
        "extractor": extractor.checksum,
        "data_fingerprint": train.fingerprint,
        "spread_within_classes": float(spread) if np.isfinite(spread) else None,
    }
    return {
        "unselected": drawn[:SHOWN],
        "best": drawn[best],
        "best_neighbours": train.images[nearest.kneighbors(fake.features[best], return_distance=False)[:, 0]],
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


def spread_within_classes(outputs, counts=None):
    """Root mean squared distance, in an extractor's features, between two different images of the same class.

    An image's class is the one to which the extractor gives the largest logit.

    Args:
        outputs: `protocol.Outputs`, with K classes.
        counts: int [K], the weights of the classes in the mean, as a number of images each; classes of fewer than two count
            nothing. Default: the numbers of `outputs` itself.

    Returns:
        A float, in units of the features; NaN if no class has two images.
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

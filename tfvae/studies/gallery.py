"""The pictures by which a study shows one model, and the arithmetic behind their choice."""

import json

import numpy as np
from sklearn import metrics, neighbors

from tfvae.data import content
from tfvae.data.split import CHUNK, choose
from tfvae.drawing import prior, sheets
from tfvae.scoring import neighbours, protocol, scores

SHOWN = 12  # pictures per row
REFERENCE_IMAGES = 5_000  # real images whose balls make the manifold
PATHS = 2  # interpolations


def take(model, train, extractor, number, seed):
    """The arrays that every model has, by name.

    Args:
        model: `Model`. train: the `Split` that it was trained on. extractor: an `Extractor`.
        number: images that are drawn. seed: of latents.

    Returns:
        uint8 [n, R, R, 3] each: `unselected`, the first drawn images; `best`, the most realistic of them all, and
        `best_neighbours`, the training images nearest to those in features; `interpolations`, `PATHS` paths one after the other.
        And `facts`, a JSON text.
    """
    real = protocol.outputs_of_split(train, extractor, content.cache_dir())
    # One class after the other, so that the same place shows the same class in every model that has classes.
    labels = (np.arange(number) % model.num_classes).astype(np.int32) if model.num_classes else None
    latent = prior.Normal(model.latent_dim).draw(np.zeros(number), seed)
    drawn = model.generate(latent, labels)
    chunks = (drawn[i : i + CHUNK] for i in range(0, number, CHUNK))
    fake = protocol.outputs_of(((chunk, None) for chunk in chunks), extractor, number, "pictures")
    reference = real.features[choose(len(real), REFERENCE_IMAGES)]
    best = np.argsort(-realism(reference, fake.features), kind="stable")[:SHOWN]
    nearest = neighbors.NearestNeighbors(n_neighbors=1, algorithm="brute").fit(real.features)
    ends = prior.latents(2 * PATHS, model.latent_dim, seed)
    path = prior.interpolate(ends[:PATHS], ends[PATHS:], SHOWN).reshape(-1, model.latent_dim)
    given = scores.Given(real, fake)
    spread = scores.spread_within_classes(given) if scores.LOGITS in given.known else np.nan
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


def realism(real, fake, k=neighbours.PRECISION_BALLS[0]):
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

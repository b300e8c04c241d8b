"""Takes the pictures by which a study shows one model, and how its classes spread: an .npz file of small arrays.

python -m tfvae.exhibits --model_dir=runs/cifar10_gan --classifier_dir=runs/classifier_cifar10 --output=exhibits.npz

`best` are the most realistic of --num_images drawn ones by the realism score (Kynkäänniemi et al., arXiv 1904.06991, section 5):
how far inside of a ball of the real manifold an image's features lie. `neighbours` are the training images nearest in features.
"""

import json
import os
import pathlib

import numpy as np
from absl import flags
from sklearn import metrics, neighbors

from tfvae import config, evaluation, prior, sheets, sources
from tfvae.data import pipeline
from tfvae.scores import features

MODEL_DIR = flags.DEFINE_string("model_dir", None, "Folder of a run of tfvae.train.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "As tfvae.train's. Default: the model's own.")
INCEPTION_DIR = flags.DEFINE_string("inception_dir", None, "Extractor: folder of TF-GAN's Inception.")
CLASSIFIER_DIR = flags.DEFINE_string("classifier_dir", None, "Extractor: folder that tfvae.train_classifier made.")
NUM_IMAGES = flags.DEFINE_integer("num_images", 2_000, "Drawn images, of which the best are taken.", 20)
SEED = flags.DEFINE_integer("seed", 0, "Of latents and labels.", 0)
OUTPUT = flags.DEFINE_string("output", None, "The .npz file.")
OVERWRITE = flags.DEFINE_boolean("overwrite", False, "Replace the file that is there.")

SHOWN = 12  # pictures a row
REFERENCE_IMAGES = 5_000  # real images whose balls make the manifold
PATHS = 2  # interpolations


def main(argv):
    with config.user_errors():
        for flag, example in ((MODEL_DIR, "runs/cifar10_gan"), (OUTPUT, "exhibits.npz")):
            if not flag.value:
                raise ValueError(f"--{flag.name} is missing: expected such as --{flag.name}={example}.")
        output = pathlib.Path(OUTPUT.value)
        if output.exists() and not OVERWRITE.value:
            raise ValueError(f"{output} exists: give another --output, or --overwrite to replace it.")
        extractor = features.load(INCEPTION_DIR.value, CLASSIFIER_DIR.value)
        model = sources.load_run(MODEL_DIR.value)
        dataset, data_dir = model.flags["dataset"], DATA_DIR.value or model.flags["data_dir"]
        train = pipeline.load(dataset, data_dir=data_dir, resolution=model.resolution, streaming=False)
        evaluation.check_resolution(extractor, train)
        arrays = take(model, train, extractor)
        if model.encode:
            name = pipeline.HELD_OUT_SPLITS.get(dataset, "train")
            held_out = pipeline.load(dataset, name, data_dir=data_dir, resolution=model.resolution, streaming=False)
            real, label = held_out.images[:SHOWN], held_out.labels[:SHOWN] if model.num_classes else None
            arrays |= {"real": real, "reconstructed": model.generate(model.encode(real)[0], label)}
    output.parent.mkdir(parents=True, exist_ok=True)
    beside = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    with beside.open("wb") as stream:
        np.savez_compressed(stream, **arrays)
    os.replace(beside, output)
    print(output)


def take(model, train, extractor):
    """The arrays that every model has.

    Args:
        model: `sources.Model`. train: the `Split` that it was trained on. extractor: of `scores.features`.
    """
    real = evaluation.outputs_of_split(train, extractor, evaluation.cache_dir())
    number = NUM_IMAGES.value
    # One class after the other, so that the same place shows the same class in every model that has classes.
    labels = (np.arange(number) % model.num_classes).astype(np.int32) if model.num_classes else None
    latent = prior.Normal(model.latent_dim).draw(np.zeros(number), SEED.value)
    drawn = model.generate(latent, labels)
    chunks = (drawn[i : i + evaluation.CHUNK] for i in range(0, number, evaluation.CHUNK))
    fake = evaluation.outputs_of(((chunk, None) for chunk in chunks), extractor, number, "pictures")
    reference = real.features[evaluation.choose(len(real), REFERENCE_IMAGES)]
    score = realism(reference, fake.features)
    order = np.argsort(-score, kind="stable")[:SHOWN]
    first = np.arange(SHOWN)
    nearest, distance = neighbours(real.features, fake.features[np.concatenate([first, order])])
    ends = sheets.latents(2 * PATHS, model.latent_dim, SEED.value)
    path = sheets.interpolate(ends[:PATHS], ends[PATHS:], SHOWN).reshape(-1, model.latent_dim)
    spread = spread_within_classes(fake) / spread_within_classes(real, np.bincount(fake.logits.argmax(1)))
    facts = {
        "seed": SEED.value,
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


def realism(real, fake, k=evaluation.PRECISION_NEIGHBOURS):
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
        outputs: `evaluation.Outputs`. counts: images of each class, int [K], by which classes are weighed; default: its own.

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


if __name__ == "__main__":
    config.run_command(main)

"""The protocol of scores: real and drawn images through one extractor, then every score of them.

A score is a number of (extractor, images, reference), and stands nowhere without the three. Features of real images are kept
on the disk by their content, so that they are computed once.
"""

import dataclasses
import hashlib
import os
import pathlib
import zipfile

import numpy as np
import tqdm

from tfvae.command import write_whole
from tfvae.data.split import batches_of, choose
from tfvae.scoring import classes, distances, neighbours, reconstruction

SPLITS = 10  # of the classifier score
PRECISION_NEIGHBOURS, DENSITY_NEIGHBOURS = 3, 5  # as their papers
# A mode counts as captured with so much of its fair share of the images: an extractor's rare mistakes are no captures.
CAPTURED_SHARE = 0.1

# Whose name a score has depends on the extractor: (by Inception, by a classifier).
NAMES = {
    "score": ("inception_score", "classifier_score"),
    "frechet": ("frechet_inception_distance", "frechet_classifier_distance"),
    "kernel": ("kernel_inception_distance", "kernel_classifier_distance"),
}
# What is better, for people: more (+), less (-), or neither.
BETTER = {
    "inception_score": "+",
    "classifier_score": "+",
    "frechet_inception_distance": "-",
    "frechet_classifier_distance": "-",
    "kernel_inception_distance": "-",
    "kernel_classifier_distance": "-",
    "precision": "+",
    "recall": "+",
    "density": "+",
    "coverage": "+",
    "class_entropy": "+",
    "class_divergence": "-",
    "frechet_within_class": "-",
    "frechet_within_worst_class": "-",
    "modes_captured": "+",
}


def name_of(score, extractor):
    """The name of "score", "frechet" or "kernel" with an extractor: the papers' names are Inception's alone."""
    return NAMES[score][extractor.kind != "inception"]


@dataclasses.dataclass(frozen=True, eq=False)
class Outputs:
    """What an extractor made of a set of images.

    Attributes:
        logits: float32 [N, K]. features: float32 [N, D].
        labels: int32 [N], what the images are of, as the data or the request says; None where nothing says so.
    """

    logits: np.ndarray
    features: np.ndarray
    labels: np.ndarray | None

    def __len__(self):
        return len(self.features)

    def rows(self, rows):
        """The same of some of the images: int [n]."""
        return Outputs(self.logits[rows], self.features[rows], None if self.labels is None else self.labels[rows])


# Real images.


def cache_dir():
    """Where features of real images are kept unless somebody says otherwise: ~/.cache/tfvae, or below XDG_CACHE_HOME."""
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "tfvae"


def check_resolution(extractor, split):
    """Raises a ValueError for an extractor that does not take the split's images."""
    if extractor.resolution not in (None, split.resolution):
        raise ValueError(
            f"{extractor.name} takes {extractor.resolution} px and {split.dataset} has {split.resolution} px: expected one size; "
            f"train a classifier with --resolution={split.resolution}, or give its size as --resolution."
        )


def outputs_of_split(split, extractor, cache_dir, limit=None):
    """An extractor's `Outputs` of a split, or of `limit` of its images: `choose` of them.

    Kept in `cache_dir` under a name made of the images' and the extractor's content: other images or another extractor are
    another file. Written beside and renamed, so neither a crash nor a second process leaves half a file; one that cannot be
    read is made anew.
    """
    rows = choose(split.num_images, limit)
    key = f"{split.fingerprint} {extractor.checksum} {extractor.preparation} {len(rows)}"
    file = pathlib.Path(cache_dir) / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"
    try:
        with np.load(file) as kept:
            outputs = Outputs(kept["logits"], kept["features"], kept["labels"] if "labels" in kept else None)
        if len(outputs) == len(rows):
            return outputs
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass
    outputs = outputs_of(batches_of(split, rows), extractor, len(rows), f"{split.dataset} {split.split}")
    arrays = {"logits": outputs.logits, "features": outputs.features}
    if outputs.labels is not None:
        arrays["labels"] = outputs.labels
    write_whole(file, lambda stream: np.savez(stream, **arrays))
    return outputs


def outputs_of(batches, extractor, num_images, title, progress=True):
    """An extractor's `Outputs` of batches (uint8 images, int labels or None); only logits and features are kept.

    Args:
        batches: any number of images, `num_images` of them are taken.
        title: of the progress bar.
    """
    parts, labels, number = [], [], 0
    bar = tqdm.tqdm(total=num_images, desc=title, unit="image", leave=False, disable=None if progress else True)
    with bar:
        for images, label in batches:
            parts.append(extractor(images[: num_images - number]))
            labels.append(label if label is None else label[: num_images - number])
            number += len(parts[-1]["logits"])
            bar.update(len(parts[-1]["logits"]))
            if number >= num_images:
                break
    if not parts:
        raise ValueError(f"{title}: no images: expected 1 or more.")
    return Outputs(
        np.concatenate([part["logits"] for part in parts]),
        np.concatenate([part["features"] for part in parts]),
        None if labels[0] is None else np.concatenate(labels).astype(np.int32),
    )


# Scores.


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """The real images that drawn ones are compared with.

    Attributes:
        outputs: of the reference images.
        num_classes: of their labels; 0 without.
        train, held_out: `Outputs` of all images that the model was trained on and of some that it was not; None: no
            memorisation ratio.
    """

    outputs: Outputs
    num_classes: int
    train: Outputs | None = None
    held_out: Outputs | None = None


def score(reference, fake, extractor, seed=0):
    """Every score of drawn images that can be computed from what is known of them.

    Args:
        reference: `Reference`. fake: `Outputs`; its labels are used with those of the reference where both have them.
        seed: of the order in which images form the score's splits and the kernel distance's blocks, whatever theirs was.

    Returns:
        {name: float}, in the order in which they are shown; NaN where a score is not defined.

    Raises:
        ValueError: too few images for a score's neighbours or splits.
    """
    real = reference.outputs
    order = np.random.default_rng(seed).permutation(len(fake))
    score_mean, score_std = distances.inception_score(fake.logits[order], SPLITS)
    kernel, kernel_error = distances.kernel_distance(real.features, fake.features, seed=seed)
    precision, recall = neighbours.precision_recall(real.features, fake.features, PRECISION_NEIGHBOURS)
    density, coverage = neighbours.density_coverage(real.features, fake.features, DENSITY_NEIGHBOURS)
    scores = {
        name_of("score", extractor): score_mean,
        f"{name_of('score', extractor)}_std_over_splits": score_std,
        name_of("frechet", extractor): distances.frechet_distance(real.features, fake.features),
        name_of("kernel", extractor): kernel,
        f"{name_of('kernel', extractor)}_standard_error": kernel_error,
        "precision": precision,
        "recall": recall,
        "density": density,
        "coverage": coverage,
        "class_entropy": classes.class_entropy(fake.logits),
        "class_divergence": classes.class_divergence(fake.logits, real.logits),
    }
    if reference.num_classes and real.labels is not None and fake.labels is not None:
        within = distances.frechet_distance_per_class(
            real.features, real.labels, fake.features, fake.labels, reference.num_classes
        )
        known = within[np.isfinite(within)]
        scores["frechet_within_class"] = float(known.mean()) if len(known) else float("nan")
        scores["frechet_within_worst_class"] = float(known.max()) if len(known) else float("nan")
    if extractor.kind == "classifier":
        modes = fake.logits.shape[1]
        scores["modes_captured"] = float(
            classes.modes_captured(fake.logits, modes, max(1, round(CAPTURED_SHARE * len(fake) / modes)))
        )
    if reference.train is not None and reference.held_out is not None:
        scores["memorisation_ratio"] = neighbours.memorisation_ratio(
            reference.train.features, reference.held_out.features, fake.features
        )
    return scores


def reconstruction_scores(model, held_out, train, rows, reference, extractor):
    """How well a VAE gives images back, from the posterior's mean.

    Args:
        model: `Model` with an encoder.
        held_out: `Split` whose images tell the errors. train: `Split` of whose `rows`, int64 [n], the others are.
        reference: `Reference`. extractor: its.

    Returns:
        {name: float}: errors and active units, then `score`'s of the reconstructions, so that a decoder can be told from its
        prior.
    """

    def triples(split, rows):
        for images, labels in batches_of(split, rows):
            mean, _ = model.encode(images)
            yield images, model.generate(mean, labels if model.num_classes else None), mean, labels

    errors, numbers = [], []
    for images, drawn, _, _ in triples(held_out, np.arange(held_out.num_images)):
        errors.append(reconstruction.reconstruction_errors(images, drawn))
        numbers.append(len(images))
    scores = {name: float(np.average([error[name] for error in errors], weights=numbers)) for name in errors[0]}
    means = []

    def drawn_only():
        for _, drawn, mean, labels in triples(train, rows):
            means.append(mean)
            yield drawn, labels

    outputs = outputs_of(drawn_only(), extractor, len(rows), "reconstructions")
    scores["active_units"] = float(reconstruction.active_units(np.concatenate(means)))
    return scores | score(dataclasses.replace(reference, train=None), outputs, extractor)


def declared(extractor):
    """What a reader has to know of how the scores were made: a plain dict for `scores.json`."""
    return {
        "extractor": {
            name: getattr(extractor, name)
            for name in ("kind", "name", "checksum", "preparation", "resolution", "dataset", "accuracy")
        },
        "computed_by": "TF-GAN 2.1.0 (score, Fréchet and kernel distance); tfvae.scores.metrics (the others)",
        "score_splits": SPLITS,
        "precision_and_recall_neighbours": PRECISION_NEIGHBOURS,
        "density_and_coverage_neighbours": DENSITY_NEIGHBOURS,
        "mode_captured_from_share_of_fair_share": CAPTURED_SHARE,
    }

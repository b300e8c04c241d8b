"""The protocol of scores: real and drawn images through one extractor, then every score of them.

A score is a number of (extractor, images, reference) and is never given without the three. Features of real images are kept on
the disk by their content, so that they are computed once.
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
from tfvae.scoring import scores


@dataclasses.dataclass(frozen=True, eq=False)
class Outputs:
    """What an extractor made of a set of images.

    Attributes:
        logits: float32 [N, K], or None from an extractor without. features: float32 [N, D].
        labels: int32 [N], what the images are of, as the data or the request says; None where nothing says so.
    """

    logits: np.ndarray | None
    features: np.ndarray
    labels: np.ndarray | None

    def __len__(self):
        return len(self.features)

    def rows(self, rows):
        """The same of some of the images: int [n]."""
        logits, labels = (None if array is None else array[rows] for array in (self.logits, self.labels))
        return Outputs(logits, self.features[rows], labels)


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
            logits, labels = (kept[name] if name in kept else None for name in ("logits", "labels"))
            outputs = Outputs(logits, kept["features"], labels)
        if len(outputs) == len(rows):
            return outputs
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass
    outputs = outputs_of(batches_of(split, rows), extractor, len(rows), f"{split.dataset} {split.split}")
    arrays = {name: array for name, array in vars(outputs).items() if array is not None}
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
            number += len(parts[-1]["features"])
            bar.update(len(parts[-1]["features"]))
            if number >= num_images:
                break
    if not parts:
        raise ValueError(f"{title}: no images: expected 1 or more.")
    made = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    known = None if labels[0] is None else np.concatenate(labels).astype(np.int32)
    return Outputs(made.get("logits"), made["features"], known)


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


def score(reference, fake, extractor, seed=0, codes=None):
    """Every score of `scores.SCORES` for which all that it needs is known.

    Args:
        reference: `Reference`. fake: `Outputs` of the drawn images; their labels are used where the reference has labels too.
        extractor: that of both.
        seed: of the order in which images form the score's splits and the kernel distance's blocks, whatever theirs was.
        codes: float [N, Z], means of the posteriors where the drawn images are reconstructions; else None.

    Returns:
        {name: float}, in the order in which they are shown; NaN where a score is not defined.

    Raises:
        ValueError: too few images for a score's neighbours or splits.
    """
    given = scores.Given(
        real=reference.outputs,
        fake=fake,
        num_classes=reference.num_classes,
        train=reference.train,
        held_out=reference.held_out,
        codes=codes,
        knows_classes=extractor.kind.knows_classes,
        seed=seed,
    )
    possible = [one for one in scores.SCORES.values() if given.known.issuperset(one.needs)]
    return {one.name_by(extractor.kind): float(one.function(given)) for one in possible}


def reconstruction_scores(model, held_out, train, rows, reference, extractor):
    """How well a VAE gives images back, from the means of their posteriors.

    Args:
        model: `Model` with an encoder.
        held_out: `Split`; the scores that compare an image with its reconstruction are means over all of its images.
        train: `Split`; the other scores are of the reconstructions of some of its images.
        rows: int64 [n], sorted, which of them.
        reference: `Reference`. extractor: that of the reference.

    Returns:
        {name: float}: errors and active units, then every score of samples, here of reconstructions: what the decoder can draw,
        whatever the prior asks for.
    """

    def reconstructed(split, rows):
        for images, labels in batches_of(split, rows):
            mean, _ = model.encode(images)
            yield images, model.generate(mean, labels if model.num_classes else None), mean, labels

    of_pairs = [one for one in scores.SCORES.values() if scores.PAIRS in one.needs]
    values = {one.name_by(extractor.kind): [] for one in of_pairs}
    for images, drawn, _, _ in reconstructed(held_out, np.arange(held_out.num_images)):
        for one, found in zip(of_pairs, values.values()):
            found.append(one.function(images, drawn))
    means = []

    def drawn_only():
        for _, drawn, mean, labels in reconstructed(train, rows):
            means.append(mean)
            yield drawn, labels

    outputs = outputs_of(drawn_only(), extractor, len(rows), "reconstructions")
    errors = {name: float(np.concatenate(found).mean()) for name, found in values.items()}
    # Reconstructions of training images are near those by intention: no memorisation ratio.
    return errors | score(dataclasses.replace(reference, train=None), outputs, extractor, codes=np.concatenate(means))


def declared(extractor):
    """What a reader has to know of how the scores were made: a plain dict for `scores.json`."""
    facts = ("name", "checksum", "preparation", "resolution", "dataset", "accuracy")
    return {
        "extractor": {"kind": extractor.kind.name} | {name: getattr(extractor, name) for name in facts},
        "computed_by": "TF-GAN 2.1.0 (score, Fréchet and kernel distance); tfvae.scoring (the others)",
        "score_splits": scores.SPLITS,
        "precision_and_recall_neighbours": scores.PRECISION_NEIGHBOURS,
        "density_and_coverage_neighbours": scores.DENSITY_NEIGHBOURS,
        "mode_captured_from_share_of_fair_share": scores.CAPTURED_SHARE,
    }

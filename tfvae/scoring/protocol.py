"""The protocol of scores: real and drawn images through one extractor, then every score of them.

A score is a number of (extractor, images, reference) and is never given without the three. Features of real images are kept on
the disk by their content, so that they are computed once.
"""

import dataclasses
import functools
import hashlib
import math
import pathlib

import numpy as np
import tqdm

from tfvae.command import remove_left_overs, write_whole
from tfvae.data import content, datasets
from tfvae.data.split import batches_of, choose
from tfvae.scoring import likelihood, neighbours, scores


@dataclasses.dataclass(frozen=True, eq=False)
class Outputs:
    """What an extractor made of a set of images.

    Attributes:
        logits: float32 [N, K], or None from an extractor without. features: float32 [N, D].
        labels: int32 [N], what the images are of, as the data or the request says; None where nothing says so.
        kinds: int32 [N, 3], what a classifier of single channels sees in each (`modes`); None by any other extractor.
    """

    logits: np.ndarray | None
    features: np.ndarray
    labels: np.ndarray | None
    kinds: np.ndarray | None = None

    def __len__(self):
        return len(self.features)

    def rows(self, rows):
        """The same of some of the images: int [n]."""
        return Outputs(**{name: None if array is None else array[rows] for name, array in vars(self).items()})


# Real images.


def check_resolution(extractor, split):
    """Raises a ValueError for an extractor that does not take the split's images."""
    if extractor.resolution not in (None, split.resolution):
        raise ValueError(
            f"{extractor.name} takes {extractor.resolution} px and the images of {split.dataset} are {split.resolution} px here: "
            f"expected one size, such as that of a classifier trained with --resolution={split.resolution}."
        )


def outputs_of_split(split, extractor, cache_dir, limit=None):
    """An extractor's `Outputs` of a split, or of `limit` of its images: `choose` of them.

    Kept in `cache_dir` under a name made of the images' and the extractor's content: other images or another extractor are
    another file. Written beside and renamed, so neither a crash nor a second process leaves half a file; one that cannot be
    read, or whose content is not what was written, is made anew. Nothing that fails there ends the command.

    Args:
        cache_dir: a folder, made if absent; None: nothing is kept.
    """
    rows = choose(split.num_images, limit)
    key = f"{split.fingerprint} {extractor.checksum} {extractor.preparation} {len(rows)}"
    name = f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"
    if cache_dir is not None:
        remove_left_overs(cache_dir, r"[0-9a-f]{32}\.npz")
        outputs = _kept(pathlib.Path(cache_dir) / name, key)
        if outputs is not None:
            return outputs
    outputs = outputs_of(batches_of(split, rows), extractor, len(rows), f"{split.dataset} {split.split}")
    try:
        if cache_dir is None:
            raise OSError("no home folder is known; XDG_CACHE_HOME names another place")
        _keep(pathlib.Path(cache_dir) / name, key, outputs)
    except OSError as error:
        where = "" if cache_dir is None else f" in {cache_dir}"
        content.warn_once(
            f"features of real images are not kept{where} ({error.strerror or error}): each command computes them anew."
        )
    return outputs


def _kept(file, key):
    """The `Outputs` that `_keep` wrote, or None where they are not there or are not what was written."""
    try:
        with np.load(file) as kept:
            arrays = dict(kept)
        if str(arrays.pop("checksum")) == _checksum(key, arrays):
            return Outputs(arrays.get("logits"), arrays["features"], arrays.get("labels"), arrays.get("kinds"))
    except Exception:  # zipfile and NumPy raise a dozen kinds of them for damaged files
        pass
    return None


def _keep(file, key, outputs):
    arrays = {name: array for name, array in vars(outputs).items() if array is not None}
    write_whole(file, lambda stream: np.savez(stream, checksum=_checksum(key, arrays), **arrays))


def _checksum(key, arrays):
    """SHA-256 (hex) of what is kept and of what it is kept as."""
    digest = hashlib.sha256(key.encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


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
    return Outputs(made.get("logits"), made["features"], known, made.get("kinds"))


# Scores.


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """The real images that drawn ones are compared with.

    Attributes:
        outputs: of the reference images.
        num_classes: of their labels; 0 without.
        train, held_out: `Outputs` of images that the model was trained on and of some that it was not; None: no memorisation
            ratio.
        num_train: how many images the model was trained on; None: as many as `train` has.
        mode_frequencies: float [1000], of the dataset's known modes; None: they are not known.
    """

    outputs: Outputs
    num_classes: int
    train: Outputs | None = None
    held_out: Outputs | None = None
    num_train: int | None = None
    mode_frequencies: np.ndarray | None = None


def defined(functions):
    """What some functions give, and why others give nothing.

    Args:
        functions: {name: function without arguments -> float; raises a ValueError where it is not defined}.

    Returns:
        ({name: float}, {name: reason, one line}), both in the functions' order; none of the floats is NaN or infinite.
    """
    found, undefined = {}, {}
    for name, function in functions.items():
        try:
            value = float(function())
        except ValueError as error:
            undefined[name] = " ".join(str(error).split())
            continue
        if math.isfinite(value):
            found[name] = value
        else:
            undefined[name] = f"for these images it is {value}, expected a finite number."
    return found, undefined


def score(reference, fake, extractor, seed=0, codes=None):
    """Every score of `scores.SCORES` for which all that it needs is known.

    Args:
        reference: `Reference`. fake: `Outputs` of the drawn images; their labels are used where the reference has labels too.
        extractor: that of both.
        seed: of the order in which images form the score's splits and the kernel distance's blocks, whatever theirs was.
        codes: float [N, Z], means of the posteriors where the drawn images are reconstructions; else None.

    Returns:
        ({name: float}, in the order in which they are shown, {name: reason} of those that are not defined for these images, such
        as for fewer images than a score's neighbours or splits).
    """
    given = scores.Given(
        real=reference.outputs,
        fake=fake,
        num_classes=reference.num_classes,
        train=reference.train,
        held_out=reference.held_out,
        num_train=reference.num_train,
        mode_frequencies=reference.mode_frequencies,
        codes=codes,
        knows_classes=extractor.kind.knows_classes,
        same_person=extractor.kind.same_person,
        seed=seed,
    )
    possible = [one for one in scores.SCORES.values() if given.known.issuperset(one.needs)]
    return defined({one.name_of(extractor.kind, given): functools.partial(one.function, given) for one in possible})


def mode_frequencies(dataset, extractor):
    """How frequent each mode of a dataset is, float64 [1000], where they are known and the extractor tells them; else None."""
    record = datasets.record(dataset)
    # One classifier for all configurations: it tells kinds, however frequent.
    tells_them = extractor.dataset is not None and datasets.record(extractor.dataset).builder is record.builder
    return record.mode_frequencies if tells_them else None


def modes_of_held_out(reference, extractor, num_images):
    """The scores of known modes, of held-out images: what those of drawn images are to be read beside.

    Returns:
        ({name: float}, how many images they are of); ({}, 0) where modes are not known or nothing is held out.
    """
    held_out = reference.held_out
    if held_out is None or held_out.kinds is None or reference.mode_frequencies is None:
        return {}, 0
    held_out = held_out.rows(choose(len(held_out), num_images))
    given = scores.Given(reference.outputs, held_out, mode_frequencies=reference.mode_frequencies)
    of_modes = [
        one for one in scores.SCORES.values() if scores.MODES in one.needs and given.known.issuperset(one.needs)
    ]
    found, _ = defined({one.name_by(extractor.kind): functools.partial(one.function, given) for one in of_modes})
    return found, len(held_out)


def reconstruction_scores(model, compared, scored, reference, extractor, sampled=False, seed=0):
    """How well a VAE gives images back, from the means of their posteriors or from samples.

    Args:
        model: `Model` with an encoder.
        compared: (`Split`, rows int64 [n], sorted): the images of the scores that compare an image with its reconstruction, which
            are means over them; held-out ones.
        scored: the same, of the training images whose reconstructions the other scores are of.
        reference: `Reference`. extractor: that of the reference.
        sampled: decode one sample of each posterior, not its mean; `seed`: of the samples.

    Returns:
        As `score`: errors and, of means, active units, then every score of drawn images, here of reconstructions: what the
        decoder can draw, whatever the prior asks for. Only samples are a ceiling for what another prior could reach.
    """

    def reconstructed(split, rows):
        draw = np.random.default_rng(seed)
        for images, labels in batches_of(split, rows):
            mean, log_variance = model.encode(images)
            latent = likelihood.posterior_samples(mean, log_variance, draw) if sampled else mean
            yield images, model.generate(latent, labels if model.num_classes else None), mean, labels

    of_pairs = {
        one.name_by(extractor.kind): one.function for one in scores.SCORES.values() if scores.PAIRS in one.needs
    }
    values, undefined = {name: [] for name in of_pairs}, {}
    for images, drawn, _, _ in reconstructed(*compared):
        for name in [name for name in values if name not in undefined]:
            try:
                values[name].append(of_pairs[name](images, drawn))
            except ValueError as error:
                undefined[name] = str(error)
    means = []

    def drawn_only():
        for _, drawn, mean, labels in reconstructed(*scored):
            means.append(mean)
            yield drawn, labels

    title = "reconstructions from samples" if sampled else "reconstructions"
    outputs = outputs_of(drawn_only(), extractor, len(scored[1]), title)
    errors, infinite = defined(
        {
            name: lambda parts=parts: np.concatenate(parts).mean()
            for name, parts in values.items()
            if name not in undefined
        }
    )
    # Reconstructions of training images are near those by intention: no memorisation ratio.
    reference = dataclasses.replace(reference, train=None)
    found, more = score(reference, outputs, extractor, codes=None if sampled else np.concatenate(means))
    return errors | found, undefined | infinite | more


def likelihood_scores(model, train, held_out, num_samples=1, seed=0):
    """Bounds on the likelihood of held-out images, dequantised (see `scoring.likelihood`), and what they depend on.

    Args:
        model: `Model` with an encoder and `decode`.
        train: `Split`; where the model has no trained sigma, the mean squared error of posterior samples of `SIGMA_IMAGES` of it
            gives one.
        held_out: `Split`, whose first `SCORED_IMAGES` are scored.
        num_samples: K of the importance-weighted bound.
        seed: of the dequantisation of each split, and of the posteriors' samples.

    Returns:
        A plain dict for `scores.json`: `scores` and `undefined` as `score`'s, `kl_by_dimension`, a list of floats, and facts.
    """
    rows, train_rows = np.arange(min(likelihood.SCORED_IMAGES, held_out.num_images)), []
    if model.decoder_sigma is None:
        train_rows = choose(train.num_images, likelihood.SIGMA_IMAGES)
    bar = tqdm.tqdm(
        total=len(train_rows) + num_samples * len(rows), desc="likelihood", unit="image", leave=False, disable=None
    )

    def measured(function, split, rows, *arguments):
        """`function` of the dequantised images of each batch."""
        noise = np.random.default_rng(seed)
        for number, (images, labels) in enumerate(batches_of(split, rows)):

            def decode(latent, label=labels if model.num_classes else None):
                bar.update(len(latent))
                return model.decode(latent, label)

            y = likelihood.dequantise(images, noise)
            yield function(y, model.encode, decode, *arguments, seed=[seed, number])

    wanted = [one for one in scores.SCORES.values() if scores.BOUNDS in one.needs]
    wanted = [one for one in wanted if num_samples > 1 or scores.SAMPLES not in one.needs]
    sigma, origin, kl = model.decoder_sigma, "trained", []
    with bar:
        if sigma is None:
            errors = np.concatenate(list(measured(likelihood.sample_errors, train, train_rows)))
            sigma = float(np.sqrt(errors.mean()))
            origin = f"root mean squared error of posterior samples of {len(errors):,} images of {train.split}"
        try:
            parts = list(measured(likelihood.bounds, held_out, rows, sigma, num_samples))
        except ValueError as error:
            found, undefined = {}, {one.key: str(error) for one in wanted}
        else:
            bounds = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            num_values = held_out.resolution**2 * 3
            found, undefined = defined(
                {one.key: lambda one=one: one.function(bounds, num_values).mean() for one in wanted}
            )
            kl = bounds["rate_by_dimension"].mean(0).tolist()
    return {
        "of": {"split": held_out.split, "images": len(rows), "chosen": "the first"},
        "pixels": "(x + u - 1/2) / 127.5 - 1 of pixels x of 8 bits, u uniform in [0, 1)",
        "decoder_sigma": sigma,
        "decoder_sigma_is": origin,
        "labels": "given to the decoder" if model.num_classes else None,
        "num_importance_samples": num_samples,
        "seed": seed,
        "scores": found,
        "kl_by_dimension": kl,
        "undefined": undefined,
    }


def declared(extractor):
    """What a reader has to know about how the scores were made: a plain dict for `scores.json`."""
    facts = ("name", "checksum", "preparation", "resolution", "dataset", "accuracy")
    of_kind = ("side", "resizer", "antialias", "licence")
    return {
        "extractor": {"kind": extractor.kind.name}
        | {name: getattr(extractor, name) for name in facts}
        | {name: getattr(extractor.kind, name) for name in of_kind},
        "computed_by": "TF-GAN 2.1.0 (score, Fréchet and kernel distance); tfvae.scoring (the others)",
        "score_splits": scores.SPLITS,
        "precision_and_recall_neighbours": neighbours.PRECISION_BALLS[0],
        "density_and_coverage_neighbours": neighbours.DENSITY_BALLS[0],
        "mode_captured_from_share_of_fair_share": scores.CAPTURED_SHARE,
    }

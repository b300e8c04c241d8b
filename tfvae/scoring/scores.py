"""The scores, one record each: what a score is called, what it measures, what it needs and how it is computed.

To add a score, write its function and add its record to `SCORES`: `protocol.score` then computes it wherever what it needs is
known, and `tfvae.evaluate`, TensorBoard and a study's tables show it. No TensorFlow is imported here: names and titles are cheap.
"""

import collections.abc
import dataclasses
import functools
import re

import numpy as np

from tfvae.scoring import classes, distances, likelihood, modes, neighbours, reconstruction, vendi

SPLITS = 10  # of the images, for the Inception or classifier score
# A mode counts as captured from this part of its fair share of the images on: a classifier's rare mistakes are no captures.
CAPTURED_SHARE = 0.1

# What a score measures: the group in which a study's report shows it.
QUALITY = "fidelity and variety in one number"
FIDELITY, VARIETY, COPYING, RECONSTRUCTION = "fidelity", "variety", "copying", "reconstruction"
LIKELIHOOD = "likelihood"

# What a score needs beside the features of the real and of the drawn images.
LOGITS = "logits"  # of the real and of the drawn images
LABELS = "labels"  # of the real and of the drawn images
KNOWN_CLASSES = "known classes"  # logits of the classes of the dataset itself
HELD_OUT = "held-out images"  # features of training images and of real images that are not among them
PAIRS = "pairs"  # images and their reconstructions
MODES = "modes"  # kinds of object in each channel of the drawn images, and how frequent each mode is in the data
UNEQUAL_MODES = "unequal modes"  # the same, of modes that are not equally frequent
CODES = "codes"  # the means of the posteriors of reconstructed images
BOUNDS = "bounds"  # on the likelihood of images
SAMPLES = "several importance samples"  # by one the importance-weighted bound is the ELBO
PICTURES = "pictures"  # computed when a study takes its pictures, and not by `protocol.score`


@dataclasses.dataclass(frozen=True)
class Score:
    """One number that is measured of images.

    Attributes:
        key: its name in the project.
        function: `Given` -> float; raises a ValueError of one line where the score is not defined. Of a score that needs `PAIRS`:
            (images, reconstructions), uint8 [N, R, R, 3] each -> a value per image, float [N]; the score is their mean. Of one
            that needs `BOUNDS`: (what `likelihood.bounds` gives, H W C) -> the same.
        title: for people.
        better: "more", "less", or "" where neither is better.
        measures: QUALITY, FIDELITY, VARIETY, COPYING, RECONSTRUCTION, LIKELIHOOD; "": the report's tables leave it out.
        needs: of `LOGITS` and so on; it is computed where all of them are known.
        names: (with TF-GAN's Inception, with any other extractor), its name in files; empty: `key` with both. Names that papers
            gave to scores by Inception are right for that extractor alone.
        titles: the same for people; empty: `title` with both.
        of_part: how its name in files goes on where it is of `Given.train`, and that is a part of the training images; formatted
            with their number.
    """

    key: str
    function: collections.abc.Callable
    title: str
    better: str = ""
    measures: str = ""
    needs: tuple[str, ...] = ()
    names: tuple[str, str] | tuple[()] = ()
    titles: tuple[str, str] | tuple[()] = ()
    of_part: str = ""

    def name_of(self, kind, given):
        """Its name in files, by an extractor of a kind of `extractors.EXTRACTORS` and of a `Given`."""
        part = given.train is not None and given.num_train not in (None, len(given.train))
        return self.name_by(kind) + (self.of_part.format(len(given.train)) if part else "")

    def name_by(self, kind):
        """Its name in files, by an extractor of a kind of `extractors.EXTRACTORS`."""
        return self.names[0 if kind.has_papers_names else 1] if self.names else self.key

    def title_by(self, kind):
        """Its title for people, by an extractor of a kind of `extractors.EXTRACTORS`."""
        return self.titles[0 if kind.has_papers_names else 1] if self.titles else self.title


@dataclasses.dataclass(frozen=True, eq=False)
class Given:
    """What scores are computed from. What several scores take from one computation is a property, computed once.

    Attributes:
        real, fake: `protocol.Outputs` of the reference images and of the drawn ones.
        num_classes: of the labels.
        train, held_out: `protocol.Outputs` of images that the model was trained on and of some that it was not, or None.
        num_train: how many images the model was trained on; None: as many as `train` has.
        codes: float [N, Z], the posteriors' means of the images whose reconstructions `fake` are; None: `fake` are samples.
        knows_classes: the logits are of the dataset's own classes.
        mode_frequencies: float [1000], of the dataset's known modes, or None.
        seed: of the order in which images form splits and blocks.
    """

    real: object
    fake: object
    num_classes: int = 0
    train: object = None
    held_out: object = None
    num_train: int | None = None
    codes: np.ndarray | None = None
    knows_classes: bool = False
    mode_frequencies: np.ndarray | None = None
    seed: int = 0

    @property
    def known(self):
        """Which of the scores' needs are there: a set of `LOGITS` and so on."""
        both = (self.real, self.fake)
        modes_known = self.mode_frequencies is not None and self.fake.kinds is not None
        there = {
            LOGITS: all(outputs.logits is not None for outputs in both),
            LABELS: self.num_classes > 0 and all(outputs.labels is not None for outputs in both),
            KNOWN_CLASSES: self.knows_classes and all(outputs.logits is not None for outputs in both),
            HELD_OUT: self.train is not None and self.held_out is not None,
            MODES: modes_known,
            UNEQUAL_MODES: modes_known and np.ptp(self.mode_frequencies) > 0,
            CODES: self.codes is not None,
        }
        return {need for need, is_there in there.items() if is_there}

    @property
    def features(self):
        """float32 [N, D] of the real images and [M, D] of the drawn ones."""
        return self.real.features, self.fake.features

    @functools.cached_property
    def inception_score(self):
        # Drawn images may come sorted by class, and each split needs all of them.
        order = np.random.default_rng(self.seed).permutation(len(self.fake))
        return distances.inception_score(self.fake.logits[order], SPLITS)

    @functools.cached_property
    def kernel_distance(self):
        return distances.kernel_distance(*self.features, seed=self.seed)

    @functools.cached_property
    def neighbourhoods(self):
        return neighbours.Neighbourhoods(*self.features)

    @functools.cached_property
    def frechet_per_class(self):
        """Of the classes that have enough images on both sides."""
        (real, fake), (real_labels, fake_labels) = self.features, (self.real.labels, self.fake.labels)
        found = distances.frechet_distance_per_class(real, real_labels, fake, fake_labels, self.num_classes)
        found = found[np.isfinite(found)]
        if not len(found):
            raise ValueError("no class has 2 images or more on both sides.")
        return found


def kernel_standard_error(given):
    error = given.kernel_distance[1]
    if np.isnan(error):
        raise ValueError(
            f"the images fit into one block of {distances.KERNEL_BLOCK:,}: a standard error needs two or more."
        )
    return error


def coverage_slope_over_rarity(given):
    """By least squares, from the most usual tenth of the real images to the rarest one; below 0: the rare ones are left out."""
    tenths = given.neighbourhoods.coverage_by_rarity()
    return np.polyfit(np.linspace(0.0, 1.0, len(tenths)), tenths, 1)[0]


def modes_captured(given):
    modes = given.fake.logits.shape[1]
    fair_share = len(given.fake) / modes
    return classes.modes_captured(given.fake.logits, modes, max(1, round(CAPTURED_SHARE * fair_share)))


def spread_within_classes(given):
    """Of the drawn images over that of the real ones, both weighed by the drawn images' classes."""
    counts = np.bincount(given.fake.logits.argmax(axis=1))
    return classes.spread_within_classes(given.fake) / classes.spread_within_classes(given.real, counts)


def of_modes(function, *more):
    """A function of kinds of object and of the modes' frequencies, as one of `Given`."""
    return lambda given: function(given.fake.kinds, given.mode_frequencies, *more)


# {key: record}, in the order of `scores.json`.
SCORES = {
    one.key: one
    for one in (
        Score("squared_error", reconstruction.squared_error, "squared error", "less", RECONSTRUCTION, needs=(PAIRS,)),
        Score("psnr", reconstruction.psnr, "PSNR, dB", "more", RECONSTRUCTION, needs=(PAIRS,)),
        Score("ssim", reconstruction.ssim, "SSIM", "more", RECONSTRUCTION, needs=(PAIRS,)),
        Score(
            "active_units",
            lambda given: reconstruction.active_units(given.codes),
            "active units",
            measures=RECONSTRUCTION,
            needs=(CODES,),
        ),
        # What to read first where modes are known.
        Score(
            "modes_found", lambda given: modes.found(given.fake.kinds), "modes found", "more", VARIETY, needs=(MODES,)
        ),
        Score("mode_divergence", of_modes(modes.divergence), "mode divergence", "less", VARIETY, needs=(MODES,)),
        Score("mode_slope", of_modes(modes.slope), "mode slope, real = 1", "", VARIETY, (MODES, UNEQUAL_MODES)),
        Score(
            "unrecognised",
            lambda given: modes.unrecognised(given.fake.kinds),
            "share not recognised",
            "less",
            FIDELITY,
            needs=(MODES,),
        ),
        *(
            Score(
                f"{name}_divergence",
                of_modes(modes.channel_divergence, channel),
                f"divergence in the {name} channel",
                "less",
                needs=(MODES,),
            )
            for channel, name in enumerate(modes.CHANNELS)
        ),
        Score(
            "active_units_rank",
            lambda given: reconstruction.active_units_rank(given.codes),
            "active units, rank",
            measures=RECONSTRUCTION,
            needs=(CODES,),
        ),
        Score("elbo", lambda bounds, _: bounds["elbo"], "ELBO, nats", "more", needs=(BOUNDS,)),
        Score(
            "elbo_bits_per_dimension",
            lambda bounds, num_values: likelihood.bits_per_dimension(bounds["elbo"], num_values),
            "bits per dimension by the ELBO",
            "less",
            LIKELIHOOD,
            needs=(BOUNDS,),
        ),
        Score(
            "importance_weighted_bound",
            lambda bounds, _: bounds["importance_weighted"],
            "importance-weighted bound, nats",
            "more",
            needs=(BOUNDS, SAMPLES),
        ),
        Score(
            "importance_weighted_bits_per_dimension",
            lambda bounds, num_values: likelihood.bits_per_dimension(bounds["importance_weighted"], num_values),
            "bits per dimension by the importance-weighted bound",
            "less",
            LIKELIHOOD,
            needs=(BOUNDS, SAMPLES),
        ),
        Score("rate", lambda bounds, _: bounds["rate"], "rate, nats", measures=LIKELIHOOD, needs=(BOUNDS,)),
        Score("distortion", lambda bounds, _: bounds["distortion"], "distortion, nats", needs=(BOUNDS,)),
        Score(
            "score",
            lambda given: given.inception_score[0],
            "score",
            "more",
            QUALITY,
            needs=(LOGITS,),
            names=("inception_score", "classifier_score"),
            titles=("Inception score", "classifier score"),
        ),
        Score(
            "score_std_over_splits",
            lambda given: given.inception_score[1],
            "standard deviation of the score over splits of the images",
            needs=(LOGITS,),
            names=("inception_score_std_over_splits", "classifier_score_std_over_splits"),
        ),
        Score(
            "frechet",
            lambda given: distances.frechet_distance(*given.features),
            "Fréchet distance",
            "less",
            QUALITY,
            names=("frechet_inception_distance", "frechet_classifier_distance"),
            titles=("Fréchet Inception distance", "Fréchet classifier distance"),
        ),
        Score(
            "kernel",
            lambda given: given.kernel_distance[0],
            "kernel distance",
            "less",
            QUALITY,
            names=("kernel_inception_distance", "kernel_classifier_distance"),
            titles=("kernel Inception distance", "kernel classifier distance"),
        ),
        Score(
            "kernel_standard_error",
            kernel_standard_error,
            "standard error of the kernel distance",
            names=("kernel_inception_distance_standard_error", "kernel_classifier_distance_standard_error"),
        ),
        Score("precision", lambda given: given.neighbourhoods.precision_recall()[0], "precision", "more", FIDELITY),
        Score("recall", lambda given: given.neighbourhoods.precision_recall()[1], "recall", "more", VARIETY),
        Score("density", lambda given: given.neighbourhoods.density_coverage()[0], "density", "more", FIDELITY),
        Score("coverage", lambda given: given.neighbourhoods.density_coverage()[1], "coverage", "more", VARIETY),
        Score(
            "symmetric_precision",
            lambda given: given.neighbourhoods.symmetric_precision_recall()[0],
            "symmetric precision",
            "more",
            FIDELITY,
        ),
        Score(
            "symmetric_recall",
            lambda given: given.neighbourhoods.symmetric_precision_recall()[1],
            "symmetric recall",
            "more",
            VARIETY,
        ),
        Score(
            "coverage_slope_over_rarity", coverage_slope_over_rarity, "slope of coverage over rarity", measures=VARIETY
        ),
        *(
            Score(
                f"coverage_of_rarity_tenth_{i + 1}",
                lambda given, i=i: given.neighbourhoods.coverage_by_rarity()[i],
                f"coverage of the {i + 1}. tenth of the real images by rarity",
                "more",
            )
            for i in range(neighbours.TENTHS)
        ),
        Score("vendi", lambda given: vendi.vendi_score(given.fake.features), "Vendi score", "more", VARIETY),
        Score(
            "class_entropy",
            lambda given: classes.class_entropy(given.fake.logits),
            "class entropy",
            "more",
            VARIETY,
            needs=(LOGITS,),
        ),
        Score(
            "class_divergence",
            lambda given: classes.class_divergence(given.fake.logits, given.real.logits),
            "class divergence",
            "less",
            VARIETY,
            needs=(LOGITS,),
        ),
        Score(
            "frechet_within_class",
            lambda given: given.frechet_per_class.mean(),
            "Fréchet distance within a class",
            "less",
            VARIETY,
            needs=(LABELS,),
        ),
        Score(
            "frechet_within_worst_class",
            lambda given: given.frechet_per_class.max(),
            "Fréchet distance within the worst class",
            "less",
            needs=(LABELS,),
        ),
        Score(
            "spread_within_classes",
            spread_within_classes,
            "spread within a class, real = 1",
            measures=VARIETY,
            needs=(LOGITS, PICTURES),
        ),
        Score("modes_captured", modes_captured, "modes captured", "more", VARIETY, needs=(KNOWN_CLASSES,)),
        Score(
            "memorisation_ratio",
            lambda given: neighbours.memorisation_ratio(
                given.train.features, given.held_out.features, given.fake.features
            ),
            "memorisation ratio",
            measures=COPYING,
            needs=(HELD_OUT,),
            of_part="_of_{}_training_images",
        ),
    )
}


def measuring(*groups):
    """The scores that measure QUALITY, FIDELITY and so on: a list of `Score`, one group after the other."""
    return [one for group in groups for one in SCORES.values() if one.measures == group]


def names_of(key):
    """The names that a score may have in a file, a tuple: its record's, or `key` itself where there is no such record."""
    return (SCORES[key].names if key in SCORES else ()) or (key,)


def find(name):
    """The `Score` that has a name in files, or None."""
    for key, one in SCORES.items():
        before, number, after = one.of_part.partition("{}")
        of_part = number and re.fullmatch(rf"{re.escape(key + before)}\d+{re.escape(after)}", name)
        if of_part or name in names_of(key):
            return one
    return None

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
# A mode counts as captured if it has at least this part of its fair share of the images: a classifier's rare mistakes do not.
CAPTURED_SHARE = 0.1

# What a score measures; a study's report shows the scores in these groups.
QUALITY = "fidelity and variety in one number"
FIDELITY, VARIETY, COPYING, RECONSTRUCTION = "fidelity", "variety", "copying", "reconstruction"
LIKELIHOOD = "likelihood"

# What a score needs beside the features of the real and of the drawn images.
LOGITS = "logits"  # of the real and of the drawn images
LABELS = "labels"  # of the real and of the drawn images
KNOWN_CLASSES = "known classes"  # logits of the classes of the dataset itself
PEOPLE = "people"  # features that tell people apart
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
            gave to scores by Inception are right for that extractor alone. In the second one {name} is the extractor's, and {by}
            is "_by_" and that, or nothing where its `Kind.has_short_names`.
        titles: the same for people, {name} being the title of the extractor's kind; empty: `title` with both.
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
        by_inception, by_other = self.names or (self.key, self.key)
        by = "" if kind.has_short_names else f"_by_{kind.name}"
        return by_inception if kind.has_papers_names else by_other.format(name=kind.name, by=by)

    def title_by(self, kind):
        """Its title for people, by an extractor of a kind of `extractors.EXTRACTORS`."""
        by_inception, by_other = self.titles or (self.title, self.title)
        return by_inception if kind.has_papers_names else by_other.format(name=kind.title)

    def has_name(self, name, of_part=False):
        """Whether it may have that name in files, by any extractor. of_part: also of a part of the training images."""
        by_inception, by_other = self.names or (self.key, self.key)
        other = re.escape(by_other).replace(r"\{name\}", r"\w+").replace(r"\{by\}", r"(_by_\w+?)?")
        part = re.search(r"\d+".join(map(re.escape, self.of_part.split("{}"))) + "$", name) if self.of_part else None
        if part and not of_part:
            return False
        whole = name[: part.start()] if part else name
        return re.fullmatch(f"{re.escape(by_inception)}|{other}", whole) is not None


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
        same_person: distance of features below which two pictures are of one person; None: unknown.
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
    same_person: float | None = None
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
            PEOPLE: self.same_person is not None,
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

    @property
    def symmetric(self):
        return self.neighbourhoods.symmetric_precision_recall()

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


def coverage_slope(given):
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
            names=("inception_score", "{name}_score"),
            titles=("Inception score", "{name} score"),
        ),
        Score(
            "score_std_over_splits",
            lambda given: given.inception_score[1],
            "standard deviation of the score over splits of the images",
            needs=(LOGITS,),
            names=("inception_score_std_over_splits", "{name}_score_std_over_splits"),
        ),
        Score(
            "frechet",
            lambda given: distances.frechet_distance(*given.features),
            "Fréchet distance",
            "less",
            QUALITY,
            names=("frechet_inception_distance", "frechet_{name}_distance"),
            titles=("Fréchet Inception distance", "Fréchet {name} distance"),
        ),
        Score(
            "kernel",
            lambda given: given.kernel_distance[0],
            "kernel distance",
            "less",
            QUALITY,
            names=("kernel_inception_distance", "kernel_{name}_distance"),
            titles=("kernel Inception distance", "kernel {name} distance"),
        ),
        Score(
            "kernel_standard_error",
            kernel_standard_error,
            "standard error of the kernel distance",
            names=("kernel_inception_distance_standard_error", "kernel_{name}_distance_standard_error"),
        ),
        *(
            Score(key, function, title, better, measures, names=(key, key + "{by}"))
            for key, function, title, better, measures in (
                ("precision", lambda given: given.neighbourhoods.precision_recall()[0], "precision", "more", FIDELITY),
                ("recall", lambda given: given.neighbourhoods.precision_recall()[1], "recall", "more", VARIETY),
                ("density", lambda given: given.neighbourhoods.density_coverage()[0], "density", "more", FIDELITY),
                ("coverage", lambda given: given.neighbourhoods.density_coverage()[1], "coverage", "more", VARIETY),
                ("symmetric_precision", lambda given: given.symmetric[0], "symmetric precision", "more", FIDELITY),
                ("symmetric_recall", lambda given: given.symmetric[1], "symmetric recall", "more", VARIETY),
                ("coverage_slope_over_rarity", coverage_slope, "slope of coverage over rarity", "", VARIETY),
                *(
                    (
                        f"coverage_of_rarity_tenth_{i + 1}",
                        lambda given, i=i: given.neighbourhoods.coverage_by_rarity()[i],
                        f"coverage of the {i + 1}. tenth of the real images by rarity",
                        "more",
                        "",
                    )
                    for i in range(neighbours.TENTHS)
                ),
                ("vendi", lambda given: vendi.vendi_score(given.fake.features), "Vendi score", "more", VARIETY),
            )
        ),
        Score(
            "class_entropy",
            lambda given: classes.class_entropy(given.fake.logits),
            "class entropy",
            "more",
            VARIETY,
            needs=(KNOWN_CLASSES,),
        ),
        Score(
            "class_divergence",
            lambda given: classes.class_divergence(given.fake.logits, given.real.logits),
            "class divergence",
            "less",
            VARIETY,
            needs=(KNOWN_CLASSES,),
        ),
        Score(
            "frechet_within_class",
            lambda given: given.frechet_per_class.mean(),
            "Fréchet distance within a class",
            "less",
            VARIETY,
            needs=(LABELS,),
            names=("frechet_within_class", "frechet_within_class{by}"),
        ),
        Score(
            "frechet_within_worst_class",
            lambda given: given.frechet_per_class.max(),
            "Fréchet distance within the worst class",
            "less",
            needs=(LABELS,),
            names=("frechet_within_worst_class", "frechet_within_worst_class{by}"),
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
            "pairs_of_one_person",
            lambda given: neighbours.share_of_near_pairs(given.fake.features, given.same_person),
            "pairs of one person",
            "less",
            VARIETY,
            needs=(PEOPLE,),
            names=("pairs_of_one_person", "pairs_of_one_person{by}"),
        ),
        Score(
            "memorisation_ratio",
            lambda given: neighbours.memorisation_ratio(
                given.train.features, given.held_out.features, given.fake.features
            ),
            "memorisation ratio",
            measures=COPYING,
            needs=(HELD_OUT,),
            names=("memorisation_ratio", "memorisation_ratio{by}"),
            of_part="_of_{}_training_images",
        ),
    )
}


def measuring(*groups):
    """The scores that measure QUALITY, FIDELITY and so on: a list of `Score`, one group after the other."""
    return [one for group in groups for one in SCORES.values() if one.measures == group]


def value_of(values, key):
    """What a dict by names in files holds of the score `key`, by whatever extractor, or None."""
    has_name = SCORES[key].has_name if key in SCORES else key.__eq__
    return next((value for name, value in values.items() if has_name(name)), None)


def find(name):
    """The `Score` that has a name in files, or None."""
    return next((one for one in SCORES.values() if one.has_name(name, of_part=True)), None)

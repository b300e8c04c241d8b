"""What a study's numbers say about the paper's statements: rules over the rows, so that the same numbers give the same words."""

import dataclasses
import math

from tfvae.scoring.scores import PAIRS, SCORES
from tfvae.studies.plan import shown
from tfvae.training import build

SPREADS = 3.0  # standard deviations, over sets of drawn images: a smaller difference does not count
UNSEEN = 0.02  # the same for numbers without a spread, as a part of the larger one
# Recall and coverage fall by blur alone, and recall grows when drawn images lie far from the data and from each other, for their
# balls are then wide. A calibration says from where on (`calibration.blur_limits`); without one, precision says it of recall.
WEAK_PRECISION = 0.1
BLURRED = "not counted: the kernel distance is one at which blur alone takes half of it"
DECEIVED = f"not counted: precision below {WEAK_PRECISION:g}"

HOLDS, PARTLY, FAILS, OPEN = "holds", "holds in part", "does not hold", "not decided"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One number of two rows.

    Attributes:
        measure: what is compared. names: of the two rows. first, second: (mean, spread or None), or None.
        agrees: with the statement; None where the difference is too small to tell or a number is missing.
        why_not: where it is None, why.
    """

    measure: str
    names: tuple[str, str]
    first: tuple | None
    second: tuple | None
    agrees: bool | None
    why_not: str

    @property
    def has_numbers(self):
        """Whether both numbers are there."""
        return self.first is not None and self.second is not None


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A statement and what the numbers say about it.

    Attributes:
        statement: as the paper has it. verdict: one of the words above. groups: {pair of rows: its comparisons}.
    """

    statement: str
    verdict: str
    groups: dict

    @property
    def missing(self):
        """The pairs of rows for which no number can be compared."""
        return [pair for pair, made in self.groups.items() if _no_numbers(made)]


def compare(name, first, second, first_is_larger, words):
    """A `Comparison` of one measure of two rows (None: there is no such row). words: what to call the two.

    first_is_larger: what the statement says.
    """
    title = SCORES[name].title + (" of reconstructions of held-out images" if _of_pairs(name) else "")
    a, b = (_value(row, name) for row in (first, second))
    missing = [word for word, value in zip(words, (a, b)) if value is None]
    if missing:
        return Comparison(title, words, a, b, None, f"no number of {' and '.join(missing)}")
    for why in filter(None, (why_not_counted(row, name) for row in (first, second))):
        return Comparison(title, words, a, b, None, why)
    difference = a[0] - b[0]
    if a[1] is not None and b[1] is not None:
        limit, why = SPREADS * math.hypot(a[1], b[1]), f"within {SPREADS:g} standard deviations"
    else:
        limit, why = UNSEEN * max(abs(a[0]), abs(b[0])), f"within {UNSEEN:.0%}, without a spread"
    if abs(difference) <= limit:
        return Comparison(title, words, a, b, None, why)
    return Comparison(title, words, a, b, (difference > 0) == first_is_larger, "")


def why_not_counted(row, name):
    """Why a row's recall or coverage says nothing about its variety: `BLURRED` or `DECEIVED`; None where it does."""
    limit, distance = row.limits.get(name), row.value("kernel")
    if limit is not None and distance is not None:
        return BLURRED if distance[0] > limit else None
    return DECEIVED if name == "recall" and (row.value("precision") or (1.0,))[0] < WEAK_PRECISION else None


def _value(row, name):
    if row is None:
        return None
    if _of_pairs(name):
        value = row.reconstruction(name)
        return None if value is None else (value, None)
    return row.value(name)


def _of_pairs(name):
    return PAIRS in SCORES[name].needs


def _better(name):
    return SCORES[name].better == "more"


def _no_numbers(comparisons):
    return not any(made.has_numbers for made in comparisons)


def judge(statement, groups):
    """The `Verdict` of groups of comparisons, {pair of rows: [Comparison]}: a pair agrees where all of its numbers do.

    Pairs without numbers are left out. A difference that is too small to tell leaves the statement open, unless others refute
    a part of it.
    """
    known = []
    for comparisons in groups.values():
        marks = {made.agrees for made in comparisons if made.why_not not in (BLURRED, DECEIVED)}
        if not _no_numbers(comparisons):
            known.append(PARTLY if {True, False} <= marks else marks.pop() if len(marks) == 1 else None)
    if PARTLY in known or {True, False} <= set(known):
        verdict = PARTLY
    elif not known or None in known:
        verdict = OPEN
    else:
        verdict = HOLDS if all(known) else FAILS
    return Verdict(statement, verdict, groups)


def matching(rows, **wanted):
    """The rows with the normal prior whose settings are `wanted`."""
    return [
        row
        for row in rows
        if row.prior == "normal" and all(getattr(row.experiment.settings, k) == v for k, v in wanted.items())
    ]


def pick(rows, **wanted):
    """The first of the `matching` rows, or None."""
    return next(iter(matching(rows, **wanted)), None)


ARCHITECTURES = {"biggan": "BigGAN", "biggan_deep": "BigGAN-deep"}


def _gan_and_vae(rows, dataset):
    """{networks in words: (row of the GAN, row of the VAE)}; without pairs of which the study has neither.

    GANs with several losses make a pair each, for the answer may depend on which one is meant.
    """
    pairs = {}
    for name, words in ARCHITECTURES.items():
        of_networks = matching(rows, dataset=dataset, architecture=name)
        vae = pick(of_networks, objective="vae")
        by_loss = {row.experiment.settings.loss: row for row in reversed(matching(of_networks, objective="gan"))}
        if len(by_loss) > 1:
            pairs |= {f"{words}, {loss} loss": (row, vae) for loss, row in reversed(by_loss.items())}
        elif by_loss or vae:
            pairs[words] = (next(iter(by_loss.values()), None), vae)
    return pairs


def _variety(pair, names=("recall", "coverage")):
    return [compare(name, *pair, True, ("the GAN", "the VAE")) for name in names]


def _in_use(made, larger, smaller):
    """A `Comparison` of two latents, undecided where the larger one's posterior means have no larger rank: it is one by name."""
    if not made.has_numbers:
        return made
    ranks = [row.reconstruction("active_units_rank") for row in (larger, smaller)]
    if None not in ranks and ranks[0] > ranks[1]:
        return made
    known = f"{ranks[0]:g}, of {made.names[1]} {ranks[1]:g}" if None not in ranks else "unknown"
    return dataclasses.replace(made, agrees=None, why_not=f"not counted: the posterior means' rank is {known}")


def four_claims(main, latent):
    """The paper's four claims, as `Verdict`s.

    Args:
        main: `results.Row`s of the paper's eight models. latent: of its VAEs with latents of several sizes.
    """
    cifar10, lfw = _gan_and_vae(main, "cifar10"), _gan_and_vae(main, "lfw")
    verdicts = [
        judge(
            "On CIFAR-10 the GAN is more varied than the VAE (GAN above VAE in recall and in coverage).",
            {f"CIFAR-10, {words}": _variety(pair) for words, pair in cifar10.items()},
        ),
        judge(
            "On LFW the VAE has the better FID and yet is less varied (VAE below GAN in Fréchet distance, in recall and in "
            "coverage).",
            {
                f"LFW, {words}": [compare("frechet", *pair, True, ("the GAN", "the VAE")), *_variety(pair)]
                for words, pair in lfw.items()
            },
        ),
    ]
    deep = {}
    for dataset in ("cifar10", "lfw"):
        for objective in ("gan", "vae"):
            pair = [pick(main, dataset=dataset, objective=objective, architecture=name) for name in ARCHITECTURES]
            if not any(pair):
                continue
            # The deep one is the second: the statement says that the first has the larger distance.
            deep[f"{shown(dataset)}, {objective.upper()}"] = [
                compare("frechet", *pair, True, tuple(ARCHITECTURES.values()))
            ]
    verdicts.append(judge("BigGAN-deep is better than BigGAN (lower Fréchet distance, each at its own setting).", deep))
    by_size = {row.experiment.settings.latent_dim: row for row in reversed(latent) if row.prior == "normal"}
    sizes = sorted(by_size)
    groups = {}
    for small, large in zip(sizes, sizes[1:]):
        pair, words = (by_size[large], by_size[small]), (f"latent {large}", f"latent {small}")
        made = [compare(name, *pair, _better(name), words) for name in ("squared_error", "score")]
        groups[f"LFW, VAE, latent {large} against {small}"] = [_in_use(one, *pair) for one in made]
    statement = (
        "A larger latent is better for the VAE (on LFW, from 128 to 256 to 512: lower reconstruction error of held-out images, "
        "higher score of samples)."
    )
    return [*verdicts, judge(statement, groups)]


def title(main, best, modes):
    """The `Verdict` on the paper's title: in every pair of the same networks the VAE is the less varied one.

    Args:
        main: rows of the paper's models. best: of the best known recipes. modes: of its recipes on data whose modes are counted.
    """
    groups = {}
    for rows, datasets, recipe in ((main, ("cifar10", "lfw"), ""), (best, ("cifar10", "lfw"), ", best recipes")):
        for dataset in datasets:
            pairs = _gan_and_vae(rows, dataset)
            groups |= {f"{shown(dataset)}, {words}{recipe}": _variety(pair) for words, pair in pairs.items()}
    counted = ("recall", "coverage", "modes_captured")
    for words, pair in _gan_and_vae(modes, "shapes").items():
        groups[f"{shown('shapes')}, {words}"] = _variety(pair, counted)
    return judge(
        "Variational autoencoders are not very varied (VAE below GAN in recall and in coverage, on shapes also in modes "
        "captured, everywhere).",
        groups,
    )


# What else the paper says, of variations of a row: (table, statement, function of (base, varied) -> comparisons or None).


def _against(names, varied_is_better):
    def comparisons(base, varied):
        return [compare(n, varied, base, _better(n) == varied_is_better, (varied.label, base.label)) for n in names]

    return comparisons


def _blocks(base, varied):
    # A row that names no number has its architecture's own.
    numbers = [
        settings.blocks_per_stage or build.NETWORKS[settings.architecture].Generator.default_blocks_per_stage
        for settings in (base.experiment.settings, varied.experiment.settings)
    ]
    return _against(["frechet"], numbers[1] > numbers[0])(base, varied)


def _rate(name):
    def comparisons(base, varied):
        if getattr(varied.experiment.settings, name) == getattr(base.experiment.settings, name):
            return None
        chosen = ["frechet"] if name == "discriminator_learning_rate" else ["recall", "coverage"]
        return _against(chosen, False)(base, varied)

    return comparisons


FURTHER = (
    ("blocks", "More residual blocks help (lower Fréchet distance).", _blocks),
    (
        "optimizer",
        "Adam converges faster than SGD, for all models (SGD: higher Fréchet distance).",
        _against(["frechet"], False),
    ),
    (
        "rates",
        "A discriminator's learning rate × 10 slows convergence (higher Fréchet distance).",
        _rate("discriminator_learning_rate"),
    ),
    (
        "rates",
        "A generator's learning rate × 10 makes the GAN collapse (less recall and coverage).",
        _rate("generator_learning_rate"),
    ),
    ("activation", "Leaky ReLU hurts, everywhere (higher Fréchet distance than ReLU).", _against(["frechet"], False)),
)


def bases(rows):
    """{row: the row that it varies}: the first of its table with the same dataset, objective and architecture."""
    found, first = {}, {}
    for row in rows:
        settings = row.experiment.settings
        key = (settings.dataset, settings.objective, settings.architecture, row.prior)
        base = first.setdefault(key, row)
        if base is not row:
            found[row] = base
    return found


def further(tables):
    """`Verdict`s of what else the paper says. tables: {table: rows}."""
    verdicts = []
    for table, statement, comparisons in FURTHER:
        groups = {}
        for row, base in bases(tables.get(table, [])).items():
            made = comparisons(base, row)
            if made:
                groups[f"{shown(row.experiment.dataset)}: {row.label} against {base.label}"] = made
        if groups:
            verdicts.append(judge(statement, groups))
    return verdicts

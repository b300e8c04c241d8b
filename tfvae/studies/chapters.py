"""What the report says: one Markdown text, with the figures that it shows drawn into a folder."""

import importlib.metadata

import numpy as np

from tfvae.data import datasets
from tfvae.scoring.scores import SCORES
from tfvae.studies import figures, plan, reading, tables, tasks

TITLE = "# GAN or VAE: the paper's experiments, measured"  # a report is known by it
TABLES = {
    "main": (
        "The paper's eight models",
        "GAN or VAE, BigGAN or BigGAN-deep, CIFAR-10 or Labeled Faces in the Wild. Published: the paper's two tables, protocol "
        "unknown; its scores are not on the standard scale, so no number of one column can be set against one of the other. An "
        "epoch here is as many images as the dataset has in the discriminator or encoder; the paper's GANs see them twice in an "
        "epoch of theirs.",
    ),
    "best": (
        "The best known recipes",
        "The same networks with hinge loss, spectral norm, five discriminator steps and DiffAugment (GAN), with the optimal "
        "decoder variance (VAE), and labels where there are any.",
    ),
    "blocks": (
        "More or fewer residual blocks",
        "The paper: more residual blocks solely help, given enough training time.",
    ),
    "architectures": (
        "BigGAN against BigGAN-deep at equal images seen",
        "The paper: BigGAN-deep is generally better, and has fewer parameters at equal width.",
    ),
    "latent": (
        "Latents of 128, 256 and 512",
        "The paper, VAE on LFW: a larger latent improves both validation reconstruction and Inception Score.",
    ),
    "optimizer": ("Adam against SGD", "The paper: Adam caused much quicker convergence, for all models and datasets."),
    "rates": (
        "Learning rates × 10",
        "The paper: discriminator × 10 outpaces the generator and vastly slows convergence; generator × 10 collapses the modes. "
        "A collapse shows as recall, coverage, class entropy or modes that fall along the training.",
    ),
    "activation": (
        "ReLU against leaky ReLU",
        "The paper: leaky ReLU unexpectedly hurt performance under all circumstances.",
    ),
    "modes": (
        "The same recipes on shapes, where modes are counted",
        "80 modes, 10 shapes × 8 hues, all equally frequent: a mode counts from a tenth of its fair share of the images.",
    ),
}
SHOWN_TABLES = ("main", "best", "modes")
CURVES = ("frechet", "precision", "recall", "coverage")  # of `scores.SCORES`
# Where a model collapses, these show it.
COLLAPSE_CURVES = (*CURVES, "class_entropy", "modes_captured")


def write(study, found, command, notes, folder):
    """The report's Markdown; its figures are drawn into `folder`. Arguments: as `report.write`'s."""
    by_table = {name: found.of(experiments) for name, experiments in study.tables.items()}
    parts = [introduction(study, found, notes), reading.verdicts(study, found, by_table), reading.doubts(study, found)]
    parts.append(fidelity_and_variety(study, found, folder))
    shown = set()
    for name, rows in by_table.items():
        parts.append(table(study, found, name, rows, shown, folder))
        shown |= {row.experiment.folder for row in rows}
    parts += [pictures(study, found, by_table, folder), method(study, found, command)]
    return "\n\n".join(part for part in parts if part) + "\n"


def introduction(study, found, notes):
    filled = sum(row.scores is not None for row in found.rows)
    lines = [
        TITLE,
        "The same two networks trained as a GAN (generator and discriminator) or as a VAE (decoder and encoder), on the same "
        "images, scored by one protocol for all models of a dataset. *Published* columns are what the paper or its source says, "
        "by protocols that are unknown or other than this one; *measured* columns are this study's own.",
        scale_rule(study),
        f"{filled} of {len(found.rows)} rows are filled; the others say why they are empty.",
        *notes,
    ]
    return "\n\n".join(lines)


def scale_rule(study):
    if study.scale == "full":
        return "Scale: full, every experiment as its flagfile says."
    seen = {}
    for one in study.experiments:
        seen.setdefault(one.dataset, set()).add(one.total_images)
    numbers = "; ".join(f"{plan.shown(d)} {' or '.join(f'{n:,}' for n in sorted(ns))}" for d, ns in seen.items())
    return (
        f"Scale: cpu, cut by one rule for GAN and VAE alike. Widths (ch) are divided by {plan.WIDTH_DIVISOR} and rounded to "
        f"multiples of {plan.WIDTH_MULTIPLE}, batches divided by {plan.BATCH_DIVISOR} but not below {plan.LEAST_BATCH}, and "
        f"every experiment of a dataset sees the same number of real images: {numbers}. Learning rates, losses, regularisers, "
        "latents and averages stay as the paper's or the recipe's."
    )


# Tables and figures.


def fidelity_and_variety(study, found, folder):
    datasets = {}
    for dataset in study.datasets:
        rows = [row for row in found.rows if row.experiment.dataset == dataset and row.scores]
        # One point for a run that has several names.
        runs = {}
        for row in rows:
            runs.setdefault((row.experiment.folder, row.prior), row)
        points = [
            ({tasks.HELD_OUT: "other real images", tasks.NOISE: "noise"}[kind], _values(scores))
            for kind, scores in found.calibrations.get(dataset, {}).items()
        ]
        datasets[plan.shown(dataset)] = (
            [(row.label, row.experiment.settings.objective, _values(row.scores)) for row in runs.values()],
            points,
        )
    if not figures.fidelity_and_variety(folder / "fidelity_and_variety.png", datasets):
        return ""
    return (
        "## Fidelity against variety\n\n"
        "![Every model by precision against recall and by density against coverage](fidelity_and_variety.png)\n\n"
        f"Symbols: {figures.legend((row.experiment.settings.objective for row in found.rows), 'markers')}; star: real "
        "images other than the reference's; cross: noise. Up is more varied, right "
        "more like the data. Recall and precision are misled by images far from the data, density and coverage less."
    )


def _values(scores):
    return {name: value["mean"] for name, value in scores["scores"].items() if value["mean"] is not None}


def table(study, found, name, rows, shown, folder):
    """The chapter of one table.

    Args:
        rows: `results.Row`s of the table. shown: folders of the runs that earlier chapters show: where a dataset has no other run
            here, only its scores are shown again.
    """
    heading, question = TABLES.get(name, (name, ""))
    parts = [f"## {heading}", question]
    for dataset in dict.fromkeys(row.experiment.dataset for row in rows):
        some = [row for row in rows if row.experiment.dataset == dataset]
        calibrations = found.calibrations.get(dataset, {})
        parts += [f"### {plan.shown(dataset)}", caption(study, some, calibrations)]
        parts.append(tables.scores(study, some, calibrations))
        there = {row.experiment.folder for row in some if row.curve or row.scores}
        if not there - shown:
            parts.append(
                "The tables above show the settings and costs of all of these that were trained." if there else ""
            )
            continue
        if any(row.scores for row in some):
            parts += ["Fidelity and variety, measured:", tables.variety(some, calibrations)]
        reconstructions = tables.reconstructions(some)
        if reconstructions:
            parts += [reconstructed(some), reconstructions]
        parts += ["How they were trained:", tables.settings(study, some), "What it cost:", tables.cost(some)]
        parts += [curves(some, name, dataset, folder), unselected(some, name, dataset, folder)]
    return "\n\n".join(part for part in parts if part)


def curves(rows, name, dataset, folder):
    lines = [(row.label, row.experiment.settings.objective, row.scored_curve) for row in rows if row.prior == "normal"]
    panels = COLLAPSE_CURVES if name == "rates" else CURVES
    known = {key for _, _, points in lines for point in points for key in point}
    file = folder / f"curves_{name}_{datasets.record(dataset).slug}.png"
    if not figures.curves(file, lines, {key: SCORES[key].title for key in panels if key in known}):
        return ""
    return (
        f"![Learning curves against images seen, {plan.shown(dataset)}]({file.name})\n\nScores of a small sample along the "
        f"training, against images seen. Lines: {figures.legend((objective for _, objective, _ in lines), 'lines')}."
    )


def unselected(rows, name, dataset, folder):
    text = (
        f"Unselected samples, {plan.shown(dataset)}: the first twelve latents of one seed, the same for all models (and the "
        "same class in each column where models have classes)."
    )
    return strip(rows, "unselected", folder / f"unselected_{name}_{datasets.record(dataset).slug}.jpg", text)


def caption(study, rows, calibrations):
    """What the measured numbers of a table depend on."""
    known = next((s for s in [*(row.scores for row in rows), *calibrations.values()] if s), None)
    if known is None:
        return "Nothing is scored yet."
    extractor, reference = known["protocol"]["extractor"], known["reference"]
    accuracy = f", {extractor['accuracy']:.1%} right on held-out images" if extractor["accuracy"] is not None else ""
    seeds = known["seeds"]
    spread = (
        f"mean ± standard deviation over {study.num_seeds} sets of drawn images"
        if study.num_seeds > 1
        else "one set of drawn images"
    )
    weights = {row.scores["source"]["weights"] for row in rows if row.scores}
    judge = known.get("classes_by")
    of_classes = f" Of classes and modes: by {judge['name']} (SHA-256 {judge['checksum'][:12]})." if judge else ""
    return (
        f"*Measured:* {known['num_images']:,} drawn images against {reference['images']:,} of {reference['dataset']} "
        f"{reference['split']}, by {extractor['name']} (SHA-256 {extractor['checksum'][:12]}{accuracy}; images: "
        f"{extractor['preparation']}); {spread} (seeds from {seeds[0]} on), one training each"
        + (f"; weights {', or '.join(sorted(weights))}" if weights else "")
        + f". Neighbours: {known['protocol']['precision_and_recall_neighbours']} for precision and recall, "
        f"{known['protocol']['density_and_coverage_neighbours']} for density and coverage." + of_classes
    )


def reconstructed(rows):
    """Of which images the table of reconstructions is."""
    known = next(row.scores["reconstruction"] for row in rows if row.scores and "reconstruction" in row.scores)
    errors, scores = known["errors_of"], known["scores_of"]
    also = ", some of them in the reference" if scores["also_in_the_reference"] else " that are not in the reference"
    return (
        "Reconstructions from the posterior's mean and, where it says so, from a sample of the posterior. Errors: of "
        f"{errors['images']:,} images of {errors['split']}; active units and distance: of {scores['images']:,} training "
        f"images{also}:"
    )


def strip(rows, name, file, text):
    """`figure` of one array of the rows' exhibits; "" where no row has it."""
    some = [(row.label, row.exhibits[name]) for row in rows if row.prior == "normal" and name in row.exhibits]
    return figure(some, file, text) if some else ""


def figure(lines, file, text):
    """Draws rows of pictures; the Markdown that shows them, with their text."""
    figures.strips(file, lines)
    return f"![{text.split(':')[0]}]({file.name})\n\n{text}"


def pictures(study, found, by_table, folder):
    """Best samples, neighbours, interpolations and reconstructions of the models of `SHOWN_TABLES`."""
    wanted = set(SHOWN_TABLES) & set(by_table) or set(by_table)
    parts = []
    for dataset in study.datasets:
        rows = [
            row
            for row in found.rows
            if row.experiment.dataset == dataset
            and row.prior == "normal"
            and row.exhibits
            and set(row.experiment.tables) & wanted
        ]
        if rows:
            stem = datasets.record(dataset).slug
            parts += [f"### Pictures: {plan.shown(dataset)}", *pictures_of(rows, stem, folder)]
    return "\n\n".join(["## Pictures", *parts]) if parts else ""


def pictures_of(rows, stem, folder):
    """The figures of one dataset's rows, each with its text."""
    text = (
        f"Best samples: the twelve of {rows[0].facts['drawn']:,} drawn ones with the highest realism score (Kynkäänniemi et al., "
        "2019), best first. Selected by the extractor, not by eye."
    )
    parts = [strip(rows, "best", folder / f"best_{stem}.jpg", text)]
    pairs, paths = [], []
    for row in rows:
        pairs += [(row.label, row.exhibits["best"]), ("nearest training image", row.exhibits["best_neighbours"])]
        first, second = np.split(row.exhibits["interpolations"], 2)
        paths += [(row.label, first), ("", second)]
    text = (
        "Nearest training images: the best samples above the training images that are nearest in the extractor's features. A "
        "copy would show."
    )
    parts.append(figure(pairs, folder / f"neighbours_{stem}.jpg", text))
    text = (
        "Interpolations: two paths between latents of one seed, the same for all models, spherical, within one class where there "
        "are classes."
    )
    parts.append(figure(paths, folder / f"interpolations_{stem}.jpg", text))
    vaes = [row for row in rows if "reconstructed" in row.exhibits]
    if vaes:
        # Files of earlier versions do not say which images these are.
        split = str(vaes[0].exhibits.get("real_split", ""))
        real = {"": "real images", "train": "training images"}.get(split, "held-out images")
        lines = [(real, vaes[0].exhibits["real"])]
        lines += [(row.label, row.exhibits["reconstructed"]) for row in vaes]
        text = f"Reconstructions: {real}, and what each VAE makes of them from the posterior's mean."
        parts.append(figure(lines, folder / f"reconstructions_{stem}.jpg", text))
    return parts


def method(study, found, command):
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("tensorflow", "keras", "numpy"))
    lines = [
        "## How it was made",
        f"`{command}`",
        f"With {versions}. Each row again by itself: `python -m tfvae.train` with these flags, and `--model_dir`:",
        "\n".join(f"- {one.name}: `{' '.join(one.arguments)}`" for one in study.experiments),
        "Spread within a class: root of the mean squared distance between two drawn images to which the extractor gives one "
        "class, over that of real images of these classes; of one set of drawn images. Time and memory are those of the training "
        "process, all its parts together where it was cut; memory is the host's. Modes captured are of the extractor's classes.",
    ]
    return "\n\n".join(lines)

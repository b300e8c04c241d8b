"""The report's tables in Markdown: what was published beside what was measured, never in one column."""

import math
import re

from tfvae.command import duration
from tfvae.scoring.scores import COPYING, FIDELITY, LIKELIHOOD, QUALITY, RECONSTRUCTION, SCORES, VARIETY, measuring
from tfvae.studies import claims, results, tasks

EMPTY = "–"
MOST_DECIMALS = 4
# Published quantities that say how a row was trained; the others are scores.
SETTINGS = ("architecture", "batch", "ch", "residual blocks", "epochs", "images")


def score_titles(study):
    """{key: title} of the scores of quality, by the study's extractor."""
    return {one.key: one.title_by(study.named_kind) for one in measuring(QUALITY)}


def variety_titles():
    """{key: title} of the scores that tell fidelity from variety."""
    return {one.key: one.title for one in measuring(FIDELITY, VARIETY, COPYING)}


def reconstruction_titles():
    """{key: title} of the scores of reconstructions."""
    own = {one.key: one.title for one in measuring(RECONSTRUCTION)}
    return own | {"frechet": f"{SCORES['frechet'].title} of reconstructions"}


def number(value):
    """(mean, spread or None), or None, for people."""
    if value is None:
        return EMPTY
    mean, spread = value
    if not spread:
        return f"{mean:.4g}" + ("" if spread is None else " ± 0")
    # As many decimals as the spread's first digit has.
    decimals = min(max(0, -math.floor(math.log10(spread))), MOST_DECIMALS)
    told = f"{spread:.{decimals}f}"
    return f"{round(mean, decimals) + 0.0:.{decimals}f} ± " + (
        told if float(told) else f"<{10.0**-decimals:.{decimals}f}"
    )


def markdown(head, lines):
    """A table: titles, then rows of cells; columns that are empty in every row are left out, but for the first."""
    kept = [i for i in range(len(head)) if i == 0 or any(line[i] not in ("", EMPTY) for line in lines)]
    rows = [[row[i].replace("|", "\\|") for i in kept] for row in ([*head], *lines)]
    numbers = [all(re.match(rf"$|{EMPTY}$|[+-]?\d", row[i]) for row in rows[1:]) for i in range(len(kept))]
    rows.insert(1, ["---:" if right else "---" for right in numbers])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def scores(study, rows, calibrations):
    """Scores as published, and as measured; why a row is empty; against the row that it varies."""
    quantities = _published(study, rows, lambda name: name not in SETTINGS)
    titles, based = score_titles(study), claims.bases(rows)
    lines = []
    for row in rows:
        published = study.published.get(row.experiment.name, {}) if row.prior == "normal" else {}
        measured = [number(row.value(name)) for name in titles]
        against = _against(row, based[row]) if row in based else ""
        lines.append([row.label, *(published.get(q, EMPTY) for q in quantities), *measured, against, row.reason])
    for label, values in calibration_lines(calibrations, titles):
        lines.append([label, *[EMPTY] * len(quantities), *values, "", ""])
    head = ["model", *(f"*published:* {q}" for q in quantities), *(f"measured: {t}" for t in titles.values())]
    return markdown(
        [*head, "Fréchet distance against the row that it varies", "why it is empty, or what failed"], lines
    )


def calibration_lines(calibrations, names):
    """[(label, cells)] of what was scored to calibrate. calibrations: {kind: what `tfvae.evaluate` wrote}."""
    lines = []
    for kind, found in calibrations.items():
        split = found["source"]["split"] if kind == tasks.HELD_OUT else ""
        cells = [number(results.score_of(found, name)) for name in names]
        if split.startswith("train"):  # training images are no copies of themselves
            cells = [EMPTY if name == "memorisation_ratio" else cell for name, cell in zip(names, cells)]
        lines.append((f"*real images, {split}*" if split else "*noise*", cells))
    return lines


def variety(rows, calibrations):
    """Fidelity and variety, measured."""
    titles = variety_titles()
    lines = [[row.label, *(number(row.value(name)) for name in titles)] for row in rows]
    lines += [[label, *cells] for label, cells in calibration_lines(calibrations, titles)]
    return markdown(["model", *titles.values()], lines)


def reconstructions(rows):
    """Of the VAEs that have some, from means of posteriors and from samples, with the data's likelihood; "" without any."""
    titles, likelihoods = reconstruction_titles(), {one.key: one.title for one in measuring(LIKELIHOOD)}
    lines = []
    for row in rows:
        if row.prior == "normal" and row.experiment.objective.encode:
            own = [_plain(row.reconstruction(name, "likelihood")) for name in likelihoods]
            lines.append([row.label, *(_plain(row.reconstruction(name)) for name in titles), *own])
            sampled = [_plain(row.reconstruction(name, "reconstruction_from_samples")) for name in titles]
            if set(sampled) != {EMPTY}:
                lines.append([f"{row.label}, from samples", *sampled, *[EMPTY] * len(own)])
    return (
        markdown(["model", *titles.values(), *likelihoods.values()], lines)
        if any(cell != EMPTY for line in lines for cell in line[1:])
        else ""
    )


def settings(study, rows):
    """How each row was trained: as published, and here."""
    rows = [row for row in rows if row.prior == "normal"]
    quantities = _published(study, rows, lambda name: name in SETTINGS)
    head = ["model", *(f"*published:* {q}" for q in quantities)]
    head += ["here: batch", "ch", "residual blocks", "latent", "images seen", "epochs", "generator steps", "labels"]
    lines = []
    for row in rows:
        published, one = study.published.get(row.experiment.name, {}), row.experiment.settings
        lines.append(
            [row.label, *(published.get(q, EMPTY) for q in quantities)]
            + [
                str(one.batch_size),
                str(one.base_channels),
                _plain(row.size.get("generator_blocks")),
                str(one.latent_dim),
            ]
            + (
                [f"{row.seen:,}", _plain(row.epochs), f"{row.seen // one.images_per_step:,}"]
                if row.seen
                else [EMPTY] * 3
            )
            + [{True: "yes", False: "no", None: EMPTY}[row.conditional]]
        )
    return markdown(head, lines)


def cost(rows):
    """Parameters, speed, time and memory of the trainings."""
    lines = []
    for row in rows:
        if row.prior == "normal":
            seconds = row.record["seconds"].get("training")
            memory = row.record["peak_memory_mb"].get("training")
            sizes = [row.size.get(f"{name}_parameters") for name in ("generator", "discriminator")]
            lines.append(
                [row.label, *(EMPTY if n is None else f"{n:,}" for n in sizes)]
                + [EMPTY if row.flops is None else f"{row.flops / 1e12:,.3g}"]
                + [EMPTY if row.images_per_second is None else f"{row.images_per_second:,.0f}"]
                + [EMPTY if seconds is None else duration(seconds)]
                + [EMPTY if memory is None else f"{memory / 1e3:.2f}"]
            )
    head = [
        "model",
        "parameters: generator or decoder",
        "discriminator or encoder",
        "TFLOP of the training",
        "images/s, median",
    ]
    return markdown([*head, "time, with scores on the way", "peak memory of the process, GB"], lines)


def _published(study, rows, wanted):
    found = (study.published.get(row.experiment.name, {}) for row in rows)
    return list(dict.fromkeys(name for quantities in found for name in quantities if wanted(name)))


def _against(row, base):
    made = claims.compare("frechet", row, base, False, (row.label, base.label))
    if made.first is None or made.second is None:
        return EMPTY
    change = f"{made.first[0] / made.second[0] - 1.0:+.1%}" if made.second[0] else EMPTY
    return f"{change}, {'not told apart' if made.agrees is None else 'better' if made.agrees else 'worse'}"


def _plain(value):
    return EMPTY if value is None else f"{value:.4g}"

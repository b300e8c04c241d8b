"""What the numbers say, in words that `claims`' rules make of them alone, and what could be wrong with that."""

from tfvae.studies import claims, results, tables, tasks
from tfvae.studies.plan import shown


def verdicts(study, found, by_table):
    main, latent = by_table.get("main", []), by_table.get("latent", [])
    four = claims.four_claims(main, latent)
    whole = claims.title(main, by_table.get("best", []), by_table.get("modes", []))
    counts = {
        word: sum(v.verdict == word for v in four) for word in (claims.HOLDS, claims.PARTLY, claims.FAILS, claims.OPEN)
    }
    listed = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    lines = [
        "## What the numbers say",
        f"From the tables below alone, by rule: two numbers differ where their difference is more than {claims.SPREADS:g} "
        f"standard deviations over sets of drawn images (without a spread: more than {claims.UNSEEN:.0%}); a statement holds "
        "where it does in every pair of rows that has numbers and by every number named, and in part where some numbers agree "
        "and others disagree.",
        f"The paper's title: **{whole.verdict}**, at this budget and by this protocol. Of its four claims: {listed}. "
        + _levels(study, found),
        _verdict(whole),
        *(f"**{i}.** {_verdict(v)}" for i, v in enumerate(four, 1)),
    ]
    more = claims.further(by_table)
    if more:
        lines += ["What else the paper says:", *map(_verdict, more)]
    return "\n\n".join(lines)


def _verdict(found):
    missing, number = found.missing, len(found.groups)
    part = (
        f", in the {number - len(missing)} of {number} pairs that have numbers"
        if 0 < len(missing) < number and found.verdict != claims.OPEN
        else ""
    )
    marks = [made.agrees for comparisons in found.groups.values() for made in comparisons if made.has_numbers]
    counts = {"agree": marks.count(True), "disagree": marks.count(False), "cannot be told apart": marks.count(None)}
    tally = "; ".join(f"{count} {word}" for word, count in counts.items() if count)
    tally = f" Of {len(marks)} pairs of numbers: {tally}." if marks else ""
    lines = [f"{found.statement} **{found.verdict[0].upper()}{found.verdict[1:]}{part}.**{tally}", ""]
    for pair, comparisons in found.groups.items():
        if pair not in missing:
            lines.append(f"- {pair}: {'; '.join(map(_comparison, comparisons))}.")
    if len(missing) == number > 2:
        lines.append(f"- Not known yet: none of its {number} pairs of rows has both numbers.")
    elif missing:
        listed = "; ".join(f"{pair} ({found.groups[pair][0].why_not})" for pair in missing)
        lines.append(f"- Not known yet: {listed}.")
    if not found.groups:
        lines.append("- The rows that it needs are not part of this study.")
    return "\n".join(lines)


def _comparison(made):
    word = {True: "agrees", False: "disagrees", None: made.why_not}[made.agrees]
    numbers = ", ".join(f"{name} {tables.number(value)}" for name, value in zip(made.names, (made.first, made.second)))
    return f"{made.measure}: {numbers} ({word})"


def _levels(study, found):
    """What real images and noise reach, to read the numbers by."""
    said = []
    for dataset, kinds in found.calibrations.items():
        parts = []
        for kind, label in ((tasks.HELD_OUT, "other real images"), (tasks.NOISE, "noise")):
            values = [results.score_of(kinds.get(kind), name) for name in ("recall", "coverage")]
            if all(values):
                parts.append(f"{label} recall {values[0][0]:.3g} and coverage {values[1][0]:.3g}")
        if parts:
            said.append(f"On {shown(dataset)}, {', '.join(parts)}.")
    return " ".join(said)


def doubts(study, found):
    """What could be wrong with that reading: what the study itself knows."""
    scored = [row for row in found.rows if row.scores]
    lines = [
        "One training, of one seed, a row: the spreads are those of drawing images, not of training again. Two trainings of one "
        "setting differ by more.",
        "Equal images seen are neither equal steps nor equal FLOPs: a GAN takes several discriminator steps for one of its "
        "generator, a VAE's decoder one for each of its encoder (steps and FLOPs are in the tables).",
    ]
    epochs = sorted(row.epochs for row in scored if row.epochs)
    if study.scale == "cpu" and epochs:
        seen = " to ".join(dict.fromkeys(f"{number:.3g}" for number in (epochs[0], epochs[-1])))
        lines.append(
            f"The budget: {seen} epochs of narrow networks, against 110 to 345 of the paper's. What "
            "is judged is how the objectives begin, not where they end; a GAN that has not yet learnt to draw says little about "
            "GANs."
        )
    main = [row for row in scored if "main" in row.experiment.tables]
    unequal = [
        d for d in study.datasets if len({r.experiment.total_images for r in main if r.experiment.dataset == d}) > 1
    ]
    if unequal:
        lines.append(
            f"The paper gave its models different budgets: on {' and '.join(map(shown, unequal))} they do not see as many "
            "images as each other (the settings are in the tables)."
        )
    limits = {row.experiment.dataset: row.limits for row in scored if row.limits}
    if limits:
        listed = "; ".join(
            f"on {shown(dataset)} {', '.join(f'{name} from {limit:.3g} on' for name, limit in of_scores.items())}"
            for dataset, of_scores in limits.items()
        )
        beyond = {name: _not_counted(scored, name, claims.BLURRED) for name in ("recall", "coverage")}
        rows = "; ".join(f"{name} of {', '.join(names)}" for name, names in beyond.items() if names)
        lines.append(
            "Recall and coverage fall by blur alone. Real images that are blurred until their kernel distance is this keep half "
            f"of them: {listed}. Beyond, they do not tell variety from sharpness and are not counted above: {rows or 'no row'}."
        )
    weak = _not_counted(scored, "recall", claims.DECEIVED)
    if weak:
        lines.append(
            "Recall grows when drawn images lie far from the data and from each other, for their balls are then wide: with a "
            f"precision below {claims.WEAK_PRECISION:g} it says little and is not counted above. So it is for "
            f"{'; '.join(weak)}. Coverage is not deceived that way."
        )
    kinds = [row.scores["protocol"]["extractor"] for row in scored]
    classifiers = {k["name"]: k["accuracy"] for k in kinds if k["accuracy"] is not None}
    if classifiers:
        listed = ", ".join(f"{name} ({accuracy:.0%} right)" for name, accuracy in classifiers.items())
        lines.append(
            f"The extractor: {listed}. A classifier sees what its classes differ in and little else, and was trained on the "
            "images that stand for the data: images that it was not trained on look a little further away than they are."
        )
    late = {
        row.experiment.label for row in scored if row.experiment.total_images < row.experiment.settings.ema_start_images
    }
    if late:
        lines.append(
            f"The moving average begins after the end of these short trainings: {', '.join(sorted(late))} are scored with their "
            "last weights."
        )
    # From samples: only those are a ceiling for what a better prior could reach.
    coverages = [(row, row.reconstruction("coverage", "reconstruction_from_samples")) for row in main]
    decoded = [(row, value) for row, value in coverages if row.prior == "normal" and value is not None]
    if decoded:
        listed = "; ".join(
            f"{row.label} on {shown(row.experiment.dataset)} {tables.number(row.value('coverage'))} and {value:.3g}"
            for row, value in decoded
        )
        lines.append(
            "What a VAE's samples lack, its decoder may not be able to draw, or its prior may not ask for. Reconstructions tell "
            "the two apart: coverage of samples and of training images decoded from samples of their posteriors: "
            f"{listed}."
        )
    pairs = [(row, other) for row in scored for other in scored if _differ_in_prior(row, other)]
    if pairs:
        listed = "; ".join(
            f"{row.label} on {shown(row.experiment.dataset)} from {tables.number(row.value('coverage'))} to "
            f"{tables.number(other.value('coverage'))}"
            for row, other in pairs
        )
        lines.append(
            f"With a mixture fitted to the codes in the prior's place, coverage of samples goes: {listed}. The verdicts are "
            "about the normal prior, as the paper's."
        )
    latents = {row.experiment.settings.latent_dim for row in main}
    if len(latents) > 1:
        lines.append(
            "The paper's settings differ in more than the objective: learning rates, batches and latents "
            f"({', '.join(map(str, sorted(latents)))})."
        )
    smaller = [d for d in study.datasets if study.protocol(d).num_images < study.num_images]
    if smaller:
        listed = ", ".join(f"{shown(d)} {study.protocol(d).num_images:,}" for d in smaller)
        lines.append(
            f"Few images: {listed} on each side. Distances of few images are too high, and compare within a table alone."
        )
    return "### What could be wrong with that reading\n\n" + "\n".join(f"- {line}" for line in lines)


def _not_counted(rows, name, why):
    return [
        f"{row.label} on {shown(row.experiment.dataset)}" for row in rows if claims.why_not_counted(row, name) == why
    ]


def _differ_in_prior(row, other):
    return row.experiment == other.experiment and (row.prior, other.prior) == ("normal", "gmm")

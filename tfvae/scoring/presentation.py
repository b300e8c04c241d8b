"""How scores are written, printed and drawn in TensorBoard."""

import numpy as np
import tensorflow as tf

from tfvae.scoring import scores
from tfvae.scoring.parts import RECONSTRUCTIONS


def plain(value):
    """What JSON can hold: NaN and infinity become null."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return value


def write_curves(logs, images_seen, result, group):
    """Appends the scores of a result to a run's TensorBoard; a folder that cannot be written to stays without.

    Args:
        logs: the folder. images_seen: by the model. group: under which the scores are shown.
    """
    try:
        writer = tf.summary.create_file_writer(str(logs))
        with writer.as_default(step=images_seen):
            for name, value in result["scores"].items():
                tf.summary.scalar(f"{group}/{name}", value["mean"])
            for part in (part for part in RECONSTRUCTIONS if part in result):
                of_part = f"{group}_of_{part.replace('reconstruction', 'reconstructions')}"
                for name, value in result[part]["scores"].items():
                    tf.summary.scalar(f"{of_part}/{name}", value)
            if result.get("likelihood", {"scores": {}})["scores"]:
                part = f"{group}_of_likelihood_by_{result['likelihood']['num_importance_samples']}_samples"
                for name, value in result["likelihood"]["scores"].items():
                    tf.summary.scalar(f"{part}/{name}", value)
                tf.summary.histogram(f"{part}/kl_by_dimension", result["likelihood"]["kl_by_dimension"])
        writer.close()
    except (OSError, tf.errors.OpError) as error:
        print(f"warning: TensorBoard lacks these scores: {' '.join(str(error).split())[:200]}")


def table(result):
    """The scores for people."""
    seeds = result["seeds"]
    lines = [
        f"{result['num_images']:,} images against {_compared(result)}; "
        + (f"mean and standard deviation of {len(seeds)} seeds" if len(seeds) > 1 else f"seed {seeds[0]}")
    ]
    width = _width(result["scores"], result["undefined"])
    known = result.get("modes", {})
    held_out, number = known.get("held_out", {}), known.get("held_out_images")
    for name, value in result["scores"].items():
        better = scores.find(name).better
        notes = [f"{better} is better"] if better else []
        notes += [f"{number:,} held-out images {held_out[name]:.5g}"] if name in held_out else []
        spread = "" if value["std"] is None else f" ± {value['std']:.2g}"
        lines.append(f"  {name:<{width}} {value['mean']:>10.5g}{spread:<12} {'; '.join(notes)}")
    lines += [f"  {name:<{width}} not defined: {reason}" for name, reason in result["undefined"].items()]
    for part in (result[name] for name in RECONSTRUCTIONS if name in result):
        lines.append(
            f"reconstructions from {part['latent']}: errors of {part['errors_of']['images']:,} images of "
            f"{part['errors_of']['split']}, scores of {part['scores_of']['images']:,} of {part['scores_of']['split']}"
        )
        lines += score_lines(part)
    if "likelihood" in result:
        part = result["likelihood"]
        lines.append("likelihood")
        if "of" in part:
            number = part["num_importance_samples"]
            lines[-1] += (
                f" of the first {part['of']['images']:,} images of {part['of']['split']}, decoder's sigma "
                f"{part['decoder_sigma']:.4g} ({part['decoder_sigma_is']}), {number} importance sample{'s' * (number > 1)}"
            )
        lines += score_lines(part)
    return "\n".join(lines)


def score_lines(part):
    """The scores of a part of the result that has one value of each, and those that are not defined."""
    width = _width(part["scores"], part["undefined"])
    lines = [f"  {name:<{width}} {value:>10.5g}" for name, value in part["scores"].items()]
    return lines + [f"  {name:<{width}} not defined: {reason}" for name, reason in part["undefined"].items()]


def _width(*named):
    """Of a column of scores' names."""
    return max(44, *(len(name) for names in named for name in names))


def calibration_table(result):
    """The scores of a calibration that its figure shows, for people."""
    shown = calibration_panels(result)
    lines = [f"real images, as they are and spoilt, against {_compared(result)}"]
    lines.append(f"  {'':<44} {'images':>7}" + "".join(f" {title[:18]:>18}" for title in shown.values()))
    for row in result["rows"]:
        values = [f"{row['scores'][name]:.4g}" if name in row["scores"] else "-" for name in shown]
        lines.append(f"  {row['name']:<44} {row['images']:>7,}" + "".join(f" {value:>18}" for value in values))
    return "\n".join(lines)


def calibration_panels(result):
    """{name of a score in files: its title}, of the scores that a calibration has and that measure something of samples."""
    measured = scores.measuring(scores.QUALITY, scores.FIDELITY, scores.VARIETY)
    names = dict.fromkeys(name for row in result["rows"] for name in row["scores"])
    return {name: one.title for one in measured for name in names if one.has_name(name)}


def _compared(result):
    """With which images, and by which extractor."""
    reference, extractor = result["reference"], result["protocol"]["extractor"]
    number = f"{reference['images']:,}" if reference["images"] else "images of an unknown number"
    of = f"{reference['dataset']} {reference['split']}" if reference["dataset"] else "unknown data"
    of += f" ({reference['statistics']})" if "statistics" in reference else ""
    return f"{number} of {of}, by {extractor['name']} (SHA-256 {extractor['checksum'][:12]}; images: {extractor['preparation']})"

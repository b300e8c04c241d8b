"""Calibration of an extractor on a dataset: every score of real images, spoilt in known ways."""

import dataclasses
import io

import numpy as np
from PIL import Image
from scipy import ndimage

from tfvae.data.split import batches_of, choose, without
from tfvae.scoring import protocol, sources
from tfvae.scoring.scores import value_of

BLURS = (0.5, 0.7, 1.0, 1.5, 2.0, 3.0)  # standard deviations, px
BLURRED = "blurred by {:g} px"
SAME_BLURS = (1.0, 2.0)  # of both sides: what is left is variety, apart from sharpness
PARTS = (1, 2, 5, 10)  # held-out images are scored in sets of 1/1, 1/2, 1/5 and 1/10 of their number
REPEATED = (10, 1000)  # how often each of the remaining images is repeated
JPEG_QUALITY = 10
NOISE = "noise"


@dataclasses.dataclass(frozen=True)
class Row:
    """Scores of one set of images.

    Attributes:
        name: what the images are. reference: what they are compared with.
        images, reference_images: how many they are. different: how many of the images differ from each other.
        scores, undefined: as `protocol.score`'s.
    """

    name: str
    reference: str
    images: int
    reference_images: int
    different: int
    scores: dict
    undefined: dict


def blur(images, sigma):
    """A Gaussian blur, sigma in px: uint8 [N, R, R, 3] -> the same."""
    return np.round(ndimage.gaussian_filter(images.astype(np.float32), (0, sigma, sigma, 0))).astype(np.uint8)


def mean_colour(images):
    """Each image's mean colour, everywhere: uint8 [N, R, R, 3] -> the same."""
    mean = np.round(images.mean(axis=(1, 2), keepdims=True)).astype(np.uint8)
    return np.broadcast_to(mean, images.shape).copy()


def jpeg(images, quality=JPEG_QUALITY):
    """What JPEG of that quality leaves: uint8 [N, R, R, 3] -> the same."""

    def compressed(image):
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "JPEG", quality=quality)
        return np.asarray(Image.open(stream))

    return np.stack([compressed(image) for image in images])


def rows(split, held_out, num_images, extractor, seed=0):
    """The rows of a calibration, each as soon as it is scored.

    Args:
        split: `Split` of the reference. held_out: `Split` of other real images; None: other images of `split`.
        num_images: on each side, if there are so many.
        seed: of the noise.

    Yields:
        `Row`.

    Raises:
        ValueError: fewer than 2 images on a side.
    """
    number = min(num_images, split.num_images if held_out else split.num_images // 2)
    chosen = choose(split.num_images, number)
    unseen = held_out or split
    others = without(unseen, split, chosen)
    held = others[choose(len(others), number)]
    if min(len(chosen), len(held)) < 2:
        raise ValueError(
            f"--calibrate: {len(chosen)} reference and {len(held)} other real images: expected 2 or more of each."
        )

    def made(part, part_rows, title, change=None):
        batches = batches_of(part, part_rows)
        if change:
            batches = ((change(images), labels) for images, labels in batches)
        return protocol.outputs_of(batches, extractor, len(part_rows), title)

    def scored(name, outputs, real, of="as they are", spare=None, different=None):
        """spare: held-out images for the memorisation ratio."""
        reference = protocol.Reference(
            real,
            split.num_classes,
            real,
            spare,
            split.num_images,
            protocol.mode_frequencies(split.dataset, extractor),
        )
        found, undefined = protocol.score(reference, outputs, extractor, seed)
        return Row(name, of, len(outputs), len(real), different or len(outputs), found, undefined)

    def repeated(outputs, times):
        """A part of the images, repeated until there are as many as in the whole set: (`Outputs`, number of different images)."""
        kept = choose(len(outputs), max(1, len(outputs) // times))
        return outputs.rows(np.resize(kept, len(outputs))), len(kept)

    real, other = made(split, chosen, "reference"), made(unseen, held, "held-out images")
    for parts in PARTS:
        some = [outputs.rows(choose(len(outputs), max(2, number // parts))) for outputs in (real, other)]
        yield scored(f"{len(some[1]):,} held-out images", some[1], some[0], spare=some[1])
    blurred = {}
    for sigma in BLURS:
        name = BLURRED.format(sigma)
        outputs = made(unseen, held, name, lambda images, sigma=sigma: blur(images, sigma))
        blurred |= {sigma: outputs} if sigma in SAME_BLURS else {}
        yield scored(name, outputs, real, spare=other)
    for name, change in (("each image's mean colour", mean_colour), (f"JPEG, quality {JPEG_QUALITY}", jpeg)):
        yield scored(name, made(unseen, held, name, change), real, spare=other)
    noise = sources.Noise(split.resolution).batches(len(held), seed)
    yield scored(NOISE, protocol.outputs_of(noise, extractor, len(held), NOISE), real, spare=other)
    if unseen.num_classes > 1 and unseen.labels is not None:
        number_of_classes = max(1, unseen.num_classes // 10)
        of_classes = others[unseen.labels[others] < number_of_classes]
        of_classes = of_classes[choose(len(of_classes), number)]
        if len(of_classes):
            name = f"{number_of_classes} of {unseen.num_classes} classes"
            yield scored(name, made(unseen, of_classes, name), real, spare=other)
    for times in REPEATED:
        outputs, different = repeated(other, times)
        yield scored(f"{different:,} of them, {times:,} times each", outputs, real, spare=other, different=different)
    for sigma in SAME_BLURS:
        of = BLURRED.format(sigma)
        base = made(split, chosen, f"reference, {of}", lambda images, sigma=sigma: blur(images, sigma))
        yield scored(f"both {of}: held-out images", blurred[sigma], base, of, blurred[sigma])
        for times in REPEATED:
            outputs, different = repeated(blurred[sigma], times)
            name = f"both {of}: {different:,}, {times:,} times each"
            yield scored(name, outputs, base, of, blurred[sigma], different)


def blur_limits(rows):
    """The kernel distances from which on blur alone takes half of the recall, and half of the coverage, of real images.

    A model that is as far from the data may be as varied as the data and have such a recall or coverage all the same: beyond
    the limit they do not tell variety from sharpness. The kernel distance, because the number of images does not bias it.
    Where noise is nearer than such images, the extractor tells nothing from there on either.

    Args:
        rows: the rows of a calibration as dicts, with numbers or None as scores.

    Returns:
        {"recall" and "coverage": kernel distance}, without those that never fall so far or have no values.
    """
    by_name = {row["name"]: row["scores"] for row in rows}
    series = [rows[0]["scores"], *(by_name[BLURRED.format(sigma)] for sigma in BLURS)]
    distances = [value_of(scores, "kernel") for scores in series]
    limits = {}
    for key in ("recall", "coverage"):
        values = [value_of(scores, key) for scores in series]
        if None in values or None in distances:
            continue
        below = [i for i, value in enumerate(values) if value <= values[0] / 2]
        if below:
            last, first = below[0] - 1, below[0]
            part = (values[last] - values[0] / 2) / (values[last] - values[first])
            limits[key] = distances[last] + part * (distances[first] - distances[last])
            if (noise := value_of(by_name[NOISE], "kernel")) is not None:
                limits[key] = min(limits[key], noise)
    return limits

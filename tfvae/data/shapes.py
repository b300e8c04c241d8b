"""`shapes`: a dataset that draws itself, so that a first run needs no download and modes can be counted.

10 shapes x 8 hues = 80 modes, all equally frequent, each with size, place, rotation and background of its own. The
bytes are the same on every machine: random numbers are whole numbers made of raw words of the counter-based Philox
generator (Salmon et al., SC'11), whose stream NumPy guarantees; the drawing uses only +, -, *, / and sqrt in float64,
which IEEE 754 rounds correctly, one NumPy operation each (so nothing is fused). Sines and cosines, which differ between
libraries in their last bit, are rounded to 9 decimals first.
"""

import dataclasses
import math

import numpy as np
import tensorflow_datasets as tfds

RESOLUTION = 32
NUM_IMAGES = {"train": 20_000, "test": 4_000}
SHAPE_NAMES = ("circle", "square", "triangle", "pentagon", "star", "cross", "ring", "heart", "crescent", "diamond")
HUES = {
    "red": (226, 58, 52),
    "orange": (243, 140, 40),
    "yellow": (236, 206, 44),
    "green": (70, 178, 76),
    "cyan": (44, 186, 196),
    "blue": (56, 104, 220),
    "purple": (146, 76, 204),
    "pink": (236, 112, 176),
}
HUE_NAMES = tuple(HUES)
MIN_SIZE, MAX_SIZE = 7, 12

_COLOURS = np.array(list(HUES.values()), np.float64)
_KEYS = {"train": 0x7F4A7C15, "test": 0x9E3779B9}
_WORDS_PER_IMAGE = 8
# Sizes and places are whole numbers of 1/64 px: exact in float32, so an image can be drawn again from its factors.
_SUBPIXEL = 64
_COSINES = np.round(np.cos(np.deg2rad(np.arange(360.0))), 9)
_SINES = np.round(np.sin(np.deg2rad(np.arange(360.0))), 9)


def _regular(corners, *radii):
    """Corners of a regular polygon, the first at the top; with two radii, of a star."""
    turn = [2 * math.pi * i / (corners * len(radii)) for i in range(corners * len(radii))]
    return [
        (round(radii[i % len(radii)] * math.sin(a), 9), round(radii[i % len(radii)] * math.cos(a), 9))
        for i, a in enumerate(turn)
    ]


_ARM, _END = 0.32, 0.96
_CORNERS = {
    "square": [(-0.75, -0.75), (0.75, -0.75), (0.75, 0.75), (-0.75, 0.75)],
    "triangle": _regular(3, 1.05),
    "pentagon": _regular(5, 0.98),
    "star": _regular(5, 1.08, 0.43),
    "cross": [
        (-_ARM, -_END), (_ARM, -_END), (_ARM, -_ARM), (_END, -_ARM), (_END, _ARM), (_ARM, _ARM),
        (_ARM, _END), (-_ARM, _END), (-_ARM, _ARM), (-_END, _ARM), (-_END, -_ARM), (-_ARM, -_ARM),
    ],
    "diamond": [(0.0, -1.05), (0.52, 0.0), (0.0, 1.05), (-0.52, 0.0)],
}  # fmt: skip


def _polygon(u, v, corners):
    """Signed distance to a closed polygon, negative inside (Quilez, "2D distance functions", `sdPolygon`)."""
    squared = np.full(u.shape, np.inf)
    inside = np.zeros(u.shape, bool)
    for (u0, v0), (u1, v1) in zip(corners, corners[1:] + corners[:1], strict=True):
        edge_u, edge_v = u1 - u0, v1 - v0
        along = ((u - u0) * edge_u + (v - v0) * edge_v) / (edge_u * edge_u + edge_v * edge_v)
        along = np.clip(along, 0.0, 1.0)
        off_u, off_v = u - u0 - along * edge_u, v - v0 - along * edge_v
        squared = np.minimum(squared, off_u * off_u + off_v * off_v)
        crosses = (v >= v0) != (v >= v1)
        left = edge_u * (v - v0) > edge_v * (u - u0)
        inside ^= crosses & (left == (edge_v > 0))
    return np.where(inside, -1.0, 1.0) * np.sqrt(squared)


def _disc(u, v, radius):
    return np.sqrt(u * u + v * v) - radius


def _heart(u, v):
    """Signed distance to a heart (Quilez, "2D distance functions", `sdHeart`), centred and scaled to unit size."""
    scale, centre = 1.65, 0.55
    u, v = np.abs(u) / scale, v / scale + centre
    lobe = np.sqrt((u - 0.25) * (u - 0.25) + (v - 0.75) * (v - 0.75)) - math.sqrt(2.0) / 4
    foot = 0.5 * np.maximum(u + v, 0.0)
    squared = np.minimum(u * u + (v - 1) * (v - 1), (u - foot) * (u - foot) + (v - foot) * (v - foot))
    return scale * np.where(u + v > 1, lobe, np.sqrt(squared) * np.sign(u - v))


def _distance(shape, u, v):
    """Signed distance, in units of the shape's size, from (u, v) with v upwards."""
    if shape in _CORNERS:
        return _polygon(u, v, _CORNERS[shape])
    if shape == "circle":
        return _disc(u, v, 0.92)
    if shape == "ring":
        return np.abs(_disc(u, v, 0.74)) - 0.22
    if shape == "heart":
        return _heart(u, v)
    return np.maximum(_disc(u + 0.12, v, 1.0), -_disc(u - 0.42, v, 0.86))  # crescent


def coverage(label, size, x, y, rotation):
    """How much of each pixel a shape covers, antialiased: 1/2 minus the pixel's distance to the edge (px), from 0 to 1.

    Args:
        label: int [N], index in `SHAPE_NAMES`.
        size: float [N], about half the shape's width, px.
        x: float [N], centre from the left, px.
        y: float [N], centre from the top, px.
        rotation: float [N], counterclockwise, whole degrees in [0, 360).

    Returns:
        float64 [N, 32, 32].
    """
    label, turn = np.asarray(label), np.asarray(rotation).astype(np.int64)
    size, x, y = (np.asarray(a, np.float64)[:, None, None] for a in (size, x, y))
    cosine, sine = _COSINES[turn][:, None, None], _SINES[turn][:, None, None]
    middles = np.arange(RESOLUTION) + 0.5
    right, up = middles[None, None, :] - x, y - middles[None, :, None]
    u, v = (cosine * right + sine * up) / size, (cosine * up - sine * right) / size
    distance = np.empty(u.shape)
    for index, shape in enumerate(SHAPE_NAMES):
        rows = label == index
        distance[rows] = _distance(shape, u[rows], v[rows])
    return np.clip(0.5 - distance * size, 0.0, 1.0)


def draw(label, hue, size, x, y, rotation, background):
    """Draws one image for each row of factors.

    Args:
        label, size, x, y, rotation: as `coverage`'s.
        hue: int [N], index in `HUE_NAMES`.
        background: uint8 [N, 3].

    Returns:
        uint8 [N, 32, 32, 3].
    """
    weight = coverage(label, size, x, y, rotation)[..., None]
    behind = np.asarray(background, np.float64)[:, None, None, :]
    colour = _COLOURS[np.asarray(hue)][:, None, None, :]
    return np.floor(behind + (colour - behind) * weight + 0.5).astype(np.uint8)


def placed(words):
    """Size, place and rotation of shapes that lie wholly inside their images.

    Args:
        words: int64 [..., 4], whole numbers from 0 to 2**32 - 1.

    Returns:
        dict of float32 [...]: `size`, `x`, `y`, `rotation`, as `coverage`'s.
    """
    size = MIN_SIZE * _SUBPIXEL + words[..., 0] % ((MAX_SIZE - MIN_SIZE) * _SUBPIXEL + 1)
    # The shape's farthest point is 1.12 sizes off the centre (the crescent's).
    margin = size * 112 // 100 + _SUBPIXEL
    room = RESOLUTION * _SUBPIXEL - 2 * margin + 1
    return {
        "size": (size / _SUBPIXEL).astype(np.float32),
        "x": ((margin + words[..., 1] % room) / _SUBPIXEL).astype(np.float32),
        "y": ((margin + words[..., 2] % room) / _SUBPIXEL).astype(np.float32),
        "rotation": (words[..., 3] % 360).astype(np.float32),
    }


def factors(split, start, stop):
    """The factors of images `start` to `stop` of a split, a function of (split, index) alone.

    Returns:
        dict of arrays with n = stop - start rows: `label`, `hue` int64 [n]; `size`, `x`, `y`, `rotation` float32 [n];
        `background` uint8 [n, 3].
    """
    words = np.random.Philox(key=_KEYS[split]).random_raw(stop * _WORDS_PER_IMAGE)
    # The high half: what follows takes remainders, and whole numbers below 2**32 keep them in exact int64 arithmetic.
    words = (words.reshape(stop, _WORDS_PER_IMAGE)[start:] >> np.uint64(32)).astype(np.int64)
    index = np.arange(start, stop)
    # Dark or light, never between, so that every hue stands out; then a slight tint.
    tone = np.where(words[:, 4] % 2 == 0, 18 + words[:, 4] // 2 % 40, 200 + words[:, 4] // 2 % 32)
    return {
        "label": index % len(SHAPE_NAMES),
        "hue": index // len(SHAPE_NAMES) % len(HUE_NAMES),
        **placed(words[:, :4]),
        "background": (tone[:, None] + words[:, 5:8] % 24).astype(np.uint8),
    }


def modes(split, min_images):
    """The images labelled by mode, hue and shape, so that modes can be counted.

    Args:
        split: `Split` of this dataset, in memory.
        min_images: of no use here: all modes are equally frequent.

    Returns:
        `Split` with 80 classes.
    """
    names = tuple(f"{hue} {shape}" for hue in HUE_NAMES for shape in SHAPE_NAMES)
    labels = split.factors["hue"].astype(np.int32) * len(SHAPE_NAMES) + split.labels
    return dataclasses.replace(split, labels=labels, class_names=names, num_classes=len(names))


class Shapes(tfds.core.GeneratorBasedBuilder):
    """Images of one coloured shape on a plain ground, every factor of variation kept as a feature."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(RESOLUTION, RESOLUTION, 3), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=SHAPE_NAMES),
                    "hue": tfds.features.ClassLabel(names=HUE_NAMES),
                    "size": np.float32,
                    "x": np.float32,
                    "y": np.float32,
                    "rotation": np.float32,
                    "background": tfds.features.Tensor(shape=(3,), dtype=np.uint8),
                }
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split, number) for split, number in NUM_IMAGES.items()}

    def _generate_examples(self, split, number):
        rows = factors(split, 0, number)
        for start in range(0, number, 1000):
            part = {name: values[start : start + 1000] for name, values in rows.items()}
            for offset, image in enumerate(draw(**part)):
                yield start + offset, {"image": image} | {name: values[offset] for name, values in part.items()}

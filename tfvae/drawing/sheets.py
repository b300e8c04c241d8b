"""Sheets to look at: many pictures of a `Model` laid out in one, all from latents that a seed fixes."""

import numpy as np
import tensorflow as tf
import tqdm

from tfvae.data import images
from tfvae.data.split import batches_of
from tfvae.drawing import directions as sefa
from tfvae.drawing import prior
from tfvae.scoring import neighbours as nearness
from tfvae.scoring import protocol

NEAREST = 2  # training images that a drawn picture is shown with, by each distance
LOOP = 4  # latents that a picture of an animation goes through and back to the first
_BLOCK_VALUES = 2**22  # pixels held at once as floats: 32 MiB


def row_labels(number, num_classes, columns):
    """One class per row of a sheet, in turn: int32 [number]; None without classes."""
    return (np.arange(number) // columns % num_classes).astype(np.int32) if num_classes else None


def samples(model, number, seed=0):
    """Unselected samples, their classes drawn too: uint8 [number, R, R, 3]."""
    label = None
    if model.num_classes:
        label = tf.random.stateless_uniform([number], [seed, 1], 0, model.num_classes, tf.int32, "philox").numpy()
    return model.generate(prior.latents(number, model.latent_dim, seed), label)


def grid(model, seed=0, rows=8, columns=8):
    """Unselected samples: uint8 picture."""
    return images.sheet(samples(model, rows * columns, seed), columns)


def class_rows(model, seed=0, columns=8, most_rows=20):
    """Unselected samples, one class per row: uint8 picture."""
    number = min(model.num_classes, most_rows) * columns
    label = row_labels(number, model.num_classes, columns)
    return images.sheet(model.generate(prior.latents(number, model.latent_dim, seed), label), columns)


def interpolations(model, seed=0, rows=8, columns=8):
    """Each row goes from one latent to another, within one class: uint8 picture."""
    ends = prior.latents(2 * rows, model.latent_dim, seed)
    path = prior.interpolate(ends[:rows], ends[rows:], columns).reshape(-1, model.latent_dim)
    return images.sheet(model.generate(path, row_labels(rows * columns, model.num_classes, columns)), columns)


def reconstructions(model, real, label=None, columns=8):
    """Rows of real images, each above a row of their reconstructions from the latent's mean: uint8 picture.

    Args:
        model: one with an encoder. real: uint8 [N, R, R, 3].
        label: int32 [N] for a conditional decoder.
    """
    return above_each_other([real, model.generate(model.encode(real)[0], label)], columns)


def above_each_other(parts, columns=8):
    """Rows of the first part's pictures, each above a row of the second part's that belong to them, and so on.

    Args:
        parts: uint8 [N, R, R, 3] each; where the last row is shorter, the gap's colour fills it.
    """
    columns = min(columns, len(parts[0]))
    filled = [(0, -len(parts[0]) % columns), (0, 0), (0, 0), (0, 0)]
    parts = np.stack([np.pad(part, filled, constant_values=images.SHEET_GAP_COLOUR) for part in parts])
    rows = parts.reshape(len(parts), -1, columns, *parts.shape[2:]).swapaxes(0, 1)
    return images.sheet(rows.reshape(-1, *parts.shape[2:]), columns)


def truncation_sweep(model, seed=0, rows=8, truncations=(0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)):
    """The same latents at each truncation, one latent per row, least varied first, last the plain latent: uint8 picture."""
    latent = prior.latents(rows, model.latent_dim, seed)
    sweep = np.stack([prior.truncated(latent, t) for t in truncations] + [latent], 1).reshape(-1, model.latent_dim)
    columns = len(truncations) + 1
    return images.sheet(model.generate(sweep, row_labels(rows * columns, model.num_classes, columns)), columns)


def neighbours(model, train, extractor, cache_dir, seed=0, rows=2, columns=8):
    """Rows of drawn pictures, each above rows of its nearest training images, by pixels and by an extractor's features: uint8
    picture. Whether a model copies its training images can be seen, by a distance that sees a shift and by one that hardly does.

    Args:
        train: `Split` that the model was trained on. extractor: `Extractor`. cache_dir: as `protocol.outputs_of_split`'s.
        rows: of drawn pictures; they are those of `grid`, if that has as many.
    """
    drawn = samples(model, rows * columns, seed)
    number = min(NEAREST, train.num_images)
    step = max(1, _BLOCK_VALUES // drawn[0].size)
    every = np.arange(train.num_images)
    with tqdm.tqdm(total=len(every), desc="distances of pixels", leave=False, disable=None) as progress:

        def pixels():
            for image, _ in batches_of(train, every):
                for start in range(0, len(image), step):
                    yield image[start : start + step].reshape(-1, drawn[0].size)
                progress.update(len(image))

        by_pixels = nearness.nearest(drawn.reshape(len(drawn), -1), pixels(), number)
    features = protocol.outputs_of_split(train, extractor, cache_dir).features
    by_features = nearness.nearest(extractor(drawn)["features"], [features], number)
    found = [_images_of(train, some[:, place]) for some in (by_pixels, by_features) for place in range(number)]
    many = "" if number == 1 else f"{number} "
    return images.captioned(
        above_each_other([drawn, *found], columns),
        f"From above: drawn; the {many}nearest of {train.num_images:,} training images by pixels; the {many}nearest by the "
        f"features of {extractor.name}.",
    )


def _images_of(split, rows):
    """uint8 [N, R, R, 3] of any rows of a split, in their order."""
    some, place = np.unique(rows, return_inverse=True)
    return np.concatenate([image for image, _ in batches_of(split, some)])[place.reshape(-1)]


def directions(model, seed=0, rows=8, columns=9, most=3.0):
    """One latent moved along a strongest direction in each row (see `tfvae.drawing.directions`): uint8 picture.

    Args:
        rows: directions. columns: steps, odd to show the latent itself in the middle. most: the last step; a drawn latent has a
            standard deviation of 1 along each direction.
    """
    found = sefa.strongest(model.network, rows)
    steps = np.linspace(-most, most, columns, dtype=np.float32)
    latent = prior.latents(1, model.latent_dim, seed) + steps[:, None] * found.vectors[:, None]
    latent = latent.reshape(-1, model.latent_dim)
    label = np.zeros(len(latent), np.int32) if model.num_classes else None
    part = (
        ""
        if found.moved == model.latent_dim
        else f" (they move {found.moved} of the latent's {model.latent_dim} entries)"
    )
    return images.captioned(
        images.sheet(model.generate(latent, label), columns),
        f"One latent moved by -{most:g} to {most:g} along the first linear layer's strongest directions{part}. Singular values: "
        f"{', '.join(f'{strength:.2f}' for strength in found.strengths)}.",
    )


def animation(model, seed=0, rows=8, columns=8, frames=64):
    """Yields the frames, uint8 pictures, of a grid whose pictures go from latent to latent and back to the first, each within
    one class: a loop without an end. frames: a multiple of `LOOP` is spread evenly.
    """
    number = rows * columns
    ends = prior.latents(LOOP * number, model.latent_dim, seed).reshape(LOOP, number, -1)
    label = row_labels(number, model.num_classes, columns)
    places = np.arange(frames) * LOOP / frames
    for place in tqdm.tqdm(places, "frames", leave=False, disable=None):
        leg = int(place)
        latent = prior.between(ends[leg], ends[(leg + 1) % LOOP], [place - leg])[:, 0]
        yield images.sheet(model.generate(latent, label), columns)

"""Sheets to look at: many pictures of a `Model` laid out in one, all from latents that a seed fixes."""

import numpy as np
import tensorflow as tf

from tfvae.data import images
from tfvae.drawing import prior


def row_labels(number, num_classes, columns):
    """One class per row of a sheet, in turn: int32 [number]; None without classes."""
    return (np.arange(number) // columns % num_classes).astype(np.int32) if num_classes else None


def grid(model, seed=0, rows=8, columns=8):
    """Unselected samples, their classes drawn too: uint8 picture."""
    number, label = rows * columns, None
    if model.num_classes:
        label = tf.random.stateless_uniform([number], [seed, 1], 0, model.num_classes, tf.int32, "philox").numpy()
    return images.sheet(model.generate(prior.latents(number, model.latent_dim, seed), label), columns)


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

"""Many single pictures of a `Model`: PNG files in a folder, or arrays in an .npz file.

Picture i is what the endpoint's `sample` draws for the seed `seed + i`, whichever other pictures are drawn with it. So the
pictures of several ranges, drawn by several commands or machines, are those of one.
"""

import dataclasses
import json
import os
import pathlib
import shutil
import zipfile

import numpy as np
import tensorflow as tf
import tqdm

from tfvae.command import UserError, write_whole
from tfvae.drawing import prior

RECORD = "pictures.json"  # in a folder of pictures: what they are of
BALANCED, DATA = "balanced", "data"
DISK_BLOCK = 4096  # bytes that a file is rounded up to on most disks
PNG_OVERHEAD = 100  # bytes


@dataclasses.dataclass(frozen=True, eq=False)
class Pictures:
    """Which pictures of a model.

    Attributes:
        model: `Model`.
        seed: picture i has the seed `seed + i`.
        truncation: more than 0; infinity: latents are not truncated.
        label: None for a model without classes; list of classes, which take turns, picture 0 of the first; or `DATA`.
        frequencies: with `DATA`, float64 [C]: how frequent each class is among the training images; a picture's class is drawn
            by its own seed.

    Raises:
        ValueError: labels that the model does not have.
    """

    model: object
    seed: int
    truncation: float
    label: object = None
    frequencies: np.ndarray | None = None

    def __post_init__(self):
        num_classes = self.model.num_classes
        if self.label not in (None, DATA) and not all(0 <= label < num_classes for label in self.label):
            given = ",".join(map(str, self.label))
            raise ValueError(
                f"--label={given}: expected some of the model's classes, 0 to {num_classes - 1}, {BALANCED} or {DATA}."
            )

    @property
    def record(self):
        """Everything that they depend on, as JSON gives it back."""
        label = self.label if self.label in (None, DATA) else list(self.label)
        truncation = float(self.truncation) if np.isfinite(self.truncation) else None
        record = {"model": self.model.facts, "seed": self.seed, "truncation": truncation, "label": label}
        return json.loads(json.dumps(record))

    def labels(self, numbers):
        """The classes of pictures: int32 [N]; None without classes. numbers: int64 [N]."""
        if not self.model.num_classes:
            return None
        if self.label != DATA:
            return np.array(self.label, np.int32)[numbers % len(self.label)]
        uniform = _uniform(tf.constant(self.seed + numbers, tf.int64)).numpy()
        bounds = np.cumsum(self.frequencies) / np.sum(self.frequencies)
        return np.searchsorted(bounds, uniform, side="right").astype(np.int32)

    def draw(self, numbers, batch_size):
        """Yields (numbers int64 [b], labels int32 [b] or None, PNG files [b]), batch by batch, and shows progress.

        Raises:
            UserError: a picture cannot be drawn.
        """
        with tqdm.tqdm(total=len(numbers), desc="pictures", unit="", disable=None) as progress:
            for start in range(0, len(numbers), batch_size):
                some = numbers[start : start + batch_size]
                label = self.labels(some)
                files = self.model.sample(self.seed + some, np.full(len(some), self.truncation, np.float32), label)
                if not all(files):
                    seed = self.seed + some[list(files).index(b"")]
                    raise UserError(
                        f"the picture of seed {seed} has NaN or infinity: expected finite pixels; take another version."
                    )
                yield some, label, files
                progress.update(len(some))


@tf.function(input_signature=[tf.TensorSpec([None], tf.int64)])
def _uniform(seed):
    return prior.uniform_of_seeds(seed, prior.LABEL, [])


def write_folder(folder, pictures, numbers, batch_size):
    """Writes pictures as 000000.png, …, in one sub-folder per class where there are classes; a file that is there stays.

    Args:
        folder: made if absent. pictures: `Pictures`. numbers: int64 [N], of the pictures.

    Returns:
        How many were there already.

    Raises:
        UserError: the folder holds other pictures, or something else.
    """
    folder = pathlib.Path(folder)
    _check_folder(folder, pictures.record)
    digits = len(str(max(pictures.model.num_classes - 1, 0)))

    def place(number, label):
        return (folder if label is None else folder / f"{label:0{digits}}") / f"{number:06}.png"

    labels = pictures.labels(numbers)
    places = [place(number, None if labels is None else labels[row]) for row, number in enumerate(numbers)]
    absent = numbers[[not os.path.lexists(path) for path in places]]
    side, number = pictures.model.resolution, len(absent)
    if number:
        check_space(folder, number * _png_bytes(side), f"{number:,} PNG files of {side} px", at_most=True)
    write_whole(folder / RECORD, json.dumps(pictures.record, indent=2) + "\n")
    for some, label, files in pictures.draw(absent, batch_size):
        for row, number in enumerate(some):
            write_whole(place(number, None if label is None else label[row]), files[row])
    return len(numbers) - len(absent)


def write_npz(file, pictures, numbers, batch_size):
    """Writes pictures as `arr_0`, uint8 [N, R, R, 3], and where there are classes `arr_1`, int64 [N]: as np.savez does, but batch
    by batch, so that they need not fit in memory. The file is either whole or not there.

    Args:
        file: its place. pictures, numbers: as `write_folder`'s.
    """
    side = pictures.model.resolution
    size = len(numbers) * (side * side * 3 + 8)
    check_space(file, size, f"{len(numbers):,} pictures of {side} px")

    def write(stream):
        labels = []
        with zipfile.ZipFile(stream, "w") as archive:
            with archive.open("arr_0.npy", "w", force_zip64=True) as array:
                header = {"descr": "|u1", "fortran_order": False, "shape": (len(numbers), side, side, 3)}
                np.lib.format.write_array_header_1_0(array, header)
                for _, label, files in pictures.draw(numbers, batch_size):
                    labels.append(label)
                    for png in files:
                        array.write(tf.io.decode_png(png, channels=3).numpy().tobytes())
            if pictures.model.num_classes:
                with archive.open("arr_1.npy", "w") as array:
                    np.lib.format.write_array(array, np.concatenate(labels).astype(np.int64))

    write_whole(file, write)


def check_space(path, size, what, at_most=False):
    """Says how many bytes are about to be written, and compares them with what is free on the disk.

    Args:
        path: file or folder, which need not exist. size: in bytes. what: for people. at_most: `size` is an upper bound; then too
            little room is a warning, for what is written until the disk is full can be gone on with.

    Raises:
        UserError: they do not fit.
    """
    place = pathlib.Path(path).absolute()
    free = shutil.disk_usage(next(p for p in (place, *place.parents) if p.is_dir())).free
    print(f"{path}: {what}, {'at most ' if at_most else ''}{_shown(size)}; {_shown(free)} are free", flush=True)
    if size <= free:
        return
    if not at_most:
        raise UserError(
            f"--output={path}: {what} need {_shown(size)} and {_shown(free)} are free there: give an --output on another disk, "
            "or fewer --num_images, such as a part of them with --start."
        )
    print("warning: they may not fit. What is written stays whole, and the same command goes on with it.", flush=True)


def _check_folder(folder, record):
    """Raises a UserError unless a folder is absent, empty, or of the same pictures."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    try:
        found = dict(json.loads((folder / RECORD).read_text()))
    except (OSError, ValueError, TypeError):
        raise UserError(
            f"--output={folder} holds files, and no {RECORD} that says which pictures: expected a new or an empty folder, or one "
            "that this command began."
        ) from None
    other = [name for name, value in record.items() if name not in found or not _agree(found[name], value)]
    if other:
        raise UserError(
            f"--output={folder} holds pictures of another {' and '.join(other)} (see {RECORD} there): expected the same, to go "
            "on with them; give another --output."
        )


def _agree(old, new):
    """Whether two values are the same, dicts in what both have: a newer release may know more flags of a model."""
    if isinstance(old, dict) and isinstance(new, dict):
        return all(_agree(old[name], new[name]) for name in old.keys() & new.keys())
    return old == new


def _png_bytes(side):
    """The most that a PNG file of a picture takes on the disk: zlib stores what it cannot compress."""
    size = PNG_OVERHEAD + 1.01 * side * (side * 3 + 1)
    return int(-(-size // DISK_BLOCK)) * DISK_BLOCK


def _shown(size):
    """Bytes for people: 1234567 -> '1.2 MB'."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"

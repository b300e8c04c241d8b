"""`labels.csv` and `dataset.json` beside images: which class each image has, where the folders are no classes.

labels.csv has the first line `file,label`, then one line per image: its path below the folder of labels.csv, and its class, a
name or a number. dataset.json is that of StyleGAN's dataset tool: {"labels": [["00000/img00000000.png", 3], …]}, with null in
the place of the list for images without labels.
"""

import collections
import csv
import io
import json
import pathlib

from tfvae.data import tree, zipped
from tfvae.data.errors import DataError

CSV, JSON = "labels.csv", "dataset.json"
_HEADER = ["file", "label"]


def find(way):
    """The first `tree.Folder` with such a file in it, and the file: (folder, path), or (None, None).

    Args:
        way: list of `tree.Folder`, from the top down.

    Raises:
        DataError: a folder with both.
    """
    for folder in way:
        found = [folder.path / name for name in (CSV, JSON) if zipped.is_file(folder.path / name)]
        if len(found) > 1:
            raise DataError(
                f"{folder.path} holds both {CSV} and {JSON}: expected one of them to say which class each image has"
            )
        if found:
            return folder, found[0]
    return None, None


def read(file, folder):
    """The class of each image of a folder.

    Args:
        file: `find`'s. folder: `tree.Folder` that it lies in, and whose images, with those below, it is of.

    Returns:
        {path of the image: its class, str or int}; {}: the file says that they have none.

    Raises:
        DataError: it cannot be read, or names an image twice, one that is not there, or not all of them.
    """
    name = tree.printable(file)
    try:
        content = zipped.read(file).decode("utf-8-sig")
        rows = _rows_of_csv(content) if file.name == CSV else _rows_of_json(content)
    except OSError as error:
        raise DataError(
            f"{name} cannot be read ({error.strerror or error}): expected a file that may be read"
        ) from error
    except (ValueError, csv.Error) as error:
        raise DataError(f"{name} cannot be read: {' '.join(str(error).split())}") from error
    if not rows:
        return {}
    images = {image.relative_to(folder.path).as_posix(): image for image in folder.all_files()}
    rows = [(pathlib.PurePosixPath(image).as_posix(), label) for image, label in rows]
    counts = collections.Counter(image for image, _ in rows)
    for wrong, what in (
        ([image for image in counts if counts[image] > 1], "names twice"),
        ([image for image in counts if image not in images], f"names, and no such images lie below {folder.path}"),
        ([image for image in images if image not in counts], "does not name"),
    ):
        if wrong:
            number = f"{len(wrong):,} image{'' if len(wrong) == 1 else 's'}"
            shown = tree.some([tree.printable(one) for one in wrong])
            raise DataError(f"{name}: {number}{shown} that it {what}: expected one row for each image and no other")
    return {images[image]: label for image, label in rows}


def in_order(classes):
    """Classes as they are numbered: numbers by their value before names by the alphabet."""
    return sorted(classes, key=lambda one: (isinstance(one, str), one))


def _rows_of_csv(content):
    """[(file, class)], the class a number where all are. Raises: ValueError, csv.Error."""
    rows = list(csv.reader(io.StringIO(content), strict=True))
    if not rows or rows[0] != _HEADER:
        first = ",".join(rows[0])[:80] if rows else ""
        raise ValueError(f"its first line is '{first}': expected '{','.join(_HEADER)}', then one line per image")
    for number, row in enumerate(rows[1:], 2):
        if row and (len(row) != 2 or not all(row)):
            raise ValueError(f"line {number} is '{','.join(row)[:80]}': expected a file and its label")
    rows = [row for row in rows[1:] if row]
    if not rows:
        raise ValueError("it has no rows: expected one line per image")
    whole = all(label.isascii() and label.isdigit() for _, label in rows)
    return [(file, int(label) if whole else label) for file, label in rows]


def _rows_of_json(content):
    """[(file, class number)]; []: no labels. Raises: ValueError."""
    expected = 'expected {"labels": [["00000/a.png", 3], …]} as StyleGAN\'s dataset tool writes it, with whole numbers from 0 on'
    try:
        labels = json.loads(content)["labels"]
        rows = [] if labels is None else [(file, label) for file, label in labels]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{type(error).__name__} {error}; {expected}") from error
    for file, label in rows:
        if not isinstance(file, str) or type(label) is not int or label < 0:
            raise ValueError(f"it has the row {json.dumps([file, label])[:80]}: {expected}")
    return rows

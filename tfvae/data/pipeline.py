"""From a dataset's name to a `Split`: finds or prepares the data, decodes, crops and resizes it."""

import collections
import difflib
import functools
import os
import pathlib
import socket
import urllib.request

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from tfvae import command, config
from tfvae.data import content, datasets, folder, images
from tfvae.data.errors import DataError
from tfvae.data.split import Records, Split

__all__ = ["DataError", "Split", "describe", "held_out_split", "load", "prepare"]

# The most decoded pixels that are held in memory (twice: as an array and as a tensor). Larger splits stream.
MEMORY_LIMIT_BYTES = 4 * 1024**3


def load(
    dataset,
    split="train",
    *,
    data_dir=None,
    resolution=None,
    streaming=None,
    background=config.Config.background,
    fit=config.Config.fit,
):
    """Loads a split, downloading and preparing it first where needed.

    `data_dir` is used as it is where it holds TFDS's prepared form. Otherwise the data is prepared into it, from the
    archive if that lies in it or in its `downloads/manual`; a folder that is not writable stays as it is, and TFDS's
    own folder (`~/tensorflow_datasets` or `TFDS_DATA_DIR`) takes the prepared form.

    Args:
        dataset: a name of `datasets.DATASETS`, `folder:PATH`, or the name of another TFDS image dataset.
        split: a split of it; `folder:` has only `train`.
        data_dir: folder of data, default TFDS's own; a `folder:` has no use for it.
        resolution: side in px; default the data's own, needed where that is not square.
        streaming: True or False to read while training or hold in memory; default by size (`MEMORY_LIMIT_BYTES`).
        background: colour behind transparent images, by name or as #rrggbb.
        fit: how images that are not square become so, one of `config.FITS`.

    Returns:
        `Split`.

    Raises:
        DataError: an unknown dataset or split, data that is absent, damaged or different, or no resolution to choose.
        ValueError: the background is no colour. UserError: a URL in place of a path.
    """
    config.colour(background)
    if resolution is not None and resolution < 1:
        raise DataError(f"resolution {resolution}: expected 1 px or more")
    record = datasets.record(dataset)
    if record.folder is not None:
        return _load_folder(record, split, resolution, streaming, background, fit)
    return _load_tfds(record, split, _prepare(record, data_dir), resolution, streaming, background, fit)


def describe(dataset, *, data_dir=None, resolution=None):
    """What is known about a dataset without its images: nothing is downloaded or prepared.

    Args and raises: as `load`'s.

    Returns:
        `Split` without images, all else as `load` would have it; `num_images` is 0 where the data is not prepared yet.
    """
    record = datasets.record(dataset)
    if record.folder is not None:
        listing = folder.list_images(record.folder)
        resolution = resolution or folder.common_resolution(listing.files)
        class_names, labels, notes = listing.class_names, listing.labels, listing.notes
        num_images = len(listing.files)
    else:
        builder = _builder(record, command.path("data_dir", data_dir) if data_dir else None)
        features = builder.info.features
        resolution = resolution or _native_resolution(record, features)
        class_names, labels, notes = _class_names(features), None, _label_notes(features)
        num_images = builder.info.splits["train"].num_examples if "train" in builder.info.splits else 0
    fields = dict(num_images=num_images, num_classes=len(class_names), class_names=class_names, notes=notes)
    return Split(dataset, "train", resolution, **fields, images=None, labels=labels)


def prepare(dataset, data_dir=None):
    """The folder in which a dataset's files lie, prepared first where needed. Args and raises: as `load`'s."""
    record = datasets.record(dataset)
    if record.folder is not None:
        return pathlib.Path(record.folder).expanduser()
    return pathlib.Path(_prepare(record, data_dir).data_dir)


def held_out_split(dataset, *, data_dir=None):
    """The split that a dataset keeps out of training; the data is prepared first where needed.

    Args and raises: as `load`'s.

    Returns:
        Its name, or None where the dataset has no such split, or only one whose labels are withheld.
    """
    record = datasets.record(dataset)
    if not record.held_out_splits:
        return None
    builder = _prepare(record, data_dir)
    return next((name for name in record.held_out_splits if _can_be_held_out(builder, name)), None)


def _can_be_held_out(builder, split):
    if split not in builder.info.splits or not builder.info.splits[split].num_examples:
        return False
    if not _class_names(builder.info.features):
        return True
    # TFDS gives -1 for a label that is withheld, as for ImageNet's test images: no model could be given it.
    return all(int(example["label"]) >= 0 for example in _examples(builder, f"{split}[:1]", ["image", "label"]))


def _class_names(features):
    """Names of the classes by number; empty without labels."""
    return tuple(features["label"].names) if "label" in features and _is_label(features["label"]) else ()


def _is_label(feature):
    return isinstance(feature, tfds.features.ClassLabel) and bool(feature.num_classes)


def _label_notes(features):
    """A line, in a tuple, where a dataset has classes that are not read; else an empty one."""
    others = [name for name, feature in sorted(features.items()) if _is_label(feature)]
    if "label" in others:
        return ()
    if "label" in features:
        return (f"no labels are read: 'label' is of the kind {type(features['label']).__name__}, expected ClassLabel",)
    if others:
        found = " and ".join(f"'{name}'" for name in others)
        return (f"no labels are read: classes are in {found}, expected a feature 'label'",)
    return ()


def _streams(streaming, num_images, resolution):
    return num_images * resolution * resolution * 3 > MEMORY_LIMIT_BYTES if streaming is None else streaming


def _load_folder(record, split, resolution, streaming, background, fit):
    if split != "train":
        raise DataError(
            f"{record.name} has no split '{split}', expected 'train': give another folder for another split"
        )
    listing = folder.list_images(record.folder)
    files = listing.files
    sized, resolution = resolution, resolution or folder.common_resolution(files)
    streaming = _streams(streaming, len(files), resolution)
    if streaming and sized:
        # Their headers, so that a file that is no image is known at once and not in the middle of training.
        collections.deque(folder.sizes(files), maxlen=0)
    return Split(
        dataset=record.name,
        split=split,
        resolution=resolution,
        num_images=len(files),
        num_classes=len(listing.class_names),
        class_names=listing.class_names,
        images=None if streaming else folder.read_images(files, resolution, config.colour(background), fit),
        labels=listing.labels,
        files=files if streaming else None,
        background=background,
        fit=fit,
        encoded=lambda: content.fingerprint(listing.base, listing.names),
        notes=listing.notes,
    )


def _load_tfds(record, split, builder, resolution, streaming, background, fit):
    features = builder.info.features
    resolution = resolution or _native_resolution(record, features)
    try:
        num_images = builder.info.splits[split].num_examples
    except (KeyError, ValueError) as error:
        names = ", ".join(builder.info.splits)
        raise DataError(f"{record.name} has no split '{split}', expected one of: {names}") from error
    if not num_images:
        raise DataError(f"split '{split}' of {record.name} holds no images")
    class_names = _class_names(features)
    fields = dict(
        dataset=record.name,
        split=split,
        resolution=resolution,
        num_images=num_images,
        num_classes=len(class_names),
        class_names=class_names,
        background=background,
        fit=fit,
        encoded=functools.partial(_encoded, builder, split),
        notes=_label_notes(features),
    )
    keys = ["image", "label"] if class_names else ["image"]
    decode = functools.partial(_decode, features["image"], resolution, config.colour(background), fit)
    if _streams(streaming, num_images, resolution):
        identity = f"{builder.info.full_name} {split} {builder.info.splits[split].num_bytes}"
        records = Records(_examples(builder, split, keys), decode, identity)
        return Split(**fields, images=None, labels=None, records=records)
    keys = list(features) if record.builder else keys
    arrays = _read(_examples(builder, split, keys).map(decode, tf.data.AUTOTUNE, deterministic=True), num_images)
    pixels, labels = arrays.pop("image"), arrays.pop("label")
    withheld = np.count_nonzero(labels < 0)
    if withheld:
        raise DataError(
            f"{withheld:,} of the {num_images:,} labels of '{split}' of {record.name} are withheld (-1): expected a split "
            "with labels"
        )
    return Split(**fields, images=pixels, labels=labels, factors=arrays)


def _encoded(builder, split):
    """SHA-256 (hex) of the files that hold a split, and of which part of each belongs to it."""
    parts = builder.info.splits[split].file_instructions
    names = [f"{os.path.relpath(p.filename, builder.data_dir)} {p.skip} {p.take}" for p in parts]
    return content.fingerprint(builder.data_dir, dict(zip(names, (part.filename for part in parts))))


def _examples(builder, split, keys):
    """Examples in file order, their images still encoded, so that what is skipped need not be decoded."""
    decoders = tfds.decode.PartialDecoding(
        {key: builder.info.features[key] for key in keys}, decoders={"image": tfds.decode.SkipDecoding()}
    )
    read_config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    return builder.as_dataset(split=split, shuffle_files=False, decoders=decoders, read_config=read_config)


# A PNG file with transparent pixels: its header names an alpha channel, or it has a chunk of this kind. (\C is any byte.)
_TRANSPARENT_PNG = r"(?s)\CPNG\C{21}([\x04\x06]\C*|\C*tRNS\C*)"


def _decode(feature, resolution, background, fit, example):
    """Decodes the image of an example and makes it [resolution, resolution, 3]; without a label it gets 0."""
    encoded = example["image"]

    def fitted(image):
        make_square = functools.partial(images.fit, resolution=resolution, background=background, fit=fit)
        return tf.ensure_shape(tf.numpy_function(make_square, [image], tf.uint8), [resolution, resolution, 3])

    def as_declared():
        image = feature.decode_example(encoded)
        return image if tuple(image.shape) == (resolution, resolution, 3) else fitted(image)

    # TensorFlow drops alpha where the feature declares none, and shows what was hidden.
    transparent = tf.strings.regex_full_match(encoded, _TRANSPARENT_PNG)
    image = tf.cond(transparent, lambda: fitted(tf.io.decode_png(encoded, channels=4)), as_declared)
    return example | {"image": image, "label": tf.cast(example.get("label", 0), tf.int32)}


def _read(dataset, num_images):
    """All of a dataset as arrays by name."""
    arrays, start = {}, 0
    for batch in dataset.batch(512).prefetch(tf.data.AUTOTUNE).as_numpy_iterator():
        stop = start + len(batch["image"])
        for name, values in batch.items():
            if name not in arrays:
                arrays[name] = np.empty([num_images, *values.shape[1:]], values.dtype)
            arrays[name][start:stop] = values
        start = stop
    return {name: _text(values) if values.dtype == object else values for name, values in arrays.items()}


def _text(values):
    return np.array([value.decode() for value in values])


def _native_resolution(record, features):
    if record.resolution:
        return record.resolution
    height, width = features["image"].shape[:2]
    if height is None or height != width:
        size = "of many sizes" if height is None else f"{width} x {height} px"
        raise DataError(
            f"the images of {record.name} are {size}, expected a square: give --resolution, to which --fit makes them square"
        )
    return height


def _writable(path):
    # The mode too: root may write anywhere, but a folder that is read-only for everybody is meant to stay as it is.
    while not path.exists():
        path = path.parent
    return path.is_dir() and os.access(path, os.W_OK) and bool(path.stat().st_mode & 0o222)


def _prepare(record, data_dir):
    """The dataset's TFDS builder, its data prepared."""
    given = os.environ.get("TFDS_DATA_DIR")
    try:
        own_home = command.path("TFDS_DATA_DIR", given or tfds.core.constants.DATA_DIR)
    except command.UserError as error:
        if given:
            raise DataError(str(error).removeprefix("--")) from error
        # A user whom the machine does not know, as in a container.
        if not data_dir:
            raise DataError(
                "no home folder is known: give --data_dir, a folder for the data (or TFDS_DATA_DIR)"
            ) from error
        own_home = command.path("data_dir", data_dir)
    home = command.path("data_dir", data_dir) if data_dir else own_home
    if home.exists() and not home.is_dir():
        raise DataError(f"--data_dir {home} is a file, expected the folder that holds the data")
    builder = _builder(record, home)
    if _prepared(builder):
        return builder
    archive = _find_archive(record, [home, own_home])
    if not _writable(home):
        home = own_home
        builder = _builder(record, home)
        if _prepared(builder):
            return builder
    if record.archive and not archive:
        _check_source(record, data_dir or home)
    source = _prepare(datasets.record(record.source), data_dir).data_dir if record.source else None
    config = tfds.download.DownloadConfig(manual_dir=archive.parent if archive else source)
    try:
        builder.download_and_prepare(download_dir=home / "downloads", download_config=config)
    except DataError:
        raise
    except Exception as error:
        # Another process of the same run may have been faster: its result is whole, for TFDS renames when it is done.
        builder = _builder(record, home)
        if not _prepared(builder):
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            archive = f", or {record.archive.file} in it; {record.archive.help}" if record.archive else ""
            raise DataError(
                f"{record.name} could not be prepared in {home} ({reason}): see that there is network and room on the "
                f"disk, or give --data_dir, a folder with the data as TFDS prepares it{archive}"
            ) from error
    return builder


def _builder(record, home):
    try:
        own = record.builder and functools.partial(record.builder, config=record.config)
        builder = own(data_dir=home) if own else tfds.builder(record.name, data_dir=home)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        known = {*datasets.DATASETS, *tfds.list_builders(with_community_datasets=False)}
        near = difflib.get_close_matches(record.name, sorted(known), n=3)
        hint = f" (did you mean {' or '.join(near)}?)" if near else ""
        raise DataError(f"unknown dataset '{record.name}'{hint}, expected {datasets.choices()}") from error
    features = builder.info.features
    feature = features["image"] if isinstance(features, tfds.features.FeaturesDict) and "image" in features else None
    if not isinstance(feature, tfds.features.Image) or feature.np_dtype != np.uint8:
        raise DataError(f"{record.name} has no feature 'image' of 8 bits per channel: expected an image dataset")
    return builder


def _prepared(builder):
    # TFDS writes beside and renames at the end, so a folder that is there is whole.
    return (pathlib.Path(builder.data_dir) / "dataset_info.json").is_file()


def _find_archive(record, homes):
    """The archive that the user brought, or None."""
    places = [place for home in homes for place in (home, home / "downloads" / "manual")] if record.archive else []
    return next((place / record.archive.file for place in places if (place / record.archive.file).is_file()), None)


def _check_source(record, place):
    """Fails at once where TFDS would fail late or with a page of text: no archive, and no host that answers."""
    archive, reason = record.archive, ""
    if archive.host:
        # Behind a proxy the name need not resolve here.
        if urllib.request.getproxies():
            return
        try:
            socket.create_connection((archive.host, 443), timeout=10).close()
            return
        except OSError as error:
            reason = f", and {archive.host} does not answer ({error})"
    raise DataError(
        f"{archive.file} is not in {place}{reason}: put it there, or give --data_dir, a folder with it or with "
        f"{record.name} as TFDS prepares it; {archive.help}"
    )

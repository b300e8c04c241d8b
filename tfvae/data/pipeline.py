"""From a dataset's name to a `Split`: finds or prepares the data, decodes, crops and resizes it."""

import difflib
import functools
import os
import pathlib
import socket
import urllib.request

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from tfvae.data import folder, images, lfw, shapes
from tfvae.data.errors import DataError
from tfvae.data.split import Records, Split

__all__ = ["DataError", "Split", "describe", "load", "prepare"]

# Decoded pixels that are held in memory (twice: as an array and as a tensor); larger splits stream.
MEMORY_LIMIT_BYTES = 4 * 1024**3

# What a dataset keeps out of training.
HELD_OUT_SPLITS = {"cifar10": "test", "shapes": "test", "lfw": "validation"}

CIFAR10_HOST = "www.cs.toronto.edu"
CIFAR10_ARCHIVE = "cifar-10-binary.tar.gz"
CIFAR10_HELP = (
    f"give --data_dir, a folder with TFDS's prepared cifar10/3.0.2, or put {CIFAR10_ARCHIVE} (170,052,171 bytes, MD5 "
    f"c32a1d4ab5d03f1284b67883e8d87530) into --data_dir; its host https://{CIFAR10_HOST}/~kriz/cifar.html is slow, and "
    f"the copies on mirrors (Hugging Face uoft-cs/cifar10, Zenodo) are mostly other packagings: cifar-10-python.tar.gz "
    f"has MD5 c58f30108f718f92721af3b95e74349a and is not read here"
)

_OWN = {"lfw": lfw.LfwDeepfunneled, "shapes": shapes.Shapes}
_NATIVE_RESOLUTIONS = {"lfw": lfw.RESOLUTION}
# What the user brings to the manual folder; TFDS takes it from there instead of downloading.
_ARCHIVES = {"lfw": lfw.ARCHIVE, "cifar10": CIFAR10_ARCHIVE}


def load(dataset, split="train", *, data_dir=None, resolution=None, streaming=None):
    """Loads a split, downloading and preparing it first where needed.

    `data_dir` is used as it is where it holds TFDS's prepared form. Otherwise the data is prepared into it, from the
    archive if that lies in it or in its `downloads/manual`; a folder that is not writable stays as it is, and TFDS's
    own folder (`~/tensorflow_datasets` or `TFDS_DATA_DIR`) takes the prepared form.

    Args:
        dataset: `cifar10`, `lfw`, `shapes`, `folder:PATH`, or the name of another TFDS image dataset.
        split: a split of it; `folder:` has only `train`.
        data_dir: folder of data, default TFDS's own; a `folder:` has no use for it.
        resolution: side in px; default the data's own (cifar10 and shapes 32, lfw 45), needed where that is not square.
        streaming: True or False to read while training or hold in memory; default by size (`MEMORY_LIMIT_BYTES`).

    Returns:
        `Split`.

    Raises:
        DataError: an unknown dataset or split, data that is absent, damaged or different, or no resolution to choose.
    """
    if resolution is not None and resolution < 1:
        raise DataError(f"resolution {resolution}: expected 1 px or more")
    if dataset.startswith("folder:"):
        return _load_folder(dataset, split, resolution, streaming)
    return _load_tfds(dataset, split, _prepare(dataset, data_dir), resolution, streaming)


def describe(dataset, *, data_dir=None, resolution=None):
    """What is known of a dataset without its images: nothing is downloaded or prepared.

    Args and raises: as `load`'s.

    Returns:
        `Split` without images: `num_images` 0, `resolution`, `num_classes` and `class_names` as `load` would have them.
    """
    if dataset.startswith("folder:"):
        files, _, class_names = folder.list_images(dataset.removeprefix("folder:"))
        resolution = resolution or folder.common_resolution(files)
    else:
        features = _builder(dataset, pathlib.Path(data_dir).expanduser() if data_dir else None).info.features
        resolution = resolution or _NATIVE_RESOLUTIONS.get(dataset) or _square_side(dataset, features["image"].shape)
        class_names = tuple(_label(features).names) if _label(features) else ()
    return Split(dataset, "train", resolution, 0, len(class_names), class_names, images=None, labels=None)


def prepare(dataset, data_dir=None):
    """The folder in which a dataset's files lie, prepared first where needed. Args and raises: as `load`'s."""
    if dataset.startswith("folder:"):
        return pathlib.Path(dataset.removeprefix("folder:")).expanduser()
    return pathlib.Path(_prepare(dataset, data_dir).data_dir)


def _label(features):
    label = features["label"] if "label" in features else None
    return label if isinstance(label, tfds.features.ClassLabel) else None


def _streams(streaming, num_images, resolution):
    return num_images * resolution * resolution * 3 > MEMORY_LIMIT_BYTES if streaming is None else streaming


def _load_folder(dataset, split, resolution, streaming):
    if split != "train":
        raise DataError(f"{dataset} has no split '{split}', expected 'train': give another folder for another split")
    files, labels, class_names = folder.list_images(dataset.removeprefix("folder:"))
    resolution = resolution or folder.common_resolution(files)
    streaming = _streams(streaming, len(files), resolution)
    return Split(
        dataset=dataset,
        split=split,
        resolution=resolution,
        num_images=len(files),
        num_classes=len(class_names),
        class_names=class_names,
        images=None if streaming else folder.read_images(files, resolution),
        labels=labels,
        files=files if streaming else None,
    )


def _load_tfds(dataset, split, builder, resolution, streaming):
    features = builder.info.features
    image = features["image"]
    resolution = resolution or _NATIVE_RESOLUTIONS.get(dataset) or _square_side(dataset, image.shape)
    try:
        num_images = builder.info.splits[split].num_examples
    except (KeyError, ValueError) as error:
        names = ", ".join(builder.info.splits)
        raise DataError(f"{dataset} has no split '{split}', expected one of: {names}") from error
    if not num_images:
        raise DataError(f"split '{split}' of {dataset} holds no images")
    label = _label(features)
    fields = dict(
        dataset=dataset,
        split=split,
        resolution=resolution,
        num_images=num_images,
        num_classes=label.num_classes if label else 0,
        class_names=tuple(label.names) if label else (),
    )
    decode = functools.partial(_decode, image, resolution)
    if _streams(streaming, num_images, resolution):
        keys = ["image", "label"] if label else ["image"]
        identity = f"{builder.info.full_name} {split} {builder.info.splits[split].num_bytes}"
        records = Records(_examples(builder, split, keys), decode, identity)
        return Split(**fields, images=None, labels=None, records=records)
    keys = list(features) if dataset in _OWN else ["image", "label"] if label else ["image"]
    arrays = _read(_examples(builder, split, keys).map(decode, tf.data.AUTOTUNE, deterministic=True), num_images)
    pixels, labels = arrays.pop("image"), arrays.pop("label")
    return Split(**fields, images=pixels, labels=labels, factors=arrays)


def _examples(builder, split, keys):
    """Examples in file order, the image still encoded: what is only shuffled or skipped need not be decoded."""
    decoders = tfds.decode.PartialDecoding(
        {key: builder.info.features[key] for key in keys}, decoders={"image": tfds.decode.SkipDecoding()}
    )
    read_config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    return builder.as_dataset(split=split, shuffle_files=False, decoders=decoders, read_config=read_config)


def _decode(feature, resolution, example):
    """Decodes the image of an example and makes it [resolution, resolution, 3]; without a label it gets 0."""
    image = feature.decode_example(example["image"])
    if tuple(image.shape) != (resolution, resolution, 3):
        image = tf.numpy_function(functools.partial(images.fit, resolution=resolution), [image], tf.uint8)
        image = tf.ensure_shape(image, [resolution, resolution, 3])
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


def _square_side(dataset, shape):
    height, width = shape[:2]
    if height is None or height != width:
        size = "of many sizes" if height is None else f"{width} x {height} px"
        raise DataError(f"the images of {dataset} are {size}, expected a square: give --resolution to crop and resize")
    return height


def _writable(path):
    # The mode too: an administrator may write anywhere, but a folder closed to everybody is meant to stay as it is.
    while not path.exists():
        path = path.parent
    return path.is_dir() and os.access(path, os.W_OK) and bool(path.stat().st_mode & 0o222)


def _prepare(dataset, data_dir):
    """The dataset's TFDS builder, its data prepared."""
    own_home = pathlib.Path(os.environ.get("TFDS_DATA_DIR") or tfds.core.constants.DATA_DIR).expanduser()
    home = pathlib.Path(data_dir).expanduser() if data_dir else own_home
    if home.exists() and not home.is_dir():
        raise DataError(f"--data_dir {home} is a file, expected the folder that holds the data")
    builder = _builder(dataset, home)
    if _prepared(builder):
        return builder
    archive = _find_archive(dataset, [home, own_home])
    if not _writable(home):
        home = own_home
        builder = _builder(dataset, home)
        if _prepared(builder):
            return builder
    _check_source(dataset, archive, data_dir, home)
    config = tfds.download.DownloadConfig(manual_dir=archive.parent if archive else None)
    try:
        builder.download_and_prepare(download_dir=home / "downloads", download_config=config)
    except DataError:
        raise
    except Exception as error:
        # Another process of the same run may have been faster: its result is whole, for TFDS renames when it is done.
        if _prepared(_builder(dataset, home)):
            return _builder(dataset, home)
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        help_line = CIFAR10_HELP if dataset == "cifar10" else "see that there is network and room on the disk, or give "
        help_line += "" if dataset == "cifar10" else "--data_dir, a folder where it is already prepared"
        raise DataError(f"{dataset} could not be prepared in {home} ({reason}): {help_line}") from error
    return builder


def _builder(dataset, home):
    try:
        builder = _OWN[dataset](data_dir=home) if dataset in _OWN else tfds.builder(dataset, data_dir=home)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        known = {*_OWN, *tfds.list_builders(with_community_datasets=False)}
        near = difflib.get_close_matches(dataset, sorted(known), n=3)
        hint = f" (did you mean {' or '.join(near)}?)" if near else ""
        raise DataError(
            f"unknown dataset '{dataset}'{hint}, expected cifar10, lfw, shapes, folder:PATH or the name of an image "
            f"dataset of TensorFlow Datasets"
        ) from error
    features = builder.info.features
    feature = features["image"] if isinstance(features, tfds.features.FeaturesDict) and "image" in features else None
    if not isinstance(feature, tfds.features.Image) or feature.np_dtype != np.uint8:
        raise DataError(f"{dataset} has no feature 'image' of 8 bits a channel: expected an image dataset")
    return builder


def _prepared(builder):
    # TFDS writes beside and renames at the end, so a folder that is there is whole.
    return (pathlib.Path(builder.data_dir) / "dataset_info.json").is_file()


def _find_archive(dataset, homes):
    """The archive that the user brought, or None."""
    name = _ARCHIVES.get(dataset)
    places = [place for home in homes for place in (home, home / "downloads" / "manual")] if name else []
    return next((place / name for place in places if (place / name).is_file()), None)


def _check_source(dataset, archive, data_dir, home):
    """Fails at once where TFDS would fail late or with a page of text."""
    if dataset == "lfw" and not archive:
        place = data_dir or home / "downloads" / "manual"
        raise DataError(f"{lfw.ARCHIVE} is not in {place}: put it there or give --data_dir; {lfw.WHERE_TO_FIND}")
    # Behind a proxy the name need not resolve here.
    if dataset == "cifar10" and not archive and not urllib.request.getproxies():
        try:
            socket.create_connection((CIFAR10_HOST, 443), timeout=10).close()
        except OSError as error:
            raise DataError(
                f"cifar10 is not in {data_dir or home} and its host {CIFAR10_HOST} does not answer ({error}): "
                f"{CIFAR10_HELP}"
            ) from error

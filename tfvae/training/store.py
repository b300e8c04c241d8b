"""Checkpoints as files: which ones a folder has, how one is written, restored, proved to be damaged, and deleted.

They are TensorFlow's own. Its CheckpointManager is not used: it deletes only what its list names, and nothing where the path has
brackets.
"""

import contextlib
import os
import re
import shutil

import numpy as np
import tensorflow as tf

from tfvae.command import UserError, disk_is_full, literal, write_whole
from tfvae.networks.network import named_weights

# What TensorFlow says of bytes that are not those that were written. It raises OpError, IndexError and others for the same fault,
# and the same OpError for a disk that does not answer.
PROOFS = (
    "checksum does not match",
    "checksum mismatch",
    "not an sstable",
    "too short to be an sstable",
    "truncated block read",
    "corrupted compressed block",
    "read less bytes than requested",
    "read fewer bytes than requested",
    "failed to seek to header entry",
    "unable to parse header",
)

# What TensorFlow raises where a checkpoint cannot be read.
UNREADABLE = (IndexError, OSError, tf.errors.OpError)
# Of a checkpoint: what TensorFlow writes beside the values, an optimizer of Keras' own that nobody uses, the optimizers' lists of
# the networks' weights, and the learning rates, which the flags give.
NOT_RESTORED = (
    r"_CHECKPOINTABLE_OBJECT_GRAPH|save_counter/.*|objective/optimizer/.*"
    r"|objective/\w+_optimizer/(_trainable_variables|_learning_rate)/.*"
)


def _names(folder):
    """Names of the files in a folder; none where it is not there. Raises: UserError."""
    try:
        return set(os.listdir(folder))
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise UserError(
            f"{folder} cannot be read ({error.strerror}): expected the folder of a run's checkpoints."
        ) from error


def stored(folder):
    """The checkpoints of a folder: dict of images seen to the path without ending, ascending. Damaged ones are among them."""
    found = [re.fullmatch(r"ckpt-(\d+)\.index", name) for name in _names(folder)]
    return {number: folder / f"ckpt-{number}" for number in sorted(int(match[1]) for match in found if match)}


def stored_in_part(folder):
    """As `stored`, and those too of which some file is there, but not the index."""
    found = [re.fullmatch(r"ckpt-(\d+)\.(index|data-.*-of-\d+)", name) for name in _names(folder)]
    return {number: folder / f"ckpt-{number}" for number in sorted({int(match[1]) for match in found if match})}


def has_traces(folder):
    """Whether a folder has files of checkpoints, whole or not, damaged or renamed."""
    return any(re.match(r"ckpt-[^_]+\.(index|data-)", name) and ".tempstate" not in name for name in _names(folder))


def _files(prefix):
    """A checkpoint's files that are there: sorted list of paths, its data and then its index."""
    part = re.compile(rf"{prefix.name}\.(index|data-.*-of-\d+)")
    return [prefix.with_name(name) for name in sorted(_names(prefix.parent)) if part.fullmatch(name)]


# Writing and deleting.


def not_finite(model):
    """Names of an `Objective`'s variables, its optimizers' among them, that hold NaN or infinity: list of str."""
    parts = (model, model.generator_optimizer, model.discriminator_optimizer)
    variables = [v for part in parts for v in part.variables if tf.as_dtype(v.dtype).is_floating]
    finite = tf.stack([tf.reduce_all(tf.math.is_finite(tf.convert_to_tensor(v))) for v in variables]).numpy()
    return [variable.path for variable, good in zip(variables, finite) if not good]


def write(folder, model, images_seen, keep):
    """Saves a checkpoint, and then deletes all but the newest; where that fails, nothing of it is left.

    Args:
        folder: made if absent. model: an `Objective`. images_seen: the checkpoint's number. keep: how many are left, this one
            among them.

    Raises:
        UserError: the disk does not take it.
    """
    prefix = folder / f"ckpt-{images_seen}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint = tf.train.Checkpoint(objective=model)
        checkpoint.save_counter.assign_add(1)  # `restore` looks for it
        checkpoint.write(str(prefix))
        # For `tf.train.latest_checkpoint`; nothing here reads it.
        write_whole(folder / "checkpoint", f'model_checkpoint_path: "{prefix.name}"\n')
    except (tf.errors.OpError, OSError) as error:
        for name in _names(folder):
            if re.match(rf"{prefix.name}[._]", name):
                delete(folder / name)
        mend = "free some space and run" if disk_is_full(error) else "when it can be written, run"
        raise UserError(
            f"checkpoint at {images_seen:,} images could not be written to {folder} ({_line(error)[-200:]}). The checkpoints "
            f"before it are whole; {mend} the same command again."
        ) from error
    prune(folder, images_seen, keep)


def prune(folder, images_seen, keep):
    """Deletes every checkpoint, and every part of one, but the `keep` newest up to `images_seen`. What is damaged stays."""
    kept = [number for number in stored(folder) if number <= images_seen][-keep:]
    for name in _names(folder):
        match = re.match(r"ckpt-(\d+)[._]", name)
        number = int(match[1]) if match and not name.endswith(".damaged") else None
        if number is not None and kept and (number < kept[0] or number > images_seen):
            delete(folder / name)


def left_overs(folder):
    """What a process that was killed has left of a checkpoint that it was writing: list of paths."""
    kind = re.compile(r"ckpt-\d+_temp|ckpt-\d+\..*\.tempstate|\.(checkpoint|ckpt-\d+\.json)\..*\.tmp$")
    return [folder / name for name in _names(folder) if kind.match(name)]


def delete(path):
    """Deletes a file or a folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# Restoring.


def restore_newest(folder, model, set_aside=False, least=0):
    """Restores the newest checkpoint that can be read, and says which ones cannot.

    Args:
        folder: `RunDirectory.checkpoints` or `.best`.
        model: an `Objective`; restored whole, optimizers, averages and step too.
        set_aside: rename damaged ones to `*.damaged`: of the one process that writes here.
        least: images seen by a checkpoint that will do.

    Returns:
        The checkpoint's path without ending, str, or None where there is none.

    Raises:
        UserError: there are checkpoints and all are damaged, or the newest one cannot be read for another reason.
    """
    damaged, there = {}, stored_in_part(folder)
    for number, prefix in reversed(there.items()):
        if number < least:
            break
        reason = _lacks(prefix) or _restore_or_reason(prefix, model)
        if reason:
            damaged[prefix] = reason
            continue
        for bad, why in damaged.items():
            print(f"warning: checkpoint {bad} cannot be read ({why}): taking the one before it.", flush=True)
            for file in _files(bad) if set_aside else ():
                os.replace(file, f"{file}.damaged")
        return str(prefix)
    if damaged and set(stored_in_part(folder)) - set(there):
        return restore_newest(folder, model, set_aside, least)  # while these were read, a training has replaced them
    if damaged:
        reasons = ", ".join(f"{prefix.name}: {reason}" for prefix, reason in damaged.items())
        raise UserError(
            f"no checkpoint in {folder} can be read ({reasons}). Expected at least one: put its files back, or begin a run in "
            "another --model_dir."
        )
    return None


def _restore_or_reason(prefix, model):
    """Restores a checkpoint, or says what is proved to be wrong with its files.

    Raises:
        UserError: it holds other weights, or cannot be read for another reason.
    """
    try:
        restore(prefix, model)
        return None
    except ValueError as error:
        raise UserError(
            f"{prefix} holds other weights than the networks of these flags have in this version of tfvae. Expected those of "
            "config.json beside it; the version that wrote it still reads it."
        ) from error
    except (*UNREADABLE, MemoryError) as error:
        reason = _lacks(prefix) or _proved(prefix, error)
        if reason:
            return reason
        raise UserError(
            f"checkpoint {prefix} cannot be read now ({_line(error)[:200]}). It was left as it is: nothing shows that it is "
            "damaged. Expected files that this process can read; run the same command again when it can."
        ) from error


def _lacks(prefix):
    """Which of a checkpoint's files is missing, or None."""
    *data, last = [file.name for file in _files(prefix)] or [""]
    if not last.endswith(".index"):
        return "its index is missing"
    expected = int(data[0].rpartition("-")[2]) if data else 1
    return None if len(data) == expected else f"{expected - len(data)} of {expected} data files are missing"


def _proved(prefix, error):
    """What TensorFlow found wrong with a checkpoint's bytes, or None: then its files may be good."""
    text = _line(error)
    if not isinstance(error, tf.errors.DataLossError) and not any(proof in text.lower() for proof in PROOFS):
        return None
    try:
        # TensorFlow reports a file that the disk fails to deliver as a short one too.
        for path in _files(prefix):
            with open(path, "rb") as file:
                while file.read(1 << 24):
                    pass
    except OSError:
        return None
    return text[:200]


def _line(error):
    """An error's text in one line, without the names of TensorFlow's functions and of `literal`."""
    return re.sub(r"{{.*?}} |/proc/self/fd/\d+/", "", " ".join(str(error).split()))


@contextlib.contextmanager
def opened(prefix):
    """Yields TensorFlow's reader of a checkpoint. prefix: path without ending.

    Raises:
        IndexError, OSError, tf.errors.OpError: it cannot be read.
    """
    with literal(prefix.parent) as folder:
        yield tf.train.load_checkpoint(str(folder / prefix.name))


def key(name):
    """The name in a checkpoint of what is called `name` in an objective, as `named_weights` calls it."""
    return f"objective/{name}/.ATTRIBUTES/VARIABLE_VALUE"


def restore(prefix, model):
    """Restores one checkpoint.

    Args:
        prefix: path without ending. model: an `Objective`.

    Raises:
        ValueError: it holds other weights. IndexError, OSError, tf.errors.OpError: it cannot be read.
    """
    with opened(prefix) as reader:
        _restore(reader, model, int(prefix.name.rpartition("-")[2]))


def _restore(reader, model, images_seen):
    """Restores by name. `tf.train.Checkpoint.restore` fails where the rates decay now and did not then, or the reverse.

    A checkpoint of format 0 has no average of an encoder: the encoder's own weights start it, and
    `model.encoder_average_restored` says so. One of before format 2 has no count of the images, which were steps x batch: as many
    as its name says. Penalties that were not computed then start at 0, and the learning rates are those of the flags.
    """
    names = reader.get_variable_to_shape_map()
    there = [name for name in names if not re.fullmatch(NOT_RESTORED, name)]
    variables = {key(name): variable for name, variable in named_weights(model).items()}
    for name in ("generator_optimizer", "discriminator_optimizer"):
        optimizer, start = getattr(model, name), f"objective/{name}/_variables/"
        # Numbered from where the learning rate ends, which is among them where it does not decay.
        numbers = sorted(int(other.removeprefix(start).split("/")[0]) for other in there if other.startswith(start))
        moments = [v for v in optimizer.variables if v.name not in ("iteration", "learning_rate")]
        if len(numbers) != len(moments):
            raise ValueError(f"{len(numbers)} moments in {name}, expected {len(moments)}")
        variables |= {key(f"{name}/_variables/{number}"): moment for number, moment in zip(numbers, moments)}
        variables[key(f"{name}/_iterations")] = optimizer.iterations
    encoders = {name for name in variables if name.startswith("objective/ema_discriminator/")}
    optional = encoders | {key("images"), key("newest_penalties")}
    missing, more = variables.keys() - there, set(there) - variables.keys()
    if missing - optional or more - optional or 0 < len(encoders & missing) < len(encoders):
        raise ValueError(f"missing: {sorted(missing - optional)}, not expected: {sorted(more - optional)}")
    for name in names:
        value = reader.get_tensor(name)  # of what is not restored too: damage is noticed wherever it is
        if name in variables:
            variables[name].assign(value)
    if key("images") in missing:
        model.images.assign(images_seen)
    model.encoder_average_restored = not encoders & missing
    if encoders & missing:
        for average_weight, weight in zip(model.ema_discriminator.weights, model.discriminator.weights):
            average_weight.assign(weight)


def newest_finite(folder):
    """The newest checkpoint of a trained model without NaN and infinity, a path without ending, or None. All of it is read."""
    for number, prefix in reversed(stored(folder).items()):
        try:
            if number and _is_finite(prefix):
                return prefix
        except UNREADABLE:
            continue  # not readable: not the one to name
    return None


def _is_finite(prefix):
    with opened(prefix) as reader:
        return all(
            np.all(np.isfinite(reader.get_tensor(name)))
            for name, dtype in reader.get_variable_to_dtype_map().items()
            if dtype.is_floating
        )

"""A start from other weights: those of another run, taken by name and shape.

Generator and decoder are one class of network, discriminator and encoder another one but for the head, so a run may start from
one of another objective. Only the networks' weights are taken: optimizers, steps, images seen and moving averages start anew.
"""

import dataclasses
import os
from pathlib import Path

import numpy as np

from tfvae.command import UserError
from tfvae.config import Config, shown
from tfvae.networks.network import named_weights
from tfvae.training import run, store

NETWORKS = ("generator", "discriminator")


@dataclasses.dataclass(frozen=True)
class Source:
    """A checkpoint of a run.

    Attributes:
        place: as it was given, absolute. run: the run's folder. checkpoint: path without ending.
        average: take the moving average where a network has one.
        config: the run's. class_names: of its data.
    """

    place: Path
    run: Path
    checkpoint: Path
    average: bool
    config: Config
    class_names: list


def source_of(directory, place, average, overwrite):
    """The `Source` that a training in a folder starts from, or None where it starts from none or goes on with its own weights.

    Args:
        directory: `RunDirectory` of the training. place, average, overwrite: values of --init_from, None where it is not given,
            --init_average and --overwrite.

    Raises:
        UserError: there is no such source, or the run in the folder was begun from another one.
    """
    if directory.config_file.exists() and not overwrite:
        begun = directory.read_record()[0].get("init")
        if place and (not begun or os.path.abspath(place) != begun["from"] or average != begun["average"]):
            how = f"with --init_from={begun['from']}" if begun else "without --init_from"
            how += " --noinit_average" if begun and not begun["average"] else ""
            raise UserError(
                f"--init_from={place}: the run in {directory.path} was begun {how}. Expected the same or none to go on with it, "
                "or another --model_dir for a new run."
            )
        if not begun or store.stored(directory.checkpoints):
            return None
        place, average = begun["from"], begun["average"]  # it was killed before its first checkpoint
    return _find(Path(os.path.abspath(place)), average, directory, overwrite) if place else None


def _find(place, average, directory, overwrite):
    if place.is_dir():
        folder, checkpoint = place, None
    else:
        checkpoint = place.with_suffix("") if place.suffix == ".index" else place
        folder = place.parent.parent
        if not checkpoint.with_name(f"{checkpoint.name}.index").is_file():
            raise UserError(
                f"--init_from={place}: nothing is there. Expected the folder of a run of tfvae.train, or one of its checkpoints, "
                "such as runs/first/checkpoints/ckpt-64000."
            )
    if overwrite and folder == Path(os.path.abspath(directory.path)):
        raise UserError(
            f"--init_from={place} lies in the run that --overwrite would delete: expected another --model_dir."
        )
    source = run.RunDirectory(folder)
    if not source.config_file.is_file():
        raise UserError(f"--init_from={place}: expected the folder of a run of tfvae.train, with config.json in it.")
    record, config = source.read_record()
    trained = {images: prefix for images, prefix in store.stored(source.checkpoints).items() if images}
    if checkpoint is None and not trained:
        raise UserError(f"--init_from={place}: {source.checkpoints} holds no checkpoint of a trained model.")
    return Source(place, folder, checkpoint or trained[max(trained)], average, config, record["data"]["class_names"])


def give(source, model, config, class_names):
    """Gives a new model the weights of a source that have the name and the shape of its own.

    The vectors of classes are taken where the source has classes of these names.

    Args:
        source: a `Source`. model: an `Objective`, as it was made. config: its resolved configuration. class_names: of its data.

    Returns:
        (what config.json records, a dict; the table for people, str).

    Raises:
        UserError: the source has another architecture, none of its kernels fits, or it cannot be read.
    """
    record = {
        "from": str(source.place),
        "checkpoint": str(source.checkpoint),
        "average": source.average,
        "networks": {},
    }
    rows = []
    try:
        with store.opened(source.checkpoint) as reader:
            shapes, taken = reader.get_variable_to_shape_map(), {}
            for network in NETWORKS:
                averaged = source.average and any(name.startswith(f"objective/ema_{network}/") for name in shapes)
                there = f"ema_{network}" if averaged else network
                anew = {}
                weights = named_weights(getattr(model, network))
                for name, weight in weights.items():
                    key = store.key(f"{there}/{name}")
                    lines, reason = _fitting(name, list(weight.shape), shapes.get(key), source.class_names, class_names)
                    if reason:
                        anew[name] = reason
                        rows.append((network, name, list(weight.shape), shapes.get(key, ""), f"drawn anew: {reason}"))
                    else:
                        taken[network, name] = weight, key, lines
                fitting = [name for name in weights if name not in anew]
                numbers = sum(int(np.prod(weights[name].shape)) for name in fitting)
                rows.append(
                    (network, f"{len(fitting)} of {len(weights)} tensors", "", "", f"taken: {numbers:,} numbers")
                )
                record["networks"][network] = {
                    "weights": "moving average" if averaged else "of the last step",
                    "taken": fitting,
                    "drawn_anew": anew,
                }
            _check(source, config, taken)
            for weight, key, lines in taken.values():
                value = reader.get_tensor(key)
                weight.assign(value if lines is None else value[lines])
    except store.UNREADABLE as error:
        raise UserError(
            f"--init_from: checkpoint {source.checkpoint} cannot be read ({' '.join(str(error).split())[:200]}). Expected one "
            "that can; another one of the run can be given by its own path."
        ) from error
    model.start_averages()
    kinds = ", ".join(f"{network} {record['networks'][network]['weights']}" for network in NETWORKS)
    return record, "\n".join([f"Weights of {source.checkpoint} ({kinds}):", *_columns(rows)])


def _fitting(name, shape, there, classes_there, classes):
    """(rows to take of a table of classes, or None for the whole tensor; why it cannot be taken, or None)."""
    if there is None:
        return None, "not in the source"
    if name == "embedding/kernel" and list(classes_there) != list(classes):
        if not set(classes) <= set(classes_there) or shape[1:] != there[1:]:
            return None, "other classes" if shape[1:] == there[1:] else "another shape"
        return [list(classes_there).index(one) for one in classes], None
    return None, None if shape == there else "another shape"


def _check(source, config, taken):
    """Raises a UserError where the networks are of another kind, or so different that nothing is gained."""
    fitting = [f"{network}/{name} {list(weight.shape)}" for (network, name), (weight, *_) in taken.items()]
    more = f" and {len(fitting) - 5} more" if len(fitting) > 5 else ""
    told = f"fitting tensors: {', '.join(fitting[:5]) or 'none'}{more}"
    if source.config.architecture != config.architecture:
        raise UserError(
            f"--init_from={source.run} is a run of --architecture={source.config.architecture}, and this one is of "
            f"{config.architecture} ({told}). Expected the same architecture."
        )
    if not any(name.endswith("/kernel") for _, name in taken):
        sizes = ("base_channels", "channel_multipliers", "latent_dim", "resolution", "blocks_per_stage")
        differing = [
            f"--{size}={shown(getattr(source.config, size))} there and {shown(getattr(config, size))} here"
            for size in sizes
            if getattr(source.config, size) != getattr(config, size)
        ]
        raise UserError(
            f"--init_from={source.run}: no kernel has the shape of the one of its name ({told}; {', '.join(differing)}). "
            "Expected a run whose networks have some of the same widths."
        )


def _columns(rows):
    cells = [("network", "tensor", "here", "there", ""), *(tuple(map(str, row)) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(4)]
    return ["  " + "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[4]]) for row in cells]

"""The subcommands of `client.py`: their flags, and the files that they write."""

import argparse
import itertools
import json
import math
import pathlib
import re

import numpy as np
import pictures
from pictures import NO_TRUNCATION
from PIL import Image
from transport import EndpointError

# Flags of `interpolate` for latents that are drawn; with --between there are none.
DRAWN = {"seed": 0, "rows": 4, "truncation": NO_TRUNCATION}


def command_sample(model, flags):
    seeds = range(flags.seed, flags.seed + flags.count)
    labels = classes_of(model, flags.label)
    # One class per row; without, a square.
    columns = flags.count if len(labels) > 1 else math.isqrt(flags.count - 1) + 1
    rows = list(itertools.product(labels, seeds))
    pngs = model.sample([seed for _, seed in rows], labels_of_rows(labels, flags.count), flags.truncation)
    names = [
        f"seed{seed}{'' if label is None else f'_label{label}'}_truncation{flags.truncation:g}.png"
        for label, seed in rows
    ]
    write_pictures(flags, names, pngs, columns)


def command_interpolate(model, flags):
    labels = classes_of(model, flags.label)
    if flags.between:
        means = model.encode(read(model, flags.between, flags.background))[0]
        pairs = [(means[0], means[1])]
    else:
        ends = pictures.latents(range(flags.seed, flags.seed + flags.rows + 1), model.latent_dim, flags.truncation)
        pairs = list(zip(ends[:-1], ends[1:]))
    ways = np.concatenate([pictures.interpolate(start, end, flags.steps) for start, end in pairs])
    images = model.decode(np.tile(ways, (len(labels), 1)), labels_of_rows(labels, len(ways)))
    names = [
        f"row{row}_step{step}{label}.png"
        for label in parts_of_names(labels)
        for row in range(len(pairs))
        for step in range(flags.steps)
    ]
    write_pictures(flags, names, list(images), flags.steps)


def command_encode(model, flags):
    means, log_variances = model.encode(read(model, flags.pictures, flags.background))
    rows = [
        {"picture": str(path), "mean": mean.tolist(), "log_variance": log_variance.tolist()}
        for path, mean, log_variance in zip(flags.pictures, means, log_variances)
    ]
    text = json.dumps(rows) + "\n"
    if flags.output is None:
        print(text, end="")
    else:
        pictures.write({flags.output: text.encode()}, flags.overwrite)


def command_reconstruct(model, flags):
    labels = classes_of(model, flags.label)
    images = read(model, flags.pictures, flags.background)
    pngs = model.reconstruct(np.tile(images, (len(labels), 1, 1, 1)), labels_of_rows(labels, len(images)))
    if flags.output.suffix == ".png":  # each picture above its reconstructions, one class per row
        whole = pictures.sheet([*images, *pngs], len(images))
        pictures.write({flags.output: pictures.png_of(whole)}, flags.overwrite)
    else:
        names = [
            f"{place}_{path.stem}{label}_reconstruction.png"
            for label in parts_of_names(labels)
            for place, path in enumerate(flags.pictures)
        ]
        write_pictures(flags, names, pngs, 1)


def command_status(model, flags):
    for version, state, message in model.status():
        print(f"version {version}: {state}{f' ({message})' if message else ''}")


def command_wait(model, flags):
    print(f"version {model.wait(flags.wait_seconds)}: AVAILABLE")


def read(model, paths, background):
    """Picture files as the model takes them, uint8 [N, R, R, 3]."""
    return np.stack([pictures.read(path, model.resolution, background) for path in paths])


def classes_of(model, given):
    """The classes to draw: as given, [0] where none was, [None] for a model without."""
    if model.has_labels:
        return given or [0]
    if given:
        raise EndpointError(f"{model.name} knows no classes: leave --label out.")
    return [None]


def labels_of_rows(labels, each):
    """A label for each of `each` pictures of one class, then of the next; None for a model without."""
    return None if labels == [None] else [label for label in labels for _ in range(each)]


def parts_of_names(labels):
    """What tells the files of one class from those of another: nothing where there is one class."""
    return [f"_label{label}" for label in labels] if len(labels) > 1 else [""]


def write_pictures(flags, names, drawn, columns):
    """One sheet where --output ends in .png, else one file per picture in that folder."""
    if flags.output.suffix == ".png":
        files = {flags.output: pictures.png_of(pictures.sheet(drawn, columns))}
    else:
        pngs = [part if isinstance(part, bytes) else pictures.png_of(Image.fromarray(part)) for part in drawn]
        files = {flags.output / name: png for name, png in zip(names, pngs)}
    pictures.write(files, flags.overwrite)


def parse(arguments):
    """The command line as flags; ends the process on --help and on flags that do not fit."""
    parser = argparse.ArgumentParser(description="Draws from a served model.", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(run, help_text):
        name = run.__name__.removeprefix("command_")
        sub = commands.add_parser(name, help=help_text, description=f"{help_text.capitalize()}.", allow_abbrev=False)
        sub.set_defaults(run=run)
        sub.add_argument(
            "--url", default="http://localhost:8501", help="http://HOST:PORT or grpc://HOST:PORT; default: %(default)s"
        )
        sub.add_argument("--model", required=True, help="name at the endpoint")
        sub.add_argument("--version", type=whole, help="version number; default: the newest that is loaded")
        sub.add_argument("--version_label", help="version by its label, such as stable")
        sub.add_argument(
            "--timeout_seconds",
            type=above_zero,
            default=60.0,
            help="of one whole request, in seconds; default: %(default)g",
        )
        if run is command_wait:
            sub.set_defaults(retries=0)  # it asks again by itself
        else:
            sub.add_argument(
                "--retries",
                type=whole,
                default=5,
                help="further tries while the endpoint is busy; default: %(default)s",
            )
        return sub

    def output(sub, help_text, required=True):
        sub.add_argument("--output", type=path, required=required, help=help_text)
        sub.add_argument("--overwrite", action="store_true", help="replace files that are there")

    def background(sub, default):
        text = "colour behind transparent pictures: a name or #rrggbb; default: white"
        sub.add_argument("--background", type=colour, default=default, help=text)

    where = "sheet.png for one sheet, else a folder for one file per picture"
    cut = "latents stay within +- this, above 0; 0.5 is typical, 8 cuts nothing; default: %(default)g"

    sub = command(command_sample, "draw the pictures of seeds")
    sub.add_argument(
        "--seed", type=whole, default=0, help="of the first picture; the others follow; default: %(default)s"
    )
    sub.add_argument("--count", type=one_or_more, default=16, help="pictures (of each class); default: %(default)s")
    sub.add_argument("--label", type=classes, help="class, or several such as 0,1,2: one per row; default: 0")
    sub.add_argument("--truncation", type=above_zero, default=NO_TRUNCATION, help=cut)
    output(sub, where)

    sub = command(command_interpolate, "draw the way from one latent to the next")
    sub.add_argument(
        "--seed", type=whole, help="of the first row's first latent, drawn here and not as by sample; default: 0"
    )
    sub.add_argument(
        "--rows", type=one_or_more, help="(of each class) each begins where the one above ends; default: 4"
    )
    sub.add_argument(
        "--steps", type=two_or_more, default=8, help="pictures per row, both ends included; default: %(default)s"
    )
    sub.add_argument(
        "--between",
        nargs=2,
        type=path,
        metavar="PICTURE",
        help="one row between two picture files (encoder needed), in place of --seed, --rows and --truncation",
    )
    background(sub, None)
    sub.add_argument("--label", type=classes, help="class, or several such as 0,1,2: all rows for each; default: 0")
    sub.add_argument("--truncation", type=above_zero, help=cut % {"default": NO_TRUNCATION})
    output(sub, where)

    sub = command(command_encode, "show the latents that a VAE's encoder gives to pictures")
    sub.add_argument("pictures", nargs="+", type=path, help="picture files; cropped and resized where needed")
    background(sub, pictures.WHITE)
    output(sub, "JSON file; default: standard output", required=False)

    sub = command(command_reconstruct, "draw what a VAE keeps of pictures")
    sub.add_argument("pictures", nargs="+", type=path, help="picture files; cropped and resized where needed")
    background(sub, pictures.WHITE)
    sub.add_argument(
        "--label", type=classes, help="class to decode with, or several such as 0,1,2: one per row; default: 0"
    )
    output(sub, where)

    command(command_status, "show the versions and their states")
    sub = command(command_wait, "wait until a version is AVAILABLE")
    sub.add_argument("--wait_seconds", type=above_zero, default=120.0, help="at most, in seconds; default: %(default)g")

    flags = parser.parse_args(arguments)
    if flags.command == "interpolate":
        unused = [*DRAWN] if flags.between else ["background"]
        given = [name for name in unused if getattr(flags, name) is not None]
        if given:
            why = "goes with --between alone" if given == ["background"] else "has no use with --between"
            commands.choices["interpolate"].error(f"--{given[0]} {why}: leave one of them out")
        for name, default in (DRAWN | {"background": pictures.WHITE}).items():
            if getattr(flags, name) is None:
                setattr(flags, name, default)
    if flags.command == "sample" and flags.seed + flags.count > 2**63:
        commands.choices["sample"].error(f"--seed={flags.seed} --count={flags.count}: the largest seed is {2**63 - 1}")
    if flags.command == "encode" and flags.overwrite and flags.output is None:
        commands.choices["encode"].error("--overwrite goes with --output: leave it out")
    return flags


def whole(text, least=0, beyond=2**63):
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number, {least} or more")
    if int(text) >= beyond:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number, {beyond - 1} at most")
    return int(text)


def one_or_more(text):
    return whole(text, 1)


def two_or_more(text):
    return whole(text, 2)


def classes(text):
    return [whole(part, beyond=2**31) for part in text.split(",")]


def above_zero(text):
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (number > 0 and math.isfinite(number)):
        raise argparse.ArgumentTypeError(f"{text}: expected a number above 0")
    return number


def path(text):
    """A path as people write it; the same rule and words as `tfvae.command.path`'s."""
    if re.match(r"[a-z][a-z0-9+.-]*:/{1,2}", text, re.IGNORECASE):
        raise argparse.ArgumentTypeError(
            f"{text}: URLs are neither read nor written: expected a path on a disk of this machine."
        )
    try:
        return pathlib.Path(text).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{text}: that home folder is not known: expected the whole path.") from error


def colour(text):
    try:
        return pictures.colour(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error

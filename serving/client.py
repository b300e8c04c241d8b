"""Draws from a served model, by TF Serving's REST or gRPC API; a library and a command.

python serving/client.py sample --model=cifar10_gan --seed=0 --count=16 --label=3 --output=sheet.png

    model = client.Model("http://localhost:8501", "cifar10_gan")
    pngs = model.sample(seeds=[0, 1, 2], labels=[3, 3, 3], truncation=1.0)

Needs NumPy and Pillow. Over gRPC (--url=grpc://localhost:8500) also tensorflow-serving-api, and TensorFlow with it, because its
messages are made of TensorFlow's; over REST neither is touched.
"""

import argparse
import itertools
import json
import math
import pathlib
import random
import sys
import time

import numpy as np
import pictures
from pictures import NO_TRUNCATION
from PIL import Image
from transport import Away, Busy, EndpointError, NotFound, connect

# Rows per request: a server that batches refuses more than its max_batch_size (batching.txt).
MOST_ROWS = 32
FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 0.25, 4.0


class Model:
    """A served model.

    Args:
        url: http:// or https:// for REST, grpc:// or grpcs:// for gRPC, with host and port.
        name: the model's name at the endpoint.
        version: a version's number, or None for the newest that is loaded.
        version_label: a version's label, such as "stable", or None.
        timeout_seconds: of one request.
        retries: further tries, with growing pauses, while the endpoint is busy.

    Raises:
        EndpointError: of every method, in one line, for all that goes wrong between here and the model.
    """

    def __init__(self, url, name, version=None, version_label=None, timeout_seconds=60.0, retries=5):
        if version is not None and version_label is not None:
            raise EndpointError("a version and a version label were given: expected one of them.")
        self.name, self.retries = name, retries
        self._endpoint = connect(url, name, version, version_label, timeout_seconds)
        self._signatures = None

    def status(self):
        """[(version, state, error message), …], newest first; state: START, LOADING, AVAILABLE, UNLOADING or END."""
        return sorted(self._patiently(self._endpoint.status), reverse=True)

    def wait(self, wait_seconds=120.0):
        """Returns the newest version that is AVAILABLE, as soon as there is one."""
        end, last = time.monotonic() + wait_seconds, "no answer yet"
        while True:
            try:
                versions = self.status()
                ready = [version for version, state, _ in versions if state == "AVAILABLE"]
                if ready:
                    return ready[0]
                last = "; ".join(f"version {row[0]} is {row[1]} {row[2]}".strip() for row in versions)
            except (Away, Busy, NotFound) as error:  # not yet
                last = str(error)
            if time.monotonic() > end:
                raise EndpointError(f"{self.name} is not available after {wait_seconds:g} s: {last}")
            time.sleep(0.5)

    @property
    def has_labels(self):
        return "label" in self._signature("sample")[0]

    @property
    def latent_dim(self):
        return self._signature("decode")[0]["z"][-1]

    @property
    def resolution(self):
        """Side in px of the pictures that a model with an encoder takes."""
        return self._signature("reconstruct")[0]["image"][1]

    def sample(self, seeds, labels=None, truncation=NO_TRUNCATION):
        """The pictures of seeds, as PNG files.

        Args:
            seeds: N whole numbers, 0 or more.
            labels: N classes; None for a model without labels.
            truncation: more than 0: latents stay within +-truncation.

        Returns:
            list of N bytes.
        """
        limit = np.float32(truncation)
        if not (limit > 0 and np.isfinite(limit)):
            raise EndpointError(f"truncation {truncation}: expected a number above 0, such as 0.5, 1 or 2.")
        inputs = {"seed": np.asarray(seeds, np.int64), "truncation": np.full(len(seeds), limit)}
        return self._pngs("sample", inputs, labels)

    def decode(self, latents, labels=None):
        """The pictures of latents, float32 [N, latent_dim], with N classes or None: uint8 [N, R, R, 3]."""
        inputs = {"z": np.asarray(latents, np.float32)}
        images = np.asarray(self._rows("decode", inputs, labels)["image"], np.uint8)
        self._check(images.any(axis=(1, 2, 3)), labels)  # a row that cannot be drawn is black
        return images

    def encode(self, images):
        """What the encoder sees in pictures, uint8 [N, R, R, 3]: (mean, log variance), float32 [N, latent_dim] each."""
        outputs = self._rows("encode", {"image": np.asarray(images, np.uint8)})
        return tuple(np.asarray(outputs[name], np.float32) for name in ("mean", "log_variance"))

    def reconstruct(self, images, labels=None):
        """What encoder and decoder make of pictures, uint8 [N, R, R, 3], with N classes or None: list of N PNG files."""
        return self._pngs("reconstruct", {"image": np.asarray(images, np.uint8)}, labels)

    def _signature(self, name):
        """({input: shape}, [output, …]), read from the endpoint once."""
        if self._signatures is None:
            self._signatures = self._patiently(self._endpoint.signatures)
        if name not in self._signatures:
            needs = ", which needs a model with an encoder, such as a VAE" if name in ("encode", "reconstruct") else ""
            raise EndpointError(f"{self.name} has no {name!r}{needs}. It has {', '.join(sorted(self._signatures))}.")
        return self._signatures[name]

    def _rows(self, signature, inputs, labels=None):
        """A signature's outputs, {name: list of rows}, for any number of rows."""
        wanted, names = self._signature(signature)
        if labels is None and "label" in wanted:
            raise EndpointError(f"{self.name} draws by class: expected a label for each picture.")
        if labels is not None and "label" not in wanted:
            raise EndpointError(f"{self.name} knows no classes: leave the label out.")
        if labels is not None:
            inputs = inputs | {"label": np.asarray(labels, np.int32)}
        outputs = {name: [] for name in names}
        for start in range(0, len(next(iter(inputs.values()))), MOST_ROWS):
            part = {name: value[start : start + MOST_ROWS] for name, value in inputs.items()}
            answer = self._patiently(lambda part=part: self._endpoint.predict(signature, part))
            if not isinstance(answer, dict):  # REST drops the name of an only output
                answer = {names[0]: answer}
            for name, value in answer.items():
                outputs[name].extend(value)
        return outputs

    def _pngs(self, signature, inputs, labels):
        pngs = self._rows(signature, inputs, labels)["image_bytes"]
        self._check(pngs, labels)  # a row that cannot be drawn is empty
        return pngs

    def _check(self, drawn, labels):
        """A bad row is known by its result: an error of the model's would fail the other rows of its batch."""
        for row, good in enumerate(drawn):
            if not good:
                given = "" if labels is None else f" with class {int(labels[row])}"
                raise EndpointError(
                    f"{self.name} refused picture {row}{given}: expected a class that it knows, counted from 0."
                )

    def _patiently(self, call):
        pause = FIRST_RETRY_SECONDS
        for left in range(self.retries, -1, -1):
            try:
                return call()
            except Busy as error:
                if not left:
                    raise Busy(
                        f"{error}; gave up after {self.retries + 1} tries. Try later, or with more --retries."
                    ) from error
            # By chance, so that not all clients come back at the same moment.
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(2 * pause, LONGEST_RETRY_SECONDS)


# The command.


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
        means = model.encode(np.stack([pictures.read(path, model.resolution) for path in flags.between]))[0]
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
    means, log_variances = model.encode(np.stack([pictures.read(path, model.resolution) for path in flags.pictures]))
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
    images = np.stack([pictures.read(path, model.resolution) for path in flags.pictures])
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
            "--timeout_seconds", type=above_zero, default=60.0, help="of one request, in seconds; default: %(default)g"
        )
        sub.add_argument(
            "--retries", type=whole, default=5, help="further tries while the endpoint is busy; default: %(default)s"
        )
        return sub

    def output(sub, help_text, required=True):
        sub.add_argument("--output", type=pathlib.Path, required=required, help=help_text)
        sub.add_argument("--overwrite", action="store_true", help="replace files that are there")

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
        "--seed",
        type=whole,
        default=0,
        help="of the first row's first latent, drawn here and not as by sample; default: %(default)s",
    )
    sub.add_argument(
        "--rows",
        type=one_or_more,
        default=4,
        help="(of each class) each begins where the one above ends; default: %(default)s",
    )
    sub.add_argument(
        "--steps", type=two_or_more, default=8, help="pictures per row, both ends included; default: %(default)s"
    )
    sub.add_argument(
        "--between",
        nargs=2,
        type=pathlib.Path,
        metavar="PICTURE",
        help="one row between two picture files (encoder needed)",
    )
    sub.add_argument("--label", type=classes, help="class, or several such as 0,1,2: all rows for each; default: 0")
    sub.add_argument("--truncation", type=above_zero, default=NO_TRUNCATION, help=cut)
    output(sub, where)

    sub = command(command_encode, "show the latents that a VAE's encoder gives to pictures")
    sub.add_argument("pictures", nargs="+", type=pathlib.Path, help="picture files; cropped and resized where needed")
    output(sub, "JSON file; default: standard output", required=False)

    sub = command(command_reconstruct, "draw what a VAE keeps of pictures")
    sub.add_argument("pictures", nargs="+", type=pathlib.Path, help="picture files; cropped and resized where needed")
    sub.add_argument(
        "--label", type=classes, help="class to decode with, or several such as 0,1,2: one per row; default: 0"
    )
    output(sub, where)

    command(command_status, "show the versions and their states")
    sub = command(command_wait, "wait until a version is AVAILABLE")
    sub.add_argument("--wait_seconds", type=above_zero, default=120.0, help="at most, in seconds; default: %(default)g")
    return parser.parse_args(arguments)


def whole(text, least=0):
    if not text.isdecimal() or not least <= int(text) < 2**63:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number, {least} or more")
    return int(text)


def one_or_more(text):
    return whole(text, 1)


def two_or_more(text):
    return whole(text, 2)


def classes(text):
    """Classes as int32 holds them: whether the model knows them, it says itself."""
    return [min(whole(part), 2**31 - 1) for part in text.split(",")]


def above_zero(text):
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (number > 0 and math.isfinite(number)):
        raise argparse.ArgumentTypeError(f"{text}: expected a number above 0")
    return number


def main(arguments=None):
    """Runs the command line; returns the exit code."""
    flags = parse(arguments)
    try:
        model = Model(flags.url, flags.model, flags.version, flags.version_label, flags.timeout_seconds, flags.retries)
        flags.run(model, flags)
    except EndpointError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error}: expected a place that can be written to.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

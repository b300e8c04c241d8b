"""Draws from a served model, by TF Serving's REST or gRPC API; a library and a command.

python serving/client.py sample --model=cifar10_gan --seed=0 --count=16 --label=3 --output=sheet.png

    model = client.Model("http://localhost:8501", "cifar10_gan")
    pngs = model.sample(seeds=[0, 1, 2], labels=[3, 3, 3], truncation=1.0)

Needs NumPy, Pillow and, over REST, aiohttp. Over gRPC (--url=grpc://localhost:8500) it needs tensorflow-serving-api in place of
aiohttp, and TensorFlow with it, because its messages are made of TensorFlow's; over REST neither is touched.
"""

import random
import sys
import time

import commands
import numpy as np
import pictures
from pictures import NO_TRUNCATION
from transport import Away, Busy, EndpointError, NotFound, Slow, connect

# Rows per request: a server that batches refuses more than its max_batch_size (batching.txt).
MOST_ROWS = 32
# Bytes per request: the stand-in takes 32 MiB, and the proxies of README.md 32 MiB or 32 MB.
MOST_BYTES = 32_000_000
FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 0.25, 4.0


class Model:
    """A served model.

    Args:
        url: http:// or https:// for REST, grpc:// or grpcs:// for gRPC, with host and port.
        name: the model's name at the endpoint.
        version: a version's number, or None for the newest that is loaded.
        version_label: a version's label, such as "stable", or None.
        timeout_seconds: of one request, as a whole.
        retries: further tries, with growing pauses, while the endpoint is busy.

    Raises:
        EndpointError: of every method, in one line, for all that goes wrong between here and the model.
    """

    def __init__(self, url, name, version=None, version_label=None, timeout_seconds=60.0, retries=5):
        if version is not None and version_label is not None:
            raise EndpointError("a version and a version label were given: expected one of them.")
        for what, text in (("model", name), ("version_label", version_label)):
            if text is not None or what == "model":
                _check_name(what, text)
        if version is not None:
            version = int(_whole("version", [version], 2**63)[0])
        self.name, self.retries = name, int(_whole("retries", [retries], 2**31)[0])
        self.timeout_seconds = _above_zero("timeout_seconds", timeout_seconds)
        self._endpoint = connect(url, name, version, version_label)
        self._signatures = None

    def status(self):
        """[(version, state, error message), …], newest first; state: START, LOADING, AVAILABLE, UNLOADING or END."""
        return sorted(self._patiently(lambda: self._endpoint.status(self.timeout_seconds)), reverse=True)

    def wait(self, wait_seconds=120.0):
        """Returns the newest version that is AVAILABLE, as soon as there is one."""
        end, last = time.monotonic() + _above_zero("wait_seconds", wait_seconds), "no answer yet"
        while (left := end - time.monotonic()) > 0:
            try:
                versions = sorted(self._endpoint.status(min(left, self.timeout_seconds)), reverse=True)
                ready = [version for version, state, _ in versions if state == "AVAILABLE"]
                if ready:
                    return ready[0]
                last = "; ".join(f"version {row[0]} is {row[1]} {row[2]}".strip() for row in versions)
            except (Away, Busy, NotFound) as error:  # not yet
                if not isinstance(error, Slow) or left > self.timeout_seconds:
                    last = str(error)
            time.sleep(max(0.0, min(0.5, end - time.monotonic())))
        raise EndpointError(f"{self.name} is not available after {wait_seconds:g} s: {last}")

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
            seeds: N whole numbers from 0 to 2**63 - 1. These, labels, latents and images: an array, a list or a generator.
            labels: N classes; None for a model without labels.
            truncation: more than 0: latents stay within +-truncation.

        Returns:
            list of N bytes.
        """
        limit = _above_zero("truncation", truncation, np.float32)
        seeds = _whole("seeds", seeds, 2**63).astype(np.int64)
        return self._pngs("sample", {"seed": seeds, "truncation": np.full(len(seeds), limit)}, labels)

    def decode(self, latents, labels=None):
        """The pictures of latents, float32 [N, latent_dim], with N classes or None: uint8 [N, R, R, 3]."""
        expected = "finite numbers that float32 holds"
        latents = _array("latents", latents, expected)
        with np.errstate(over="ignore"):
            latents = latents.astype(np.float32)
        if not np.isfinite(latents).all():
            raise EndpointError(f"latents: expected {expected}.")
        outputs, labels = self._rows("decode", {"z": latents}, labels)
        images = np.asarray(outputs["image"], np.uint8)
        self._check(images.any(axis=(1, 2, 3)), labels)  # a row that cannot be drawn is black
        return images

    def encode(self, images):
        """What the encoder sees in pictures, uint8 [N, R, R, 3]: (mean, log variance), float32 [N, latent_dim] each."""
        outputs, _ = self._rows("encode", {"image": _whole("pixels", images, 256).astype(np.uint8)})
        return tuple(np.asarray(outputs[name], np.float32) for name in ("mean", "log_variance"))

    def reconstruct(self, images, labels=None):
        """What encoder and decoder make of pictures, uint8 [N, R, R, 3], with N classes or None: list of N PNG files."""
        return self._pngs("reconstruct", {"image": _whole("pixels", images, 256).astype(np.uint8)}, labels)

    def _signature(self, name):
        """({input: shape}, [output, …]), read from the endpoint once."""
        if self._signatures is None:
            self._signatures = self._patiently(lambda: self._endpoint.signatures(self.timeout_seconds))
        if name not in self._signatures:
            needs = ", which needs a model with an encoder, such as a VAE" if name in ("encode", "reconstruct") else ""
            raise EndpointError(f"{self.name} has no {name!r}{needs}. It has {', '.join(sorted(self._signatures))}.")
        return self._signatures[name]

    def _rows(self, signature, inputs, labels=None):
        """A signature's outputs, {name: list of rows}, for any number of rows, and the labels as an array or None."""
        if labels is not None:
            labels = _whole("labels", labels, 2**31).astype(np.int32)
        wanted, names = self._signature(signature)
        if labels is None and "label" in wanted:
            raise EndpointError(f"{self.name} draws by class: expected a label for each picture.")
        if labels is not None and "label" not in wanted:
            raise EndpointError(f"{self.name} knows no classes: leave the label out.")
        if labels is not None:
            inputs = inputs | {"label": labels}
        rows = len(next(iter(inputs.values())))
        for name, value in inputs.items():
            expected = (rows, *wanted[name][1:])
            if value.shape != expected:
                raise EndpointError(f"{name} has shape {list(value.shape)}: {self.name} takes {list(expected)}.")
        outputs = {name: [] for name in names}
        step = max(1, min(MOST_ROWS, (MOST_BYTES - 1000) // self._endpoint.row_bytes(inputs)))
        for start in range(0, rows, step):
            part = {name: value[start : start + step] for name, value in inputs.items()}
            answer = self._patiently(lambda part=part: self._endpoint.predict(signature, part, self.timeout_seconds))
            if not isinstance(answer, dict):  # REST drops the name of an only output
                answer = {names[0]: answer}
            for name, value in answer.items():
                outputs[name].extend(value)
        return outputs, labels

    def _pngs(self, signature, inputs, labels):
        outputs, labels = self._rows(signature, inputs, labels)
        pngs = outputs["image_bytes"]
        self._check(pngs, labels)  # a row that cannot be drawn is empty
        return pngs

    def _check(self, drawn, labels):
        """A bad row is known by its result: an error of the model's would fail the other rows of its batch."""
        for row, good in enumerate(drawn):
            if not good:
                given = "" if labels is None else f" with class {labels[row]}"
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
            # Random, so that not all clients come back at the same moment.
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(2 * pause, LONGEST_RETRY_SECONDS)


def _array(what, values, expected):
    """An array, a list or a generator of numbers as an array [N, …] with N > 0."""
    try:
        array = np.asarray(values if hasattr(values, "__array__") else list(values))
    except (TypeError, ValueError, OverflowError) as error:
        raise EndpointError(f"{what}: expected a list of {expected} ({' '.join(str(error).split())[:100]}).") from error
    if array.ndim == 0 or array.size == 0 or array.dtype.kind not in "iuf":
        got = "none" if array.size == 0 else f"values of type {array.dtype}"
        raise EndpointError(f"{what}: expected a list of {expected}, got {got}.")
    return array


def _whole(what, values, beyond):
    """An array [N, …] of whole numbers from 0 to under `beyond`, which may be given as floats that are whole."""
    expected = f"whole numbers from 0 to {beyond - 1}"
    array = _array(what, values, expected)
    good = (array >= 0) & (array < beyond)
    if array.dtype.kind == "f":
        good &= array == np.floor(array)
    if not good.all():
        raise EndpointError(f"{what}: {array[~good][0]} was given: expected {expected}.")
    return array


def _check_name(what, text):
    try:
        good = bool(text.encode())
    except (AttributeError, UnicodeEncodeError):
        good = False
    if not good:
        raise EndpointError(f"{what} {text!r}: expected the name that it has at the endpoint.")


def _above_zero(what, value, kind=float):
    try:
        with np.errstate(over="ignore"):
            number = kind(value)
        good = number > 0 and np.isfinite(number)
    except (TypeError, ValueError, OverflowError):
        good = False
    if not good:
        raise EndpointError(f"{what} {value}: expected a number above 0, such as 0.5, 1 or 2.")
    return number


def main(arguments=None):
    """Runs the command line; returns the exit code."""
    flags = commands.parse(arguments)
    try:
        if output := getattr(flags, "output", None):
            is_file = flags.command == "encode" or output.suffix == ".png"
            pictures.check_output(output, is_file, flags.overwrite)
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

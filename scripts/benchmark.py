"""Measures training: step speed against the machine's own convolution peak, input pipeline, start-up, memory.

python scripts/benchmark.py --output=benchmark.json

One row for each architecture, objective, precision and width, each in a process of its own. The FLOP/s of a step are those
that the tables of the networks define: (forward passes + 2 a backward pass through weights, 1 through inputs alone) of
convolutions and linear layers. Resampling is folded into convolutions, which takes fewer; "executed" counts what runs.
The peak is the best FLOP/s of one 3 x 3 convolution among a few sizes, in the same process, before and after the steps.
"""

import itertools
import json
import pathlib
import resource
import statistics
import subprocess
import sys
import time

STARTED = time.perf_counter()

from absl import app, flags  # noqa: E402 (the clock starts before the libraries load)

ARCHITECTURES = flags.DEFINE_list("architectures", ["biggan", "biggan_deep"], "Networks.")
OBJECTIVES = flags.DEFINE_list("objectives", ["gan", "vae"], "Objectives.")
PRECISIONS = flags.DEFINE_list("precisions", ["float32", "mixed_bfloat16"], "Arithmetic.")
WIDTHS = flags.DEFINE_list("base_channels", ["32", "96"], "Widths (ch).")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Images a discriminator or encoder step.", lower_bound=1)
DISCRIMINATOR_STEPS = flags.DEFINE_integer("discriminator_steps", 2, "Of the GAN, a generator step.", lower_bound=1)
STEPS = flags.DEFINE_integer("steps", 5, "Timed train steps, after two untimed ones; the median counts.", lower_bound=1)
OUTPUT = flags.DEFINE_string("output", None, "JSON file for the rows. Default: none.")
ROW = flags.DEFINE_string(
    "row", None, "One row as architecture,objective,precision,ch: measured here, printed as JSON."
)


def convolution_peak(dtype):
    """FLOP/s of the fastest of a few 3 x 3 convolutions: their best of several runs."""
    import tensorflow as tf

    best = 0.0
    for channels, size, batch in ((256, 16, 32), (384, 16, 64), (192, 32, 32)):
        image = tf.cast(tf.random.normal([batch, size, size, channels]), dtype)
        kernel = tf.cast(tf.random.normal([3, 3, channels, channels]), dtype)
        convolve = tf.function(lambda x, k: tf.nn.conv2d(x, k, 1, "SAME"), autograph=False)
        convolve(image, kernel)
        for _ in range(3):
            start = time.perf_counter()
            for _ in range(3):
                result = convolve(image, kernel)
            result[0, 0, 0, 0].numpy()  # waits for the device
            seconds = (time.perf_counter() - start) / 3
            best = max(best, 2 * 9 * channels * channels * size * size * batch / seconds)
    return best


def random_split(number=50_000):
    """CIFAR-10's size, random pixels: nothing is downloaded."""
    import numpy as np

    from tfvae.data.split import Split

    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (number, 32, 32, 3), dtype=np.uint8)
    return Split("random", "train", 32, number, 0, (), pixels, np.zeros(number, np.int32))


def step_flops(settings, model, executed):
    """FLOPs of one train step over the global batch."""
    from tfvae.networks.layers import flops_per_image

    generator = flops_per_image(model.generator, executed) * settings.batch_size
    discriminator = flops_per_image(model.discriminator, executed) * settings.batch_size
    if settings.objective == "vae":
        return 3 * (generator + discriminator)
    # A discriminator step: draw, then forward and backward on real and drawn pictures. A generator step: forward and
    # backward through both, but no gradient for the discriminator's weights.
    return settings.discriminator_steps * (generator + 6 * discriminator) + 3 * generator + 2 * discriminator


def measure_row(architecture, objective, precision, base_channels):
    """One row as a dict: speeds a second, times in seconds, memory in MB."""
    import tensorflow as tf

    from tfvae import experiment
    from tfvae.config import Config

    split = random_split(2_000)
    settings = Config(
        architecture=architecture,
        objective=objective,
        precision=precision,
        base_channels=int(base_channels),
        batch_size=BATCH_SIZE.value,
        discriminator_steps=DISCRIMINATOR_STEPS.value,
        dataset="random",
        strategy="one",
    ).resolve(split)
    strategy = experiment.make_strategy(settings)
    with strategy.scope():
        model = experiment.make_objective(settings, 0)
    dataset = strategy.distribute_datasets_from_function(lambda context: split.batches(settings.batch_size, 0))
    iterator, train = iter(dataset), model.make_train_function()

    def step():
        start = time.perf_counter()
        logs = train(iterator)
        next(iter(logs.values())).numpy()  # waits for the device
        return time.perf_counter() - start

    step()
    first_step = time.perf_counter() - STARTED
    step()
    # ru_maxrss is in kB on Linux.
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    if tf.config.list_physical_devices("GPU"):
        memory = tf.config.experimental.get_memory_info("GPU:0")["peak"] / 1e6
    dtype = "float32" if precision == "float32" else "bfloat16"
    peak = convolution_peak(dtype)
    seconds = statistics.median(step() for _ in range(STEPS.value))
    peak = max(peak, convolution_peak(dtype))
    flops, executed = (step_flops(settings, model, executed) / seconds for executed in (False, True))
    return {
        "architecture": architecture,
        "objective": objective,
        "precision": precision,
        "base_channels": int(base_channels),
        "images_per_second": settings.images_per_step / seconds,
        "step_seconds": seconds,
        "gflop_per_second": flops / 1e9,
        "peak_gflop_per_second": peak / 1e9,
        "share_of_peak": flops / peak,
        "executed_share_of_peak": executed / peak,
        "start_to_first_step_seconds": first_step,
        "peak_memory_mb": memory,
    }


def measure_pipeline(batch_size, seconds=5.0):
    """Images/s that the in-memory input pipeline delivers."""
    iterator = iter(random_split().batches(batch_size, 0))
    for _ in range(20):
        next(iterator)
    start, batches = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        next(iterator)
        batches += 1
    return batches * batch_size / (time.perf_counter() - start)


def main(argv):
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
    if ROW.value:
        print(json.dumps(measure_row(*ROW.value.split(","))))
        return
    rows = []
    header = f"{'networks':<12} {'objective':<9} {'precision':<14} {'ch':>3} {'images/s':>9} {'GFLOP/s':>8} {'peak':>7}"
    print(f"{header} {'share':>6} {'executed':>8} {'first step':>10} {'memory':>9}", flush=True)
    choices = itertools.product(PRECISIONS.value, WIDTHS.value, ARCHITECTURES.value, OBJECTIVES.value)
    for precision, width, architecture, objective in choices:
        same = [f"--{name}={flags.FLAGS[name].value}" for name in ("batch_size", "discriminator_steps", "steps")]
        command = [sys.executable, __file__, f"--row={architecture},{objective},{precision},{width}", *same]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            sys.exit(f"error: {' '.join(command)} failed:\n{result.stderr[-2000:]}")
        row = json.loads(result.stdout.splitlines()[-1])
        rows.append(row)
        print(
            f"{architecture:<12} {objective:<9} {precision:<14} {width:>3} {row['images_per_second']:9.1f} "
            f"{row['gflop_per_second']:8.0f} {row['peak_gflop_per_second']:7.0f} {row['share_of_peak']:6.0%} "
            f"{row['executed_share_of_peak']:8.0%} {row['start_to_first_step_seconds']:8.1f} s {row['peak_memory_mb']:6.0f} MB",
            flush=True,
        )
    pipeline = {str(batch): measure_pipeline(batch) for batch in (64, 512)}
    speeds = ", ".join(f"{speed:,.0f} at batch {batch}" for batch, speed in pipeline.items())
    print(f"input pipeline, CIFAR-10's size in memory: {speeds} images/s")
    if OUTPUT.value:
        pathlib.Path(OUTPUT.value).write_text(json.dumps({"rows": rows, "pipeline": pipeline}, indent=2) + "\n")


if __name__ == "__main__":
    app.run(main)

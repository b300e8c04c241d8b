"""Measures training and scoring: speed against the machine's own convolution peak, input pipeline, start-up, memory.

python scripts/benchmark.py --output=benchmark.json
python scripts/benchmark.py --parts=scores

Steps: one row for each architecture, objective, precision and width, each in a process of its own. The FLOP/s of a step are those
that the tables of the networks define: (forward passes + 2 per backward pass through weights, 1 through inputs alone) of
convolutions and linear layers. Resampling is folded into convolutions, which takes fewer; "executed" counts what runs.
The peak is the best FLOP/s of one 3 x 3 convolution among a few sizes, in the same process, before and after the steps.
Scores: images/s of the extractors (a classifier of CIFAR-10's size; a network of InceptionV3's shape, random weights, in
Inception's place; EfficientNet-Lite0; the random network), and seconds of every score of two sets of 10,000 x 2048 random
features, all scores of neighbours in one number.
"""

import dataclasses
import itertools
import json
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

STARTED = time.perf_counter()

from absl import app, flags  # noqa: E402 (the clock starts before the libraries load)

PARTS = flags.DEFINE_list("parts", ["steps", "pipeline"], "What is measured: some of steps, pipeline, scores.")
ARCHITECTURES = flags.DEFINE_list("architectures", ["biggan", "biggan_deep"], "Networks.")
OBJECTIVES = flags.DEFINE_list("objectives", ["gan", "vae"], "Objectives.")
PRECISIONS = flags.DEFINE_list("precisions", ["float32", "mixed_bfloat16"], "Arithmetic.")
WIDTHS = flags.DEFINE_list("base_channels", ["32", "96"], "Widths (ch).")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Images in each discriminator or encoder step.", lower_bound=1)
DISCRIMINATOR_STEPS = flags.DEFINE_integer("discriminator_steps", 2, "Of the GAN, per generator step.", lower_bound=1)
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


def measure_row(architecture, objective, precision, base_channels):
    """One row as a dict: speeds per second, times in seconds, memory in MB."""
    import tensorflow as tf

    from tfvae.config import Config
    from tfvae.networks.layers import flops_per_image
    from tfvae.training import build, cost
    from tfvae.training import strategy as strategies

    split = random_split(2_000)
    # A flag of the GAN's is an error with another objective.
    known = {f.name: f.metadata["objectives"] for f in dataclasses.fields(Config)}
    of_gan = {"discriminator_steps": DISCRIMINATOR_STEPS.value} if objective in known["discriminator_steps"] else {}
    settings = build.resolve(
        Config(
            architecture=architecture,
            objective=objective,
            precision=precision,
            base_channels=int(base_channels),
            batch_size=BATCH_SIZE.value,
            **of_gan,
            dataset="random",
            strategy="one",
        ),
        split,
    )
    strategy = strategies.make_strategy(settings)
    with strategy.scope():
        model = build.make_objective(settings, 0)
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
    flops, executed = (
        cost.step_flops(settings, *(flops_per_image(n, executed) for n in (model.generator, model.discriminator)))
        / seconds
        for executed in (False, True)
    )
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


INCEPTION_FLOPS = 11.4e9  # of one image of 299 px, forward


def measure_extractors(folder):
    """Images/s of the extractors that need nothing from elsewhere and of one of Inception's shape, as a dict; of Inception's the
    share of the peak too.
    """
    import keras
    import numpy as np

    from tfvae.data import datasets
    from tfvae.scoring import classifier, extractors

    images = random_split(10_000).images
    network = classifier.make_network(32, 10, datasets.record("cifar10").recipe.base_channels)
    facts = {"dataset": "random", "resolution": 32, "class_names": ["a class"] * 10, "accuracy": None}
    classifier.save(classifier.make_extractor(network), facts, folder / "classifier")
    whole = keras.applications.InceptionV3(weights=None, classes=1008, classifier_activation=None)
    outputs = {"logits": whole.output, "pool_3": whole.get_layer("avg_pool").output}
    keras.Model(whole.input, outputs).export(str(folder / "inception"), verbose=False)
    result = {}
    for extractor, number in (
        (extractors.load(classifier_dir=folder / "classifier"), len(images)),
        (extractors.load(inception_dir=folder / "inception"), 500),
        (extractors.load("efficientnet_lite0"), 1_000),
        (extractors.load("random"), 1_000),
    ):
        extractor(images[:100])
        peak = convolution_peak("float32")
        start = time.perf_counter()
        extractor(np.ascontiguousarray(images[:number]))
        seconds = time.perf_counter() - start
        peak = max(peak, convolution_peak("float32"))
        row = {"images": number, "seconds": seconds, "images_per_second": number / seconds}
        if extractor.kind.name == "inception":
            row["share_of_peak"] = INCEPTION_FLOPS * number / seconds / peak
        result[extractor.kind.name] = row
    return result


def measure_metrics(number=10_000, width=2048):
    """Seconds of every score of two sets of features, and the peak memory in MB, as a dict."""
    import numpy as np

    from tfvae.scoring import distances, neighbours, vendi

    def scores_of_neighbours():
        # All of them come from one pass over the distances.
        found = neighbours.Neighbourhoods(real, fake)
        (
            found.precision_recall(),
            found.density_coverage(),
            found.symmetric_precision_recall(),
            found.coverage_by_rarity(),
        )

    draw = np.random.default_rng(0)
    real, fake = (draw.normal(size=(number, width)).astype(np.float32) for _ in range(2))
    logits = draw.normal(size=(number, 1008)).astype(np.float32)
    result = {}
    for name, compute in (
        ("inception_score", lambda: distances.inception_score(logits)),
        ("frechet_distance", lambda: distances.frechet_distance(real, fake)),
        ("kernel_distance", lambda: distances.kernel_distance(real, fake)),
        ("neighbours", scores_of_neighbours),
        ("vendi_score", lambda: vendi.vendi_score(fake)),
    ):
        start = time.perf_counter()
        compute()
        result[name] = time.perf_counter() - start
    result["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return result


def main(argv):
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
    if ROW.value:
        print(json.dumps(measure_row(*ROW.value.split(","))))
        return
    from tfvae.command import UserError, path, write_whole

    try:
        output = path("output", OUTPUT.value) if OUTPUT.value else None
    except UserError as error:
        sys.exit(f"error: {error}")
    result = {}
    if "steps" in PARTS.value:
        result["rows"] = measure_steps()
    if "pipeline" in PARTS.value:
        result["pipeline"] = {str(batch): measure_pipeline(batch) for batch in (64, 512)}
        speeds = ", ".join(f"{speed:,.0f} at batch {batch}" for batch, speed in result["pipeline"].items())
        print(f"input pipeline, CIFAR-10's size in memory: {speeds} images/s", flush=True)
    if "scores" in PARTS.value:
        with tempfile.TemporaryDirectory() as folder:
            result["extractors"] = measure_extractors(pathlib.Path(folder))
        for kind, row in result["extractors"].items():
            share = f", {row['share_of_peak']:.0%} of the peak" if "share_of_peak" in row else ""
            print(f"{kind}: {row['images']:,} images in {row['seconds']:.1f} s{share}", flush=True)
        result["metrics"] = measure_metrics()
        for name, value in result["metrics"].items():
            print(f"{name}: {value:,.1f}" + ("" if name == "peak_memory_mb" else " s of 10,000 x 2048 a side"))
    if output:
        write_whole(output, json.dumps(result, indent=2) + "\n")


def measure_steps():
    """The rows of the steps, printed as they come."""
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
    return rows


if __name__ == "__main__":
    app.run(main)

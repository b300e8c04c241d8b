"""Two logical CPUs for every test, so that replicas can be tested on any machine; small helpers."""

import fcntl
import importlib
import os
import signal
import sys
import tarfile
import types
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from absl.testing import flagsaver
from objectives_toys import at_step

from tfvae.command import user_line
from tfvae.config import Config
from tfvae.publishing import publish
from tfvae.training import build, run, store

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


@pytest.fixture(scope="session", autouse=True)
def cache_home(tmp_path_factory):
    """No test keeps anything in the user's own cache."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def two_replicas():
    """One for all tests: a second MirroredStrategy in a process numbers its collectives anew and mixes them up."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@pytest.fixture(autouse=True)
def float32_policy():
    """Leaves no test with another one's precision."""
    keras.config.set_dtype_policy("float32")
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def tiny_flags():
    """Flags of a network that trains in seconds."""
    return dict(
        base_channels=4,
        latent_dim=16,
        batch_size=8,
        train_images=64,
        log_every_images=16,
        sample_every_images=0,
    )


@pytest.fixture
def make_split():
    """A function: a small split of random pictures, uint8 [n, resolution, resolution, 3]."""
    from tfvae.data.split import Split

    def make(num_images=64, resolution=32, num_classes=0, seed=0):
        draw = np.random.default_rng(seed)
        labels = draw.integers(0, max(num_classes, 1), num_images).astype(np.int32)
        return Split(
            dataset="random",
            split="train",
            resolution=resolution,
            num_images=num_images,
            num_classes=num_classes,
            class_names=tuple(f"class {i}" for i in range(num_classes)),
            images=draw.integers(0, 256, (num_images, resolution, resolution, 3)).astype(np.uint8),
            labels=labels,
        )

    return make


@pytest.fixture(scope="session")
def shapes_home(tmp_path_factory):
    """A data folder with `shapes` prepared: its first 100 training and 40 test images."""
    from tfvae.data import pipeline, shapes

    home = tmp_path_factory.mktemp("shapes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes, "NUM_IMAGES", {"train": 100, "test": 40})
        pipeline.load("shapes", data_dir=home)
    return home


@pytest.fixture(scope="session")
def make_model():
    """A function: (resolved Config, Objective) of a tiny network whose weights and batch statistics are no default."""

    def make(objective, num_classes=0, seed=0, **flags):
        settings = Config(
            **dict(dataset="random", resolution=32, base_channels=4, latent_dim=16, batch_size=8) | flags,
            objective=objective,
            conditional=num_classes > 0,
        )
        keras.config.set_dtype_policy(settings.precision)
        keras.utils.set_random_seed(seed)  # the same first values in every process
        model = build.make_objective(settings, num_classes)
        tf.random.set_seed(None)
        draw = np.random.default_rng(seed)
        for average, network in model.averages:
            scale = (
                0.2 if network is model.generator else 0.02
            )  # without overflow of an encoder, which nothing normalises
            for weight in average.weights:
                if weight.name == "moving_variance":
                    weight.assign(draw.uniform(0.5, 1.5, weight.shape))
                else:
                    weight.assign_add(scale * draw.standard_normal(weight.shape))
        at_step(model, 7)
        return settings, model

    return make


@pytest.fixture(scope="session")
def publish_model(tmp_path_factory):
    """A function: publishes a model of `make_model` as the next version of `name`; returns the version's folder."""

    folder = tmp_path_factory.mktemp("published")

    def publish_next(name, settings, model, parent=folder):
        place, _ = publish.find_place(parent / name)
        class_names = [f"class {i}" for i in range(model.generator.num_classes)]
        publish.publish(place, settings, {"class_names": class_names}, model)
        return place

    return publish_next


@pytest.fixture(scope="session")
def publish_once(tmp_path_factory, publish_model):
    """A function: as `publish_model`, once for all processes that the tests are spread over."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent

    def publish(name, settings, model):
        place = folder / "published_once" / name / "1"
        place.parent.mkdir(parents=True, exist_ok=True)
        with (place.parent.parent / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return place if place.exists() else publish_model(name, settings, model, parent=place.parent.parent)

    return publish


@pytest.fixture(scope="session")
def gan(make_model, publish_once):
    """A published GAN with ten classes, spectral norm and 8 x 7 images seen: (folder of the version, settings, model)."""
    made = make_model("gan", 10, spectral_norm=True)
    return publish_once("gan", *made), *made


@pytest.fixture(scope="session")
def vae(make_model, publish_once):
    """A published VAE without labels: (folder of the version, settings, model)."""
    made = make_model("vae")
    return publish_once("vae", *made), *made


def unpacked(name, tmp_path_factory):
    folder = tmp_path_factory.mktemp(name)
    with tarfile.open(Path(__file__).parent / "stored_runs" / f"{name}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="session")
def save_run():
    """A function: makes a run's folder with the weights of a model of `make_model`; returns the folder."""

    def save(folder, settings, model):
        names = [f"class {i}" for i in range(model.generator.num_classes)]
        split = types.SimpleNamespace(num_classes=len(names), class_names=names, num_images=1, fingerprints={})
        directory = run.RunDirectory(folder)
        directory.begin(settings, split, overwrite=False)
        store.write(directory.checkpoints, model, model.images_seen, keep=1)
        return folder

    return save


@pytest.fixture(scope="session")
def format_0(tmp_path_factory):
    """The unpacked `stored_runs/format_0.tar.xz` (see stored_runs_test.py)."""
    return unpacked("format_0", tmp_path_factory)


@pytest.fixture
def format_1(tmp_path_factory):
    """The unpacked `stored_runs/format_1.tar.xz`, for one test, which may go on with it."""
    return unpacked("format_1", tmp_path_factory)


@pytest.fixture
def run_command(capsys):
    """A function: runs a command, such as "evaluate", with its arguments in this process; returns what it printed.

    Commands define flags of the same names, so each call imports its command anew, with no other command's flags there.
    """
    FLAGS = flags.FLAGS

    def run(name, *arguments):
        modules = FLAGS.flags_by_module_dict()
        others = {m: list(defined) for m, defined in modules.items() if m.startswith("tfvae.")}
        for flag in [flag for defined in others.values() for flag in defined]:
            delattr(FLAGS, flag.name)
        known = set(FLAGS)
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        module = sys.modules.pop(f"tfvae.{name}", None)
        try:
            with flagsaver.flagsaver():
                command = importlib.import_module(f"tfvae.{name}")
                FLAGS([name, *map(str, arguments)])
                command.main([name])
        finally:
            tf.random.set_seed(None)  # commands set a seed
            for number, handler in handlers.items():  # and training its own
                signal.signal(number, handler)
            sys.modules.pop(f"tfvae.{name}", None)
            package, _, last = f"tfvae.{name}".rpartition(".")
            vars(sys.modules[package]).pop(last, None)  # `from tfvae import …` would find it without its flags
            if module is not None:
                sys.modules[f"tfvae.{name}"] = module
                setattr(sys.modules[package], last, module)
            for flag in set(FLAGS) - known:
                delattr(FLAGS, flag)
            for other, defined in others.items():
                for flag in defined:
                    FLAGS[flag.name] = flag
                    FLAGS.register_flag_by_module(other, flag)
        return capsys.readouterr().out

    return run


@pytest.fixture
def run_here(run_command, capsys):
    """A function as `run_command`, which tells as a process does how it went: `returncode`, `stdout` and `stderr`.

    For all that does not need a process of its own, which takes seconds to start.
    """

    def run(name, *arguments):
        try:
            return types.SimpleNamespace(returncode=0, stdout=run_command(name, *arguments), stderr="")
        except Exception as error:
            line = user_line(error)
            if line is None:
                raise
            said = capsys.readouterr()
            return types.SimpleNamespace(returncode=1, stdout=said.out, stderr=f"{said.err}error: {line}")

    return run


@pytest.fixture(scope="session")
def tiny_model():
    """(resolved Config, Objective, Split) of a tiny VAE that is never trained."""
    from tfvae.data.split import Split

    split = Split("random", "train", 32, 8, 0, (), np.zeros((8, 32, 32, 3), np.uint8), np.zeros(8, np.int32))
    settings = build.resolve(
        Config(base_channels=4, latent_dim=8, batch_size=8, objective="vae", dataset="random"), split
    )
    return settings, build.make_objective(settings, 0), split


@pytest.fixture
def made_run(tiny_model, tmp_path):
    """A run with checkpoints at 8, 16 and 24 images; the first weight tells which: (settings, model, split, RunDirectory)."""
    settings, model, split = tiny_model
    directory = run.RunDirectory(tmp_path / "run")
    directory.begin(settings, split, overwrite=False)
    for step in (1, 2, 3):
        at_step(model, step)
        model.generator.weights[0].assign(tf.fill(model.generator.weights[0].shape, float(step)))
        store.write(directory.checkpoints, model, model.images_seen, keep=3)
    return settings, model, split, directory

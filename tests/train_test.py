"""`tfvae.train` as a whole, in this process: wherever its folder lies, and whatever stops it before its first step."""

import json
import os
import signal
import subprocess
import sys
import types

import numpy as np
import pytest
from PIL import Image

from tfvae.command import UserError
from tfvae.data import pipeline
from tfvae.training import build, run, store

TINY = [
    "--base_channels=4",
    "--latent_dim=16",
    "--batch_size=8",
    "--train_images=8",
    "--log_every_images=8",
    "--sample_every_images=0",
]


@pytest.fixture(autouse=True)
def handlers():
    """The signals' own: a training leaves its handlers."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(16):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (32, 32, 3)).astype(np.uint8)).save(
            folder / f"{i}.png"
        )
    return f"--dataset=folder:{folder}"


def test_a_run_is_trained_resumed_pruned_and_drawn_from_in_a_folder_with_brackets(pictures, run_command, tmp_path):
    model_dir = tmp_path / "a [2]" / "x"
    flags = [pictures, *TINY, f"--model_dir={model_dir}", "--keep_checkpoints=1", "--checkpoint_every_seconds=0"]
    run_command("train", *flags, "--train_images=16")
    assert list(store.stored(model_dir / "checkpoints")) == [16]
    # Two calls, of three steps and of the one that is left.
    output = run_command("train", *flags, "--train_images=40", "--steps_per_execution=3")
    assert "48 images to see" in output and "resumed at 16" in output and "Done: 48 images seen" in output
    assert list(store.stored(model_dir / "checkpoints")) == [48]
    rows = [json.loads(line)["images"] for line in (model_dir / "metrics.jsonl").read_text().splitlines()]
    assert rows == [8, 16, 40, 48]
    assert sorted(os.listdir(model_dir)) == ["checkpoints", "config.json", "logs", "metrics.jsonl", "samples"]
    run_command("sample", f"--model_dir={model_dir}", "--sheets=grid", "--rows=1", "--columns=1")
    assert (model_dir / "sheets" / "grid.png").is_file()
    assert run.load_run(model_dir).images_seen == 48  # as evaluate and export read it
    assert "Finished already: 48 images seen" in run_command("train", *flags, "--train_images=48")


def test_a_first_step_that_fails_leaves_no_folder(pictures, run_command, tmp_path, monkeypatch):
    make = build.make_objective

    def broken(*arguments):
        model = make(*arguments)

        def fail(batches):
            assert list(store.stored(tmp_path / "runs" / "new" / "checkpoints")) == [0]
            raise RuntimeError("no step can be made")

        model.train_step = fail
        return model

    monkeypatch.setattr(build, "make_objective", broken)
    with pytest.raises(RuntimeError, match="no step can be made"):
        run_command("train", pictures, *TINY, f"--model_dir={tmp_path / 'runs' / 'new'}")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--dataset=folder:/nowhere"], "/nowhere"),
        (["--channel_multipliers=4,4"], "--channel_multipliers=4,4 does not fit 32 px"),
        (["--eval_every_images=8", "--extractor=nobody"], "nobody"),
    ],
)
def test_flags_that_fail_leave_no_folder(flags, line, pictures, run_command, tmp_path):
    with pytest.raises(UserError, match=line):
        run_command("train", pictures, *TINY, f"--model_dir={tmp_path / 'runs' / 'new'}", *flags)
    assert not os.listdir(tmp_path)


def test_data_that_cannot_be_read_costs_no_run(pictures, run_command, tmp_path, monkeypatch):
    flags = [pictures, *TINY, f"--model_dir={tmp_path / 'run'}", "--train_images=8"]
    run_command("train", *flags)
    split = pipeline.load(pictures.removeprefix("--dataset="))

    def load(*arguments, **options):
        return split

    def batches(self, *arguments, **options):
        raise ValueError("a batch cannot be read")

    monkeypatch.setattr(pipeline, "load", load)
    monkeypatch.setattr(type(split), "batches", batches)
    with pytest.raises(UserError, match="a batch cannot be read"):
        run_command("train", *flags, "--overwrite", "--base_channels=5")
    assert list(store.stored(tmp_path / "run" / "checkpoints")) == [0, 8]


def test_a_folder_that_no_run_can_have_is_known_before_the_data_is_prepared(
    pictures, run_command, tmp_path, monkeypatch
):
    def load(*arguments, **options):
        raise AssertionError("data was prepared")

    monkeypatch.setattr(pipeline, "load", load)
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run", tmp_path / ("x" * 300)):
        with pytest.raises(UserError, match="no run can be written there"):
            run_command("train", pictures, *TINY, f"--model_dir={path}")
    with (
        run.RunDirectory(tmp_path / "run").held(),
        pytest.raises(UserError, match=f"trained by process {os.getpid()} on"),
    ):
        run_command("train", pictures, *TINY, f"--model_dir={tmp_path / 'run'}")
    with pytest.raises(UserError, match="--model_dir=gs://bucket/run: URLs are neither read nor written"):
        run_command("train", pictures, *TINY, "--model_dir=gs://bucket/run")


SETTINGS = """
import sys
{first}
import tfvae, keras
config = keras.config
print(config.backend(), config.floatx(), config.epsilon(), config.image_data_format(), config.max_steps_per_epoch(),
      config.max_epochs(), keras.layers.Dense(1).dtype_policy.name, keras.layers.Conv2D(1, 1).data_format)
"""


@pytest.mark.parametrize("first", ["", "import keras"])
def test_the_users_own_settings_of_keras_change_nothing(first, tmp_path):
    (tmp_path / ".keras").mkdir()
    settings = {"floatx": "float16", "epsilon": 0.5, "backend": "torch", "image_data_format": "channels_first"}
    limits = {"KERAS_BACKEND": "torch", "KERAS_MAX_STEPS_PER_EPOCH": "1", "KERAS_MAX_EPOCHS": "1"}
    if first:  # by a program that uses this package, with settings of its own
        settings["backend"], limits = "tensorflow", {}
    (tmp_path / ".keras" / "keras.json").write_text(json.dumps(settings))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("KERAS_")} | {"HOME": str(tmp_path)} | limits
    code = SETTINGS.format(first=first)
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert result.stdout.split() == "tensorflow float32 1e-07 channels_last None None float32 channels_last".split(), (
        result
    )
    assert json.loads((tmp_path / ".keras" / "keras.json").read_text()) == settings


def test_keras_with_another_backend_is_refused(monkeypatch):
    import importlib

    import tfvae

    keras = types.SimpleNamespace(config=types.SimpleNamespace(backend=lambda: "torch"))
    monkeypatch.setitem(sys.modules, "keras", keras)
    with pytest.raises(
        ImportError, match="Keras was imported with the backend torch before tfvae: expected tensorflow"
    ):
        importlib.reload(tfvae)

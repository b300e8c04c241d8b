"""`tfvae.train` as a whole, in this process: wherever its folder lies, and whatever stops it before its first step."""

import json
import os
import signal
import subprocess
import sys
import types

import keras
import numpy as np
import pytest
from PIL import Image

from tfvae.command import UserError
from tfvae.data import pipeline, split
from tfvae.scoring import extractors, protocol
from tfvae.training import build, callbacks, run, store

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
    output = run_command("train", *flags, "--train_images=44", "--steps_per_execution=3")
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
    data = pipeline.load(pictures.removeprefix("--dataset="))

    def load(*arguments, **options):
        return data

    def batches(self, *arguments, **options):
        raise ValueError("a batch cannot be read")

    monkeypatch.setattr(pipeline, "load", load)
    monkeypatch.setattr(type(data), "batches", batches)
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


def metrics(model_dir):
    return {row.pop("images"): row for row in map(json.loads, (model_dir / "metrics.jsonl").read_text().splitlines())}


def record(model_dir):
    return json.loads((model_dir / "config.json").read_text())


def test_a_run_goes_on_under_changed_terms_at_the_same_place_in_the_data(pictures, run_command, tmp_path, monkeypatch):
    model_dir, labels = tmp_path / "run", []
    load = split.Split.batches

    def batches(self, size, seed, first_image=0, *rest):
        labels.append((size, first_image))
        return load(self, size, seed, first_image, *rest)

    flags = [pictures, *TINY, f"--model_dir={model_dir}", "--train_images=64", "--learning_rate_decay_images=64"]
    run_command("train", *flags, "--learning_rate_decay_images=0", "--train_images=24")
    monkeypatch.setattr(split.Split, "batches", batches)
    changed = [*flags, "--batch_size=4", "--generator_learning_rate=0.001"]
    with pytest.raises(UserError) as error:
        run_command("train", *changed, "--allow_changed_flags=batch_size,generator_learning_rate")
    # What else has changed is named, with the whole flag that lets it.
    assert "--learning_rate_decay_images was 0, is 64; --train_images was 24, is 64. Expected" in str(error.value)
    allow = "--allow_changed_flags=generator_learning_rate,learning_rate_decay_images,batch_size,train_images"
    assert allow in str(error.value) and "--model_dir" in str(error.value)
    with pytest.raises(UserError) as error:
        run_command("train", *flags, "--base_channels=5", allow)
    assert "--base_channels was 4, is 5. Expected the same to resume it; --init_from=" in str(error.value)
    # A change under which no step is done is taken back.
    before = (model_dir / "config.json").read_bytes()
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(keras.Model, "fit", lambda *arguments, **options: 1 / 0)
        run_command("train", *changed, allow)
    assert (model_dir / "config.json").read_bytes() == before and record(model_dir)["history"] == []

    output = run_command("train", *changed, allow)
    assert "From 24 images on: --batch_size is 4 and was 8." in output
    assert "64 images to see" in output and "= 13 steps" in output and "Done: 64 images seen" in output
    assert labels[-1] == (4, 24)
    rates = {images: row["generator_learning_rate"] for images, row in metrics(model_dir).items()}
    # It falls over the images, whatever a step takes: that of the step that comes next.
    assert rates == pytest.approx({8: 2e-4, 16: 2e-4, 24: 2e-4} | {n: 1e-3 * (64 - n) / 64 for n in range(32, 72, 8)})
    (change,) = record(model_dir)["history"]
    assert change["images"] == 24 and change["changed"]["batch_size"] == [8, 4]
    assert set(change["changed"]) == set(allow.partition("=")[2].split(","))
    assert run.load_run(model_dir).images_seen == 64
    # The same command again, and without the permission: the new flags are the run's.
    assert "Finished already: 64 images seen" in run_command("train", *changed, allow)
    assert "Finished already: 64 images seen" in run_command("train", *changed)
    assert len(record(model_dir)["history"]) == 1


def test_a_run_ends_for_want_of_gain_and_the_same_command_says_so(pictures, run_command, tmp_path, monkeypatch):
    distances = iter([5.0, 3.0, 4.0, 4.0, 4.0, 2.0, 1.0])

    class Scores(callbacks.Scores):
        """Without an extractor: distances that are given."""

        name = "distance"

        def on_train_begin(self, logs=None):
            self.clock = callbacks.Clock(self.config.eval_every_images, self.model.images_seen)
            self.scored = None
            self.read_best(self.model.images_seen)

        def score(self):
            seen = self.scored = self.model.images_seen
            distance = next(distances)
            if distance < self.least:
                self.least, self.best_at = distance, seen
                store.write(self.directory.best, self.model, seen, keep=1)
                row = {"images": seen, "distance": distance}
                (self.directory.best / f"ckpt-{seen}.json").write_text(json.dumps(row))
            self.saver.without_gain = self.is_without_gain(seen)

    monkeypatch.setattr(callbacks, "Scores", Scores)
    extractor = types.SimpleNamespace(checksum="0", kind=None, name="given")
    monkeypatch.setattr(extractors, "load", lambda *_, **__: extractor)
    monkeypatch.setattr(protocol, "check_resolution", lambda *_: None)
    flags = [pictures, *TINY, f"--model_dir={tmp_path / 'run'}", "--train_images=800", "--eval_every_images=8"]
    first = run_command("train", *flags, "--stop_after_images_without_gain=16")
    # The best at 16; at 32 none is better for 16 images, and as after a signal the step that has begun is done.
    assert "Ended at 40 images, saved. No score was the best one for 16 images" in first
    assert f"The best checkpoint is {tmp_path / 'run' / 'best' / 'ckpt-16'}" in first
    assert max(store.stored(tmp_path / "run" / "checkpoints")) == 40
    again = run_command("train", *flags, "--stop_after_images_without_gain=16")
    assert "No score was the best one for 16 images" in again and "A larger value goes on" in again
    assert max(store.stored(tmp_path / "run" / "checkpoints")) == 40
    on = run_command("train", *flags, "--stop_after_images_without_gain=32", "--train_images=56")
    assert "resumed at 40" in on and "Done: 56 images seen" in on
    assert list(store.stored(tmp_path / "run" / "best")) == [56]


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

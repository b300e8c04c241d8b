"""The commands as a user runs them: in processes of their own, killed, resumed, on bad input."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
TINY = ["--base_channels=4", "--latent_dim=16", "--batch_size=8", "--log_every_images=40", "--sample_every_images=0"]


def environment(**extra):
    return os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"} | extra


def command(module, *arguments):
    return [sys.executable, "-m", f"tfvae.{module}", *map(str, arguments)]


def run(module, *arguments, timeout=300):
    return subprocess.run(
        command(module, *arguments), env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=timeout
    )


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """`folder:PATH` with 24 pictures of 32 px in two classes."""
    path = tmp_path_factory.mktemp("pictures")
    draw = np.random.default_rng(0)
    for name in ("one", "two"):
        (path / name).mkdir()
        for i in range(12):
            Image.fromarray(draw.integers(0, 256, (32, 32, 3)).astype(np.uint8)).save(path / name / f"{i:02d}.png")
    return f"folder:{path}"


def final_weights(model_dir):
    """Every value of the newest checkpoint, by name."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(model_dir / "checkpoints"))
    names = [name for name in reader.get_variable_to_shape_map() if name not in SAVER_STATE]
    return {name: reader.get_tensor(name) for name in names}


# Not the model's: how often was saved, and Python objects' names.
SAVER_STATE = ("save_counter/.ATTRIBUTES/VARIABLE_VALUE", "_CHECKPOINTABLE_OBJECT_GRAPH")


def wait_for_checkpoint(process, model_dir, beyond=0):
    """Waits until a checkpoint of more than `beyond` images is whole; returns its images."""
    for _ in range(2400):
        numbers = [int(file.stem.split("-")[1]) for file in (model_dir / "checkpoints").glob("ckpt-*.index")]
        if max(numbers, default=0) > beyond:
            return max(numbers)
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("no checkpoint within two minutes")


def test_a_run_killed_and_a_run_stopped_end_with_the_weights_of_an_uninterrupted_one(folder, tmp_path):
    flags = [f"--dataset={folder}", *TINY, "--deterministic", "--train_images=960", "--checkpoint_every_seconds=0.2"]
    flags += ["--objective=gan", "--spectral_norm", "--flip", "--augment=translation", "--keep_checkpoints=2"]
    whole = run("train", *flags, f"--model_dir={tmp_path / 'whole'}", "--checkpoint_every_seconds=600")
    assert whole.returncode == 0, whole.stderr
    assert "Done: 960 images seen" in whole.stdout

    cut = tmp_path / "cut"
    arguments = command("train", *flags, f"--model_dir={cut}")
    process = subprocess.Popen(arguments, env=environment(), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    killed_at = wait_for_checkpoint(process, cut)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert killed_at < 960

    process = subprocess.Popen(
        arguments, env=environment(), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    wait_for_checkpoint(process, cut, beyond=killed_at)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 0, output
    assert "resumed at" in output
    assert "saved. The same command goes on from there." in output

    rest = run("train", *flags, f"--model_dir={cut}")
    assert rest.returncode == 0, rest.stderr
    assert "resumed at" in rest.stdout
    assert "Done: 960 images seen" in rest.stdout
    one, other = final_weights(tmp_path / "whole"), final_weights(cut)
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    images = [json.loads(line)["images"] for line in (cut / "metrics.jsonl").read_text().splitlines()]
    assert images == sorted(set(images))

    again = run("train", *flags, f"--model_dir={cut}")
    assert again.returncode == 0
    assert "Finished already: 960 images seen" in again.stdout


def test_a_vae_is_trained_and_every_sheet_drawn_from_its_folder_alone(folder, tmp_path):
    model_dir = tmp_path / "vae"
    flags = [f"--dataset={folder}", *TINY, "--train_images=48", "--objective=vae", "--architecture=biggan_deep"]
    trained = run("train", *flags, f"--model_dir={model_dir}", "--decoder_variance=learned", "--steps_per_execution=3")
    assert trained.returncode == 0, trained.stderr
    names = {file.name for file in (model_dir / "samples").iterdir()}
    assert names == {
        f"000000048_{kind}.png" for kind in ("samples_ema", "samples_raw", "interpolations", "reconstructions")
    }

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(model_dir / "logs"))
    events.Reload()
    tags = set(events.Tags()["tensors"])
    assert {"losses/loss", "losses/kl_divergence", "learning_rates/generator_learning_rate", "flags"} <= tags
    assert {
        "gradient_norms/generator_gradient_norm",
        "speed/images_per_second",
        "samples_ema",
        "reconstructions",
    } <= tags
    assert "latent/kl_divergence_of_a_dimension" in tags
    rows = [json.loads(line) for line in (model_dir / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["images"] == 48

    drawn = run("sample", f"--model_dir={model_dir}", "--rows=2", "--columns=3")
    assert drawn.returncode == 0, drawn.stderr
    kinds = ("grid", "classes", "interpolations", "truncation", "reconstructions")
    first = {kind: (model_dir / "sheets" / f"{kind}.png").read_bytes() for kind in kinds}
    again = run("sample", f"--model_dir={model_dir}", "--rows=2", "--columns=3")
    assert again.returncode == 1
    assert "grid.png exists: give another --output_dir, or --overwrite" in again.stderr
    run("sample", f"--model_dir={model_dir}", "--rows=2", "--columns=3", f"--output_dir={tmp_path / 'other'}")
    assert first == {kind: (tmp_path / "other" / f"{kind}.png").read_bytes() for kind in kinds}


WORKER = textwrap.dedent(
    """
    import sys
    import numpy as np
    from absl import flags
    from tfvae import config, experiment, train

    def main(argv):
        kept = {}
        make = experiment.make_objective
        experiment.make_objective = lambda *args: kept.setdefault("model", make(*args))
        train.main(argv)
        np.savez(sys.argv[0], *[weight.numpy() for weight in kept["model"].weights])

    config.run_command(main)
    """
)


def test_two_processes_end_with_equal_weights(folder, tmp_path):
    import socket

    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        workers = [f"127.0.0.1:{s.getsockname()[1]}" for s in (first, second)]
    flags = [f"--dataset={folder}", *TINY, "--train_images=32", "--strategy=multi_worker", f"--model_dir={tmp_path}"]
    processes = []
    for index in range(2):
        # The script's name (argv[0]) is where it writes its weights.
        code = f"import sys; sys.argv[0] = {str(tmp_path / f'worker{index}.npz')!r}\n{WORKER}"
        cluster = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", code, *flags],
                env=environment(TF_CONFIG=json.dumps(cluster)),
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert "2 replica(s)" in outputs[0]
    one, other = (np.load(tmp_path / f"worker{index}.npz") for index in range(2))
    assert len(one.files) > 100
    for name in one.files:
        np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize(
    ("module", "arguments", "line"),
    [
        ("train", ["--dataset=cifar99", "--model_dir=X"], "unknown dataset 'cifar99'"),
        ("train", ["--dataset=folder:/nowhere", "--model_dir=X"], "/nowhere"),
        ("train", ["--resolution=100", "--model_dir=X"], "No network for 100 px"),
        ("train", ["--architecture=resnet"], "value should be one of <biggan|biggan_deep>"),
        ("train", ["--lerning_rate=1"], "Unknown command line flag 'lerning_rate'"),
        ("train", [], "--model_dir is missing"),
        ("train", ["--strategy=multi_worker", "--model_dir=X"], "the environment variable TF_CONFIG is not set"),
        ("sample", ["--model_dir=/nowhere"], "/nowhere holds no model"),
        ("sample", ["--model_dir=X", "--sheets=everything"], "--sheets=everything: expected some of grid"),
    ],
)
def test_bad_input_ends_with_one_clear_line_and_no_traceback(module, arguments, line, tmp_path):
    result = run(module, *[argument.replace("=X", f"={tmp_path / 'model'}") for argument in arguments])
    assert result.returncode == 1
    assert line in result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    assert not (tmp_path / "model").exists()


def test_help_shows_every_flag_of_the_configuration():
    import dataclasses

    from tfvae.config import Config

    text = run("train", "--help").stdout
    for field in dataclasses.fields(Config):
        assert f"--{field.name}" in text or f"--[no]{field.name}" in text


def test_dry_run_prints_the_parameters_that_the_field_knows():
    result = run(
        "train", "--dry_run", "--dataset=imagenet2012", "--resolution=128", "--base_channels=96", "--latent_dim=120"
    )
    assert result.returncode == 0, result.stderr
    assert "generator: 70,433,988 trainable parameters" in result.stdout
    assert "discriminator: 87,982,370 trainable parameters" in result.stdout

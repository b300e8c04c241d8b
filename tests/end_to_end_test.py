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

from tfvae.config import Config

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


# Runs of tfvae.train one after the other in one process: each start costs seconds. --deterministic cannot be taken back, so it
# is not one of the tests' own.
TRAINED = textwrap.dedent(
    """
    import sys
    from absl import flags
    from tfvae import train

    for model_dir in sys.argv[1].split(","):
        flags.FLAGS.unparse_flags()
        flags.FLAGS(["train", *sys.argv[2:], f"--model_dir={model_dir}"])
        train.main(["train"])
    """
)


def test_a_run_killed_and_a_run_stopped_end_with_the_weights_of_an_uninterrupted_one(folder, tmp_path):
    flags = [f"--dataset={folder}", *TINY, "--deterministic", "--train_images=480", "--checkpoint_every_seconds=0.2"]
    flags += ["--objective=gan", "--spectral_norm", "--flip", "--augment=translation", "--keep_checkpoints=2"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    options = dict(env=environment(), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    uninterrupted = subprocess.Popen([sys.executable, "-c", TRAINED, whole, *flags], **options)
    process = subprocess.Popen(command("train", *flags, f"--model_dir={cut}"), **options)
    killed_at = wait_for_checkpoint(process, cut)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert killed_at < 480

    process = subprocess.Popen(command("train", *flags, f"--model_dir={cut}"), **options)
    wait_for_checkpoint(process, cut, beyond=killed_at)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 0, output
    assert "resumed at" in output
    assert "saved. The same command goes on from there." in output

    rest = subprocess.Popen([sys.executable, "-c", TRAINED, f"{cut},{cut}", *flags], **options)
    output, other = rest.communicate(timeout=300)[0], uninterrupted.communicate(timeout=300)[0]
    assert (rest.returncode, uninterrupted.returncode) == (0, 0), output + other
    assert "resumed at" in output and "Done: 480 images seen" in output and "Done: 480 images seen" in other
    assert "Finished already: 480 images seen" in output
    one, other = final_weights(whole), final_weights(cut)
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    images = [json.loads(line)["images"] for line in (cut / "metrics.jsonl").read_text().splitlines()]
    assert images == sorted(set(images))


def test_a_vae_is_trained_and_every_sheet_drawn_from_its_folder_alone(folder, run_here, tmp_path):
    model_dir = tmp_path / "vae"
    flags = [f"--dataset={folder}", *TINY, "--train_images=48", "--objective=vae", "--architecture=biggan_deep"]
    trained = run_here(
        "train", *flags, f"--model_dir={model_dir}", "--decoder_variance=learned", "--steps_per_execution=3"
    )
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

    drawn = run_here("sample", f"--model_dir={model_dir}", "--rows=2", "--columns=3")
    assert drawn.returncode == 0, drawn.stderr
    kinds = ("grid", "classes", "interpolations", "truncation", "reconstructions")
    first = {kind: (model_dir / "sheets" / f"{kind}.png").read_bytes() for kind in kinds}
    again = run_here("sample", f"--model_dir={model_dir}", "--rows=2", "--columns=3")
    assert again.returncode == 1
    assert "grid.png exists: give another --output_dir, or --overwrite" in again.stderr
    run_here("sample", f"--model_dir={model_dir}", "--rows=2", "--columns=3", f"--output_dir={tmp_path / 'other'}")
    assert first == {kind: (tmp_path / "other" / f"{kind}.png").read_bytes() for kind in kinds}


@pytest.fixture(scope="session")
def classifier(folder, tmp_path_factory):
    """A classifier of the folder's two classes, as the command makes it."""
    path = tmp_path_factory.mktemp("classifier") / "classifier"
    result = run(
        "train_classifier",
        f"--dataset={folder}",
        "--base_channels=2",
        "--epochs=1",
        "--batch_size=8",
        f"--output_dir={path}",
    )
    assert result.returncode == 0, result.stderr
    assert "Done: " in result.stdout and "held-out images classified correctly" in result.stdout
    assert json.loads((path / "classifier.json").read_text())["class_names"] == ["one", "two"]
    assert [file.name for file in path.parent.iterdir()] == ["classifier"]
    return path


def test_a_run_is_scored_while_it_trains_and_afterwards(folder, classifier, run_here, tmp_path):
    model_dir, cache = tmp_path / "vae", f"--cache_dir={tmp_path / 'cache'}"
    flags = [f"--dataset={folder}", *TINY, "--train_images=48", "--objective=vae", f"--classifier_dir={classifier}"]
    trained = run_here("train", *flags, f"--model_dir={model_dir}", "--eval_every_images=16", "--eval_images=20")
    assert trained.returncode == 0, trained.stderr
    rows = [json.loads(line) for line in (model_dir / "metrics.jsonl").read_text().splitlines()]
    scored = {row["images"]: row["frechet_classifier_distance"] for row in rows if "precision" in row}
    assert list(scored) == [16, 32, 48]
    best = min(scored, key=scored.get)
    assert {file.stem for file in (model_dir / "best").glob("ckpt-*")} == {f"ckpt-{best}"}
    assert json.loads((model_dir / "best" / f"ckpt-{best}.json").read_text())["images"] == best

    arguments = [
        f"--model_dir={model_dir}",
        f"--classifier_dir={classifier}",
        "--num_images=20",
        "--num_seeds=2",
        cache,
    ]
    first = run_here("evaluate", *arguments)
    assert first.returncode == 0, first.stderr
    assert "20 images against 20 of folder:" in first.stdout and "less is better" in first.stdout
    result = json.loads((model_dir / "scores.json").read_text())
    assert result["protocol"]["extractor"]["kind"] == "classifier"
    assert result["source"]["images_seen"] == 48 and result["seeds"] == [0, 1]
    values = result["scores"]["frechet_classifier_distance"]
    assert values["mean"] == pytest.approx(np.mean(values["values"])) and values["std"] == pytest.approx(
        np.std(values["values"], ddof=1)
    )
    assert "one block of 1,024" in result["undefined"]["kernel_classifier_distance_standard_error"]
    assert result["reconstruction"]["scores"]["psnr"] > 0
    assert any("rank-deficient" in line for line in result["warnings"])
    assert [file.suffix for file in (tmp_path / "cache").iterdir()] == [".npz"]

    refused = run_here("evaluate", *arguments)
    assert refused.returncode == 1
    assert "scores.json exists: give another --output, or --overwrite to replace it." in refused.stderr

    # In a process: two strategies of several devices in one process mix up their collectives.
    again = run("evaluate", *arguments, "--virtual_devices=2", "--batch_size=7", f"--output={tmp_path / 'again.json'}")
    assert again.returncode == 0, again.stderr
    other = json.loads((tmp_path / "again.json").read_text())
    assert other["protocol"].pop("batch_size") == 7 and result["protocol"].pop("batch_size") == 100
    for name, value in result["scores"].items():
        found = other["scores"].pop(name)["mean"]
        assert found == value["mean"] or found == pytest.approx(value["mean"], rel=1e-3, abs=1e-6)
    assert other.pop("scores") == {}

    fitted = run_here("evaluate", *arguments, "--prior=gmm", "--best")
    assert fitted.returncode == 0, fitted.stderr
    result = json.loads((model_dir / "scores_best_gmm.json").read_text())
    assert result["source"]["prior"]["kind"] == "gmm" and result["source"]["images_seen"] == best

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(model_dir / "logs"))
    events.Reload()
    tags = set(events.Tags()["tensors"])
    assert {
        "scores/precision",
        "scores_gmm/precision",
        "scores_of_small_sample/precision",
        "scores_of_reconstructions/psnr",
    } <= tags


def test_pictures_are_scored_against_a_dataset(folder, classifier, run_here, tmp_path):
    arguments = [
        f"--dataset={folder}",
        f"--classifier_dir={classifier}",
        "--num_images=24",
        f"--cache_dir={tmp_path / 'cache'}",
    ]
    result = run_here(
        "evaluate", f"--images={folder.removeprefix('folder:')}", *arguments, f"--output={tmp_path / 'a.json'}"
    )
    assert result.returncode == 0, result.stderr
    # The same images on both sides: every distance is 0.
    scores = json.loads((tmp_path / "a.json").read_text())["scores"]
    assert abs(scores["frechet_classifier_distance"]["mean"]) < 1e-6
    assert scores["precision"]["mean"] == scores["recall"]["mean"] == scores["density"]["mean"] == 1


WORKER = textwrap.dedent(
    """
    import sys
    import numpy as np
    from absl import flags
    from tfvae import command, train
    from tfvae.training import build

    def main(argv):
        kept = {}
        make = build.make_objective
        build.make_objective = lambda *args: kept.setdefault("model", make(*args))
        train.main(argv)
        np.savez(sys.argv[0], *[weight.numpy() for weight in kept["model"].weights])

    command.run_command(main)
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
        ("train", ["--resolution=100", "--model_dir=X"], "--resolution=100: expected one of 32, 45, 64, 128, 256, 512"),
        ("train", [], "--model_dir is missing"),
        ("train", ["--strategy=multi_worker", "--model_dir=X"], "the environment variable TF_CONFIG is not set"),
        ("sample", ["--model_dir=/nowhere"], "/nowhere holds no model"),
        ("sample", ["--model_dir=X", "--sheets=everything"], "--sheets=everything: expected some of grid"),
        (
            "train",
            ["--eval_every_images=9", "--model_dir=X", "--extractor=classifier"],
            "--classifier_dir is missing: expected the place of --extractor=classifier; make one with",
        ),
        ("train_classifier", [], "--output_dir is missing"),
        ("train_classifier", ["--dataset=folder:/nowhere", "--output_dir=X"], "/nowhere"),
        ("evaluate", [], "none given: expected one of --model_dir, --saved_model, --images and --split"),
        ("evaluate", ["--split=test"], "--dataset is missing"),
        ("evaluate", ["--split=test", "--dataset=shapes", "--extractor=inception"], "--inception_dir is missing"),
        (
            "evaluate",
            ["--split=test", "--dataset=shapes", "--inception_dir=/nowhere"],
            "--inception_dir=/nowhere: there is no saved_model.pb; unpack https://www.kaggle.com",
        ),
    ],
)
def test_bad_input_ends_with_one_clear_line(module, arguments, line, run_here, tmp_path):
    result = run_here(module, *[argument.replace("=X", f"={tmp_path / 'model'}") for argument in arguments])
    assert result.returncode == 1
    assert line in result.stderr.splitlines()[-1]
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--architecture=resnet"], "value should be one of <biggan|biggan_deep>"),
        (["--lerning_rate=1"], "Unknown command line flag 'lerning_rate'"),
        (["--objective=vae", "--augment=color"], "error: --augment=color is a flag of --objective=gan"),
        (["--dataset=folder:/nowhere", "--model_dir=X"], "/nowhere"),
    ],
)
def test_a_process_ends_with_one_clear_line_and_no_traceback(arguments, line, tmp_path):
    result = run("train", *[argument.replace("=X", f"={tmp_path / 'model'}") for argument in arguments])
    assert result.returncode == 1
    assert line in result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    assert not (tmp_path / "model").exists()


def test_help_shows_every_flag_of_the_configuration():
    import dataclasses

    text = run("train", "--help").stdout
    for field in dataclasses.fields(Config):
        assert f"--{field.name}" in text or f"--[no]{field.name}" in text


def test_dry_run_prints_the_parameters_that_the_field_knows(run_here):
    result = run_here(
        "train", "--dry_run", "--dataset=imagenet2012", "--resolution=128", "--base_channels=96", "--latent_dim=120"
    )
    assert result.returncode == 0, result.stderr
    assert "generator: 70,433,988 trainable parameters" in result.stdout
    assert "discriminator: 87,982,370 trainable parameters" in result.stdout

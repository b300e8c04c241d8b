"""The study as a user runs it: real commands, tiny networks, killed in the middle, one experiment that fails."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent


def command(*arguments):
    return [sys.executable, "-m", "tfvae.study", *map(str, arguments)]


def environment(**extra):
    return os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"} | extra


def run(*arguments, timeout=900):
    return subprocess.run(
        command(*arguments), env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=timeout
    )


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    """A study of a VAE and of an experiment that no network can be made of, and the extractor of its pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    draw = np.random.default_rng(0)
    for name in ("one", "two"):
        (folder / name).mkdir()
        for i in range(12):
            Image.fromarray(draw.integers(0, 256, (32, 32, 3)).astype(np.uint8)).save(folder / name / f"{i}.png")
    classifier = tmp_path_factory.mktemp("classifier") / "classifier"
    image = keras.Input([32, 32, 3], dtype="uint8")
    features = keras.layers.GlobalMaxPooling2D()(keras.layers.Conv2D(8, 3)(keras.layers.Rescaling(1 / 255)(image)))
    outputs = {"logits": keras.layers.Dense(2)(features), "features": features}
    keras.Model(image, outputs).export(str(classifier), verbose=False)
    facts = {"dataset": "pictures", "resolution": 32, "class_names": ["one", "two"], "accuracy": 0.5}
    (classifier / "classifier.json").write_text(json.dumps(facts))
    tiny = "--base_channels=4 --latent_dim=16 --batch_size=8 --log_every_images=40 --sample_every_images=0"
    tiny += f" --checkpoint_every_seconds=1 --dataset=folder:{folder} --train_images=1200"
    return [
        f"--experiment=main/vae_biggan: {tiny} --objective=vae",
        f"--experiment=main/vae_biggan_deep: {tiny} --objective=vae --architecture=biggan_deep --base_channels=6",
        "--published=vae_biggan: IS=1.6; FID=39",
        f"--classifier_dir={classifier}",
        "--num_images=20",
        "--num_seeds=2",
        "--eval_points=0",
        "--mixture_tables=",
    ]


def test_a_study_killed_in_the_middle_goes_on_and_reports_what_failed(flags, tmp_path):
    output = tmp_path / "study"
    flags = [*flags, f"--output_dir={output}"]
    process = subprocess.Popen(
        command(*flags), env=environment(XDG_CACHE_HOME=str(tmp_path)), cwd=ROOT, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    for _ in range(6000):
        if list(output.glob("runs/vae_biggan-*/checkpoints/ckpt-*.index")):
            break
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (run_dir,) = output.glob("runs/vae_biggan-*")
    assert not list(run_dir.glob("checkpoints/ckpt-1200.index"))

    result = run(*flags)
    assert result.returncode == 1
    assert (
        "error: 1 of 2 rows are empty and 1 tasks failed: expected all" in result.stderr
        and "Traceback" not in result.stderr
    )
    log = (output / "logs" / f"{run_dir.name}.log").read_text()
    assert log.count("resumed at") == 1 and log.count("Done: 1,200 images seen") == 1
    seen = [json.loads(line)["images"] for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert seen == sorted(seen) and seen[-1] == 1200
    record = json.loads((output / "records" / f"{run_dir.name}.json").read_text())
    assert set(record["seconds"]) == {"training", "scores", "pictures"} and record["peak_memory_mb"]["training"] > 100

    report = (output / "report" / "report.md").read_text()
    row = next(line for line in report.splitlines() if line.startswith("| VAE BigGAN | 1.6 | 39 |"))
    assert " ± " in row
    empty = next(line for line in report.splitlines() if line.startswith("| VAE BigGAN-deep | – | – |"))
    assert "training failed: --base_channels=6: expected a positive multiple of 4 for this architecture." in empty
    assert "| *noise* |" in report
    pictures = {file.name.split("_")[0] for file in (output / "report").glob("*.jpg")}
    assert pictures == {"unselected", "best", "neighbours", "interpolations", "reconstructions"}

    again = run(*flags, "--only=vae_biggan")
    assert again.returncode == 0, again.stderr
    assert "begins" not in again.stdout and "1 experiments, 1 trainings, about 0.0 hours left" in again.stdout


def test_bad_input_is_one_line(tmp_path):
    result = run("--experiment=a/b: --dataset=shapes", "--only=c", f"--output_dir={tmp_path / 'study'}")
    assert result.returncode == 1 and "--only=c names no experiment: expected tables (a) or names (b)." in result.stderr
    assert "Traceback" not in result.stdout + result.stderr and not (tmp_path / "study").exists()

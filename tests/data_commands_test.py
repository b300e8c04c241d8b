"""What the commands say of the data first, and runs that stream, as a user starts them."""

import json

import keras
import numpy as np
import pytest
from PIL import Image

from tfvae.command import UserError

TINY = ["--base_channels=4", "--latent_dim=16", "--batch_size=8", "--sample_every_images=0", "--objective=vae"]


@pytest.fixture
def pets(tmp_path):
    """Two classes with transparent pictures of 32 px, and a stray picture."""
    draw = np.random.default_rng(0)
    for number in range(24):
        file = tmp_path / "pets" / ("cat" if number % 2 else "dog") / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (32, 32, 4)).astype(np.uint8)).save(file)
    Image.new("RGB", (8, 8)).save(tmp_path / "pets" / "preview.jpg")
    return f"folder:{tmp_path / 'pets'}"


@pytest.fixture
def extractor(tmp_path):
    """The folder of an extractor that was not trained."""
    image = keras.Input([32, 32, 3], dtype="uint8")
    features = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(image))
    network = keras.Model(image, {"logits": keras.layers.Dense(2)(features), "features": features})
    network.export(str(tmp_path / "extractor"), verbose=False)
    facts = {"dataset": "pets", "resolution": 32, "class_names": ["cat", "dog"], "accuracy": 0.5}
    (tmp_path / "extractor" / "classifier.json").write_text(json.dumps(facts))
    return tmp_path / "extractor"


def first_lines(pets):
    return [
        f"{pets}, train: 24 images of 32 px in 2 classes: cat 12, dog 12",
        "  left out: 1 image beside the class folders (preview.jpg)",
    ]


def test_a_dry_run_says_first_what_would_be_taken(pets, run_command):
    assert run_command("train", f"--dataset={pets}", *TINY, "--dry_run").splitlines()[:2] == first_lines(pets)


@pytest.mark.filterwarnings("ignore:.*")
def test_a_run_that_streams_with_the_default_seed_goes_on_from_memory_and_is_scored(
    pets, run_command, extractor, tmp_path
):
    flags = [*TINY, f"--model_dir={tmp_path / 'run'}", "--background=#102030"]
    printed = run_command("train", f"--dataset={pets}/", *flags, "--train_images=16", "--streaming")
    assert printed.splitlines()[:2] == first_lines(f"{pets}/") and "Done: 16 images seen" in printed
    (tmp_path / "pets").rename(tmp_path / "moved")
    moved = f"folder:{tmp_path / 'moved'}"
    printed = run_command("train", f"--dataset={moved}", *flags, "--train_images=32")
    assert printed.splitlines()[:2] == first_lines(moved) and "resumed at 16" in printed

    scored = [f"--model_dir={tmp_path / 'run'}", f"--classifier_dir={extractor}", "--num_images=20"]
    printed = run_command("evaluate", *scored, f"--cache_dir={tmp_path}", f"--output={tmp_path / 'scores.json'}")
    assert printed.splitlines()[:2] == first_lines(moved)
    assert json.loads((tmp_path / "scores.json").read_text())["reference"]["background"] == "#102030"

    with pytest.raises(UserError, match="--background was '#102030', is 'white'"):
        run_command("train", f"--dataset={moved}", *flags[:-1], "--train_images=32")


def test_a_tfds_run_streams_with_the_default_seed_and_goes_on_from_memory(shapes_home, run_command, tmp_path):
    flags = [*TINY, "--dataset=shapes", f"--data_dir={shapes_home}", f"--model_dir={tmp_path / 'run'}"]
    printed = run_command("train", *flags, "--train_images=16", "--streaming")
    assert printed.startswith("shapes, train: 100 images of 32 px in 10 classes: ") and "Done: 16" in printed
    assert "resumed at 16" in run_command("train", *flags, "--train_images=24")


@pytest.mark.parametrize("streaming", ["--streaming", "--nostreaming"])
@pytest.mark.parametrize("wrong", ["unreadable", "sizes", "splits", "background", "url"])
def test_wrong_data_are_one_line_before_anything_is_written(wrong, streaming, pets, run_command, tmp_path):
    flags = [f"--dataset={pets}"]
    if wrong == "unreadable":
        (tmp_path / "pets" / "cat" / "x.png").write_bytes(b"x")
        flags += ["--resolution=32"]
    elif wrong == "sizes":
        Image.new("RGB", (8, 8)).save(tmp_path / "pets" / "cat" / "x.png")
    elif wrong == "splits":
        (tmp_path / "pets" / "dog").rename(tmp_path / "pets" / "train")
        (tmp_path / "pets" / "cat").rename(tmp_path / "pets" / "val")
    elif wrong == "background":
        flags += ["--background=whitish"]
    else:
        flags = ["--dataset=folder:gs://bucket/pets"]
    with pytest.raises(UserError) as error:
        run_command("train", *TINY, *flags, streaming, f"--model_dir={tmp_path / 'run'}")
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()

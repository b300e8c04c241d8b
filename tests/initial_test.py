"""A start from the weights of another run: what fits is taken, what differs is drawn anew, and bad sources are one line."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from objectives_toys import at_step

from tfvae.command import UserError
from tfvae.networks.network import named_weights
from tfvae.training import build, initial, run, store

ABC = ("a", "b", "c")


@pytest.fixture(scope="module")
def source(make_model, tmp_path_factory):
    """A function: the folder of a run of a model of `make_model`, made once, whose averages differ from the last weights."""
    made = {}

    def make(objective, class_names=(), **flags):
        key = (objective, class_names, *flags.items())
        if key not in made:
            settings, model = make_model(objective, len(class_names), seed=1, **flags)
            directory = run.RunDirectory(tmp_path_factory.mktemp("source") / "run")
            directory.path.mkdir()
            data = {"num_classes": len(class_names), "class_names": class_names, "num_images": 8}
            record = {"format": run.FORMAT, "flags": dataclasses.asdict(settings), "data": data}
            directory.config_file.write_text(json.dumps(record))
            store.write(directory.checkpoints, model, model.images_seen, keep=1)
            made[key] = directory, model
        return made[key]

    return make


def give(place, made, tmp_path, class_names=(), average=True):
    settings, model = made
    found = initial.source_of(run.RunDirectory(tmp_path / "new"), place, average, overwrite=False)
    at_step(model, 0)
    return initial.give(found, model, settings, class_names)


def values(network):
    return {name: weight.numpy() for name, weight in named_weights(network).items()}


def assert_equal(network, other, names=None):
    mine, others = values(network), values(other)
    for name in mine if names is None else names:
        np.testing.assert_array_equal(mine[name], others[name], err_msg=name)


@pytest.mark.parametrize("average", [True, False])
def test_the_same_networks_are_taken_whole_as_averages_or_as_last_weights(average, source, make_model, tmp_path):
    directory, old = source("gan", ABC)
    settings, new = make_model("gan", 3)
    record, table = give(directory.path, (settings, new), tmp_path, ABC, average)
    assert_equal(new.generator, old.ema_generator if average else old.generator)
    assert_equal(new.discriminator, old.discriminator)
    assert_equal(new.ema_generator, new.generator)  # begins anew
    number = len(named_weights(new.generator))
    assert f"{number} of {number} tensors" in table and "drawn anew" not in table
    kinds = {name: facts["weights"] for name, facts in record["networks"].items()}
    assert kinds == {
        "generator": "moving average" if average else "of the last step",
        "discriminator": "of the last step",
    }
    assert record["checkpoint"].endswith("checkpoints/ckpt-56") and record["from"] == str(directory.path)


@pytest.mark.parametrize(("there", "here"), [("vae", "gan"), ("gan", "vae"), ("vae", "soft_intro_vae")])
def test_networks_of_another_objective_are_taken_but_for_the_head(there, here, source, make_model, tmp_path):
    directory, old = source(there)
    settings, new = make_model(here)
    before = values(new.discriminator)
    record, table = give(directory.checkpoints / "ckpt-56.index", (settings, new), tmp_path)
    assert_equal(new.generator, old.ema_generator)
    anew = record["networks"]["discriminator"]["drawn_anew"]
    heads = {} if here == "soft_intro_vae" else {"linear/kernel": "another shape", "linear/bias": "another shape"}
    assert anew == heads
    assert_equal(new.discriminator, old.ema_discriminator or old.discriminator, before.keys() - anew.keys())
    for name in anew:
        np.testing.assert_array_equal(values(new.discriminator)[name], before[name])
        assert f"discriminator  {name} " in table
    if new.ema_discriminator is not None:
        assert_equal(new.ema_discriminator, new.discriminator)


def test_vectors_of_classes_go_by_name(source, make_model, tmp_path):
    directory, old = source("gan", ABC)
    there = values(old.ema_generator)["embedding/kernel"]
    settings, new = make_model("gan", 2)
    before = values(new.generator)["embedding/kernel"]
    record, _ = give(directory.path, (settings, new), tmp_path, ("a", "d"))
    assert record["networks"]["generator"]["drawn_anew"] == {"embedding/kernel": "other classes"}
    np.testing.assert_array_equal(values(new.generator)["embedding/kernel"], before)
    give(directory.path, (settings, new), tmp_path, ("c", "a"))
    np.testing.assert_array_equal(values(new.generator)["embedding/kernel"], there[[2, 0]])


def test_first_and_last_layers_of_another_width_are_drawn_anew(source, make_model, tmp_path):
    directory, old = source("gan")
    settings, new = make_model("gan", latent_dim=24)
    record, table = give(directory.path, (settings, new), tmp_path)
    anew = record["networks"]["generator"]["drawn_anew"]
    assert anew == {"linear/kernel": "another shape"} and record["networks"]["discriminator"]["drawn_anew"] == {}
    assert "linear/kernel" in table and "[24, 512]" in table and "[16, 512]" in table


def test_bad_sources_are_one_line_and_take_nothing(source, make_model, tmp_path):
    directory, _ = source("gan")
    wider = make_model("gan", base_channels=5)
    before = values(wider[1].generator)
    with pytest.raises(UserError) as error:
        give(directory.path, wider, tmp_path)
    assert "no kernel has the shape of the one of its name (fitting tensors: generator/output_conv/bias [3], " in str(
        error.value
    )
    assert "--base_channels=4 there and 5 here). Expected a run" in str(error.value)
    np.testing.assert_equal(values(wider[1].generator), before)
    with pytest.raises(
        UserError, match="is a run of --architecture=biggan, and this one is of biggan_deep .fitting tensors: gen"
    ):
        give(directory.path, make_model("gan", architecture="biggan_deep"), tmp_path)
    model = make_model("gan")
    (tmp_path / "empty").mkdir()
    for place, line in [
        (tmp_path / "empty", "expected the folder of a run of tfvae.train, with config.json in it"),
        (
            tmp_path / "nothing",
            "nothing is there. Expected the folder of a run of tfvae.train, or one of its checkpoints",
        ),
        (directory.checkpoints / "ckpt-57", "nothing is there"),
    ]:
        with pytest.raises(UserError, match=f"--init_from={place}: {line}"):
            give(place, model, tmp_path)
    shutil.copytree(directory.path, tmp_path / "damaged")
    (data,) = (tmp_path / "damaged" / "checkpoints").glob("*.data*")
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(UserError, match="ckpt-56 cannot be read"):
        give(tmp_path / "damaged", model, tmp_path)
    with pytest.raises(UserError, match="lies in the run that --overwrite would delete"):
        initial.source_of(run.RunDirectory(directory.path), directory.checkpoints / "ckpt-56", True, overwrite=True)


def test_a_run_that_was_begun_so_goes_on_without_its_source(source, make_split, tmp_path, make_model):
    old, _ = source("gan")
    place = tmp_path / "old"
    shutil.copytree(old.path, place)
    split = make_split()
    directory = run.RunDirectory(tmp_path / "new")
    settings, model = make_model("gan")
    settings = build.resolve(settings, split)
    record, _ = give(place, (settings, model), tmp_path)
    directory.begin(settings, split, overwrite=False, init=record)
    # Killed before its first checkpoint: the source is needed, and remembered.
    assert initial.source_of(directory, None, True, overwrite=False).place == place
    store.write(directory.checkpoints, model, 0, keep=1)
    shutil.rmtree(place)
    assert initial.source_of(directory, place, True, overwrite=False) is None
    assert initial.source_of(directory, None, True, overwrite=False) is None
    directory.begin(settings, split, overwrite=False)
    kept = json.loads(directory.config_file.read_text())["init"]
    assert kept["from"] == str(place) and "linear/kernel" in kept["networks"]["generator"]["taken"]
    for other, average in ((old.path, True), (place, False)):
        with pytest.raises(UserError, match=f"was begun with --init_from={place}. Expected the same or none"):
            initial.source_of(directory, other, average, overwrite=False)
    with pytest.raises(UserError, match="was begun without --init_from. Expected the same or none to go on"):
        initial.source_of(old, place, True, overwrite=False)

"""Configurations and strategies: bad input, of flags and of the environment, is one clear line."""

import dataclasses
import json
from pathlib import Path

import pytest
from absl import flags

from tfvae import command, config
from tfvae.command import UserError
from tfvae.config import Config
from tfvae.networks import tables
from tfvae.training import build, callbacks
from tfvae.training import strategy as strategies

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        (dict(architecture="resnet"), "--architecture=resnet: expected one of biggan, biggan_deep"),
        (dict(loss="mse"), "--loss=mse: expected one of vanilla, hinge, least_squares, wasserstein"),
        (dict(batch_size=0), "--batch_size=0: expected 1 or more"),
        (dict(resolution=100), "--resolution=100: expected one of 32, 45, 64, 128, 256, 512"),
        (
            dict(objective="vae", augment=("typo",)),
            "--augment=typo is a flag of --objective=gan and --objective is vae: expected without it, or nothing, its default",
        ),
        (dict(objective="vae", discriminator_steps=2), "--discriminator_steps=2 is a flag of --objective=gan"),
        (dict(objective="gan", kl_weight=0.5), "--kl_weight=0.5 is a flag of --objective=vae"),
        (dict(objective="gan", decoder_variance="optimal"), "expected without it, or fixed, its default"),
        (dict(beta_1=1.0), "--beta_1=1.0: expected 0 or more and less than 1"),
        (dict(learning_rate_decay_images=9, train_images=5), "--learning_rate_decay_images=9 is more than"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(wrong, line):
    with pytest.raises(ValueError) as error:
        Config(**wrong)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        (dict(latent_dim=3), "--latent_dim=3 is too small"),
        (dict(architecture="biggan_deep", base_channels=6), "--base_channels=6: expected a positive multiple of 4"),
        (dict(augment=("blur",)), "--augment=blur: expected some of color, translation, cutout"),
        (dict(objective="both"), "--objective=both: expected one of gan, vae"),
        (dict(channel_multipliers=(4, 4)), "--channel_multipliers=4,4 does not fit 32 px"),
        (
            dict(discriminator_channel_multipliers=(2, 2)),
            "--discriminator_channel_multipliers=2,2 does not fit 32 px: expected 4 positive numbers such as 1,2,4,8",
        ),
    ],
)
def test_sizes_that_do_not_fit_together_are_named(wrong, line, make_split, tiny_flags):
    split = make_split(num_classes=3)
    with pytest.raises(ValueError) as error:
        build.make_objective(build.resolve(Config(**tiny_flags | wrong), split), 3)
    assert line in str(error.value)


def test_a_flag_of_another_objective_may_have_its_default():
    assert Config(objective="vae", discriminator_steps=1, loss="vanilla", augment=()).images_per_step == 64
    assert Config(objective="gan", kl_weight=1.0, decoder_variance="fixed").kl_weight == 1.0


@pytest.mark.parametrize(
    ("resolution", "side", "line"),
    [
        (
            45,
            16,
            "--attention_resolution=16: at 45 px only the generator has a stage of that side. Expected 0: no non-local",
        ),
        (45, 11, "only the discriminator has a stage of that side"),
        (64, 64, "only the generator has a stage of that side. Expected 8 or 16 or 32, which both have, or 0"),
        (128, 128, "Expected 8 or 16 or 32 or 64, which both have, or 0"),
    ],
)
def test_a_side_that_one_network_alone_has_is_an_error_that_names_those_of_both(resolution, side, line):
    with pytest.raises(ValueError) as error:
        tables.check_attention(resolution, side)
    assert line in str(error.value)


@pytest.mark.parametrize(
    ("resolution", "side"), [(32, 0), (32, 16), (32, 64), (45, 64), (64, 32), (128, 64), (512, 128)]
)
def test_a_side_that_both_networks_or_neither_have_is_none(resolution, side):
    tables.check_attention(resolution, side)


@pytest.mark.parametrize(("resolution", "side"), [(32, 0), (45, 0), (64, 0), (128, 64), (256, 64), (512, 64)])
def test_the_non_local_block_is_at_64_px_where_both_networks_have_that_side(resolution, side, make_split):
    assert build.resolve(Config(dataset="random"), make_split(1, resolution)).attention_resolution == side


def test_labels_cannot_be_asked_of_data_without_labels(make_split):
    with pytest.raises(ValueError, match="--conditional: random has no labels"):
        build.resolve(Config(dataset="random", conditional=True), dataclasses.replace(make_split(), dataset="random"))


def test_a_batch_that_does_not_divide_over_the_replicas_is_refused(two_replicas):
    with pytest.raises(
        ValueError, match="--batch_size=7 does not divide over 2 replicas. Expected a multiple of 2, such as 6"
    ):
        strategies.check_batch_size(7, two_replicas)


def config_of(*arguments):
    """The configuration that a command would read from its arguments."""
    values = flags.FlagValues()
    config.define_flags(values)
    values(values.read_flags_from_files(["command", *arguments]))
    return Config.from_flags(values)


def test_every_field_is_a_flag_and_comes_back_from_it():
    settings = config_of("--channel_multipliers=4,4,4,4", "--augment=color,cutout", "--noflip", "--conditional")
    assert settings == Config(channel_multipliers=(4, 4, 4, 4), augment=("color", "cutout"), conditional=True)


def test_train_images_are_rounded_up_to_whole_steps_whatever_a_call_does():
    settings = Config(batch_size=10, discriminator_steps=2, steps_per_execution=3, train_images=61)
    assert settings.images_per_step == 20
    assert (settings.total_images, settings.steps_left()) == (80, 4)
    assert [settings.steps_left(seen) for seen in (25, 41, 42, 61, 120)] == [2, 1, 1, 0, 0]


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (
            ["base_channels"],
            "--base_channels decides the data, the networks or what an optimizer keeps, and cannot change",
        ),
        (["dataset"], "--init_from=RUN starts a new run from its weights"),
        (["batchsize"], "'batchsize' is no flag: expected some of model_dir, data_dir, "),
    ],
)
def test_flags_that_cannot_change_in_a_run_are_named(names, line):
    config.check_changeable(["batch_size", "kl_weight", "train_images"])
    with pytest.raises(ValueError, match="--allow_changed_flags=") as error:
        config.check_changeable(names)
    assert line in str(error.value)


def test_an_end_for_want_of_gain_needs_scores():
    with pytest.raises(
        ValueError, match="--stop_after_images_without_gain=8 without --eval_every_images: expected both"
    ):
        Config(stop_after_images_without_gain=8)


@pytest.mark.parametrize("name", config.PLACES)
def test_a_folder_is_given_as_people_write_it(name, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert getattr(config_of(f"--{name}=~/a b"), name) == str(tmp_path / "a b")
    assert getattr(config_of(f"--{name}=a/~b"), name) == "a/~b"
    for url in ("gs://bucket/x", "S3://bucket/x", "http://host/x", "file:///x", "hdfs://x"):
        with pytest.raises(UserError, match=f"--{name}={url}: URLs are neither read nor written: expected a path"):
            config_of(f"--{name}={url}")
    with pytest.raises(UserError, match=f"--{name}=~nobody-of-this-name/x: that home folder is not known"):
        config_of(f"--{name}=~nobody-of-this-name/x")


def cluster(task=None, **jobs):
    return json.dumps({"cluster": jobs, "task": task or {"type": "worker", "index": 0}})


HOSTS = ["one:2222", "other:2222"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (None, "is not set"),
        ("", "is not set"),
        ("{}", '"cluster" is not of "worker"'),
        ("{", "no JSON"),
        ("'worker'", "no JSON"),
        ("[1]", "no JSON object"),
        (cluster(), '"cluster" is not of "worker"'),
        (cluster(ps=HOSTS, worker=HOSTS), '"cluster" is not of "worker"'),
        (cluster(worker="one:2222"), "no lists of addresses"),
        (cluster(worker=[]), "no lists of addresses"),
        (cluster(worker=["one", "other:2222"]), "'one' is no address with a port"),
        (cluster(worker=["one:port"]), "'one:port' is no address with a port"),
        (cluster(worker=["one:70000"]), "'one:70000' is no address with a port"),
        (cluster(worker=[":2222"]), "':2222' is no address with a port"),
        (cluster(worker=[2222]), "2222 is no address with a port"),
        (cluster(worker=["one:2222", "one:2222"]), "an address is there twice"),
        (cluster(chief=HOSTS, worker=["third:2222"]), "more than one chief"),
        (json.dumps({"cluster": {"worker": HOSTS}}), 'the "type" of "task" is none of worker'),
        (cluster(worker=HOSTS, task={"type": "chief", "index": 0}), 'the "type" of "task" is none of worker'),
        (cluster(worker=HOSTS, task={"type": "worker"}), 'the "index" of "task" is none of 0 to 1'),
        (cluster(worker=HOSTS, task={"type": "worker", "index": 2}), 'the "index" of "task" is none of 0 to 1'),
        (cluster(worker=HOSTS, task={"type": "worker", "index": -1}), 'the "index" of "task" is none of 0 to 1'),
    ],
)
def test_a_cluster_that_is_none_is_one_line_that_names_its_variable(text, line, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if text is not None:
        monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match="--strategy=multi_worker: the environment variable TF_CONFIG") as error:
        strategies.make_strategy(Config(strategy="multi_worker"))
    assert line in str(error.value) and "Expected JSON such as" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        cluster(worker=HOSTS),
        cluster(chief=["one:1"], worker=["[::1]:65535"], task={"type": "chief", "index": 0}),
        cluster(worker=HOSTS, task={"type": "worker", "index": "1"}),
    ],
)
def test_a_cluster_that_is_one_is_taken(text):
    strategies.check_cluster(text)


def test_a_cluster_does_not_matter_where_one_machine_trains(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{")
    for name in ("one", "auto"):
        assert strategies.make_strategy(Config(strategy=name)).num_replicas_in_sync == 1


# Those of configs/study/ are the study's, and tested with it.
FLAGFILES = [p.relative_to(ROOT) for p in sorted((ROOT / "configs").rglob("*.cfg")) if p.parent.name != "study"]


@pytest.mark.parametrize("flagfile", map(str, FLAGFILES))
def test_every_flagfile_makes_an_experiment(flagfile, monkeypatch):
    monkeypatch.chdir(ROOT)
    settings = config_of(f"--flagfile={flagfile}")
    name = flagfile.split("/")[-1]
    assert settings.objective in name
    if "_" in name:
        assert settings.dataset in name
        assert ("deep" in name) == (settings.architecture == "biggan_deep")


def test_a_clock_is_due_once_at_every_multiple():
    clock = callbacks.Clock(10, 0)
    assert [clock.due(images) for images in (4, 8, 12, 16, 20, 39)] == [False, False, True, False, True, True]
    assert not callbacks.Clock(0, 0).due(100)


def test_durations_read_as_a_person_says_them():
    assert (command.duration(61), command.duration(3725)) == ("1m 01s", "1h 02m")

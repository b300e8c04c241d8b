"""Configurations, the run's directory and its checkpoints: bad input is one clear line, and nothing is lost."""

import dataclasses
import json
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from absl import flags

from tfvae import command, config
from tfvae.command import UserError
from tfvae.config import Config
from tfvae.networks import tables
from tfvae.training import build, callbacks, checkpoints, run
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


def test_a_run_that_is_begun_anew_leaves_nothing_of_the_old_one(make_split, tmp_path):
    directory, split = run.RunDirectory(tmp_path / "run"), make_split()
    settings = build.resolve(Config(dataset="random"), split)
    directory.begin(settings, split, overwrite=False)
    for name in ("scores.json", "scores_gmm.json", "metrics.jsonl", "notes.txt"):
        (directory.path / name).write_text("{}")
    directory.begin(settings, split, overwrite=True)
    # What the user put there stays.
    assert sorted(path.name for path in directory.path.iterdir()) == ["config.json", "notes.txt"]


def test_a_run_of_a_newer_format_is_refused(make_split, tmp_path):
    directory, split = run.RunDirectory(tmp_path / "run"), make_split()
    directory.begin(build.resolve(Config(dataset="random"), split), split, overwrite=False)
    record = json.loads(directory.config_file.read_text())
    assert record["format"] == run.FORMAT
    directory.config_file.write_text(json.dumps(record | {"format": run.FORMAT + 1}))
    with pytest.raises(UserError, match="from a newer version of tfvae: expected 1 or less"):
        directory.read_config()


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


def test_train_images_are_rounded_up_to_whole_calls():
    settings = Config(batch_size=10, discriminator_steps=2, steps_per_execution=3, train_images=61)
    assert settings.images_per_step == 20
    assert settings.total_steps == 6


@pytest.fixture(scope="module")
def tiny_model():
    """An objective that is never trained: (settings, model)."""
    from tfvae.data.split import Split

    split = Split("random", "train", 32, 8, 0, (), np.zeros((8, 32, 32, 3), np.uint8), np.zeros(8, np.int32))
    settings = build.resolve(
        Config(base_channels=4, latent_dim=8, batch_size=8, objective="vae", dataset="random"), split
    )
    return settings, build.make_objective(settings, 0), split


@pytest.fixture
def made_run(tiny_model, tmp_path):
    """A run's directory with three checkpoints, at 8, 16 and 24 images; the first weight tells which."""
    settings, model, split = tiny_model
    directory = run.RunDirectory(tmp_path)
    directory.begin(settings, split, overwrite=False)
    saver = make_saver(settings, model, directory, split)
    for step in (1, 2, 3):
        model.step.assign(step)
        model.generator.weights[0].assign(tf.fill(model.generator.weights[0].shape, float(step)))
        saver.save()
    return settings, model, split, directory


def make_saver(settings, model, directory, split):
    saver = checkpoints.Checkpoints(settings, directory, (split.images, split.labels))
    saver.set_model(model)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    saver.on_train_begin()
    for number, handler in handlers.items():
        signal.signal(number, handler)
    return saver


def first_weight(model):
    return float(model.generator.weights[0].numpy().ravel()[0])


def damage(directory, images_seen, size=100):
    (data,) = directory.checkpoints.glob(f"ckpt-{images_seen}.data*")
    data.write_bytes(data.read_bytes()[:size])


def test_the_newest_checkpoint_is_restored_whole(made_run):
    settings, model, _, directory = made_run
    model.step.assign(0)
    model.generator.weights[0].assign(tf.zeros_like(model.generator.weights[0]))
    assert run.restore_newest(directory.checkpoints, model).endswith("ckpt-24")
    assert (model.images_seen, first_weight(model)) == (24, 3.0)


def test_a_checkpoint_holds_every_weight_and_every_moment(made_run):
    _, model, _, directory = made_run
    variables = [
        variable
        for part in (model, model.generator_optimizer, model.discriminator_optimizer)
        for variable in part.variables
        if "float" in str(variable.dtype)
    ]
    assert len(variables) > 200
    for variable in variables:
        variable.assign(tf.fill(variable.shape, 7.0))
    run.restore_newest(directory.checkpoints, model)
    assert not [variable.path for variable in variables if np.all(variable.numpy() == 7.0)]


def test_a_checkpoint_cut_short_is_set_aside_and_the_one_before_is_used(made_run, capsys):
    _, model, _, directory = made_run
    damage(directory, 24)
    for set_aside in (False, True):  # first as a command that only reads, then as the run itself
        assert run.restore_newest(directory.checkpoints, model, set_aside).endswith("ckpt-16")
        assert (model.images_seen, first_weight(model)) == (16, 2.0)
        assert "ckpt-24 cannot be read" in capsys.readouterr().out
    assert (directory.checkpoints / "ckpt-24.index.damaged").exists()
    assert run.restore_newest(directory.checkpoints, model).endswith("ckpt-16")


def test_a_checkpoint_without_its_data_or_with_an_empty_index_is_set_aside(made_run):
    _, model, _, directory = made_run
    (directory.checkpoints / "ckpt-24.index").write_bytes(b"")
    for data in directory.checkpoints.glob("ckpt-16.data*"):
        data.unlink()
    assert run.restore_newest(directory.checkpoints, model).endswith("ckpt-8")


def test_a_run_without_a_readable_checkpoint_does_not_start_anew_by_itself(made_run):
    _, model, _, directory = made_run
    for images_seen in (8, 16, 24):
        damage(directory, images_seen)
    with pytest.raises(UserError, match="no checkpoint in .* can be read .*Expected at least one") as error:
        run.restore_newest(directory.checkpoints, model)
    assert "overwrite" not in str(error.value)  # it would delete what may be mended


def test_a_full_disk_while_saving_keeps_the_old_checkpoints(made_run):
    settings, model, split, directory = made_run
    saver = make_saver(settings, model, directory, split)
    model.step.assign(4)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # writes beyond it fail, as on a full disk
    try:
        with pytest.raises(UserError, match="could not be written .* free some space and run the same command again"):
            saver.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(directory.checkpoints.glob("ckpt-32*"))
    assert run.restore_newest(directory.checkpoints, model).endswith("ckpt-24")
    model.step.assign(4)
    saver.save()
    assert run.restore_newest(directory.checkpoints, model).endswith("ckpt-32")


def test_only_the_newest_checkpoints_are_kept(made_run):
    settings, model, split, directory = made_run
    saver = make_saver(dataclasses.replace(settings, keep_checkpoints=2), model, directory, split)
    model.step.assign(5)
    saver.save()
    assert sorted(file.stem for file in directory.checkpoints.glob("*.index")) == ["ckpt-24", "ckpt-40"]


def test_a_loss_that_is_not_finite_stops_with_the_last_good_checkpoint_named(made_run):
    _, model, _, directory = made_run
    finite = checkpoints.Finite(directory)
    finite.set_model(model)
    finite.on_train_batch_end(0, {"loss": 1.0})
    with pytest.raises(UserError, match="diverged at .* images: loss=nan, .*=inf.* last good checkpoint is .*ckpt-24"):
        finite.on_train_batch_end(1, {"loss": float("nan"), "norm": float("inf"), "kl": 2.0})


def test_a_run_made_with_other_flags_is_not_touched(made_run):
    settings, _, split, directory = made_run
    before = directory.config_file.read_text()
    with pytest.raises(
        UserError, match="made with other flags or data: --kl_weight was 1.0, is 2.0.*another --model_dir"
    ):
        directory.begin(dataclasses.replace(settings, kl_weight=2.0), split, overwrite=False)
    assert directory.config_file.read_text() == before
    directory.begin(dataclasses.replace(settings, train_images=999), split, overwrite=False)
    directory.begin(dataclasses.replace(settings, kl_weight=2.0), split, overwrite=True)
    assert not directory.checkpoints.exists()


def test_a_run_is_not_resumed_on_other_data(made_run):
    settings, _, split, directory = made_run
    other = dataclasses.replace(split, images=split.images + np.uint8(1))
    with pytest.raises(UserError, match="the data's fingerprint changed"):
        directory.begin(settings, other, overwrite=False)


def test_overwrite_deletes_a_run_and_nothing_else(tmp_path, tiny_model):
    settings, _, split = tiny_model
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "other").write_text("of somebody else")
    run.RunDirectory(tmp_path).begin(settings, split, overwrite=True)
    assert (tmp_path / "logs" / "other").exists()


def test_checkpoints_without_their_config_are_not_used(made_run):
    settings, _, split, directory = made_run
    directory.config_file.unlink()
    with pytest.raises(UserError, match="holds checkpoints and no config.json"):
        directory.begin(settings, split, overwrite=False)


def test_checkpoints_of_other_networks_are_left_alone(made_run):
    settings, _, split, directory = made_run
    wider = build.make_objective(dataclasses.replace(settings, base_channels=5), 0)
    with pytest.raises(UserError, match="holds other weights than the networks of these flags have in this version"):
        run.restore_newest(directory.checkpoints, wider, set_aside=True)
    assert len(list(directory.checkpoints.glob("*.index"))) == 3


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


def test_config_json_holds_all_that_other_commands_need(made_run):
    settings, _, _, directory = made_run
    read, data = directory.read_config()
    assert dataclasses.replace(read, model_dir="") == settings
    assert len(data.pop("fingerprints")["pixels"]) == 64
    assert data == {"num_classes": 0, "class_names": [], "num_images": 8}


@pytest.mark.parametrize("text", ["", "{}", '{"flags": {"colour": 1}, "data": {}}'])
def test_a_config_json_that_is_not_one_is_one_clear_line(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match="config.json cannot be read .* expected the file that tfvae.train wrote"):
        run.RunDirectory(tmp_path).read_config()


def test_a_folder_without_a_model_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="holds no model: expected .*config.json"):
        run.load(tmp_path / "nothing")


def test_metrics_after_the_restored_checkpoint_are_dropped(made_run):
    settings, model, _, directory = made_run
    rows = [json.dumps({"images": images, "loss": 1.0}) for images in (8, 24, 32)]
    directory.metrics.write_text("\n".join(rows) + '\n{"images": 40, "lo')
    model.step.assign(3)
    metrics = callbacks.Metrics(settings, directory, tf.summary.create_noop_writer())
    metrics.set_model(model)
    metrics.on_train_begin()
    assert [json.loads(line)["images"] for line in directory.metrics.read_text().splitlines()] == [8, 24]


def test_a_clock_is_due_once_at_every_multiple():
    clock = callbacks.Clock(10, 0)
    assert [clock.due(images) for images in (4, 8, 12, 16, 20, 39)] == [False, False, True, False, True, True]
    assert not callbacks.Clock(0, 0).due(100)


def test_durations_read_as_a_person_says_them():
    assert (command.duration(61), command.duration(3725)) == ("1m 01s", "1h 02m")

"""Checkpoints: the newest good one is found, what is damaged is proved to be, and nothing that could be good is lost."""

import dataclasses
import errno
import os
import resource
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf
from objectives_toys import at_step

from tfvae.command import UserError
from tfvae.training import build, checkpoints, run, store


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
    at_step(model, 0)
    model.generator.weights[0].assign(tf.zeros_like(model.generator.weights[0]))
    assert store.restore_newest(directory.checkpoints, model).endswith("ckpt-24")
    assert (model.images_seen, first_weight(model)) == (24, 3.0)


def test_a_checkpoint_holds_every_weight_and_every_moment(made_run):
    _, model, _, directory = made_run
    variables = [
        variable
        for part in (model, model.generator_optimizer, model.discriminator_optimizer)
        for variable in part.variables
        if "float" in str(variable.dtype) and variable.name != "learning_rate"  # which the flags give
    ]
    assert len(variables) > 200
    for variable in variables:
        variable.assign(tf.fill(variable.shape, 7.0))
    store.restore_newest(directory.checkpoints, model)
    assert not [variable.path for variable in variables if np.all(variable.numpy() == 7.0)]


def test_a_checkpoint_cut_short_is_set_aside_and_the_one_before_is_used(made_run, capsys):
    _, model, _, directory = made_run
    damage(directory, 24)
    for set_aside in (False, True):  # first as a command that only reads, then as the run itself
        assert store.restore_newest(directory.checkpoints, model, set_aside).endswith("ckpt-16")
        assert (model.images_seen, first_weight(model)) == (16, 2.0)
        assert "ckpt-24 cannot be read" in capsys.readouterr().out
    assert (directory.checkpoints / "ckpt-24.index.damaged").exists()
    assert store.restore_newest(directory.checkpoints, model).endswith("ckpt-16")


def test_a_checkpoint_without_its_data_or_with_an_empty_index_is_set_aside(made_run):
    _, model, _, directory = made_run
    (directory.checkpoints / "ckpt-24.index").write_bytes(b"")
    for data in directory.checkpoints.glob("ckpt-16.data*"):
        data.unlink()
    assert store.restore_newest(directory.checkpoints, model).endswith("ckpt-8")


def test_a_run_without_a_readable_checkpoint_does_not_start_anew_by_itself(made_run):
    _, model, _, directory = made_run
    for images_seen in (8, 16, 24):
        damage(directory, images_seen)
    with pytest.raises(UserError, match="no checkpoint in .* can be read .*Expected at least one") as error:
        store.restore_newest(directory.checkpoints, model)
    assert "overwrite" not in str(error.value)  # it would delete what may be mended


def test_a_disk_that_does_not_take_a_checkpoint_keeps_the_old_ones_and_is_not_called_full(made_run):
    settings, model, split, directory = made_run
    saver = make_saver(settings, model, directory, split)
    at_step(model, 4)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # writes beyond it fail, as on a full disk
    try:
        with pytest.raises(UserError, match="could not be written .*too large.* run the same command again") as error:
            saver.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "space" not in str(error.value)
    assert not list(directory.checkpoints.glob("ckpt-32*"))
    assert store.restore_newest(directory.checkpoints, model).endswith("ckpt-24")
    at_step(model, 4)
    saver.save()
    assert store.restore_newest(directory.checkpoints, model).endswith("ckpt-32")


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), True),
        (tf.errors.ResourceExhaustedError(None, None, "/x; Disk quota exceeded"), True),
        (OSError(errno.EROFS, os.strerror(errno.EROFS), "/x"), False),
        (tf.errors.PermissionDeniedError(None, None, "/x; Permission denied"), False),
        (tf.errors.UnknownError(None, None, "/x; Input/output error"), False),
    ],
)
def test_why_a_checkpoint_cannot_be_written_is_said_as_the_system_says_it(error, full, made_run, monkeypatch):
    _, model, _, directory = made_run

    def fail(*_):
        raise error

    monkeypatch.setattr(tf.train.Checkpoint, "write", fail)
    with pytest.raises(UserError, match="before it are whole; .* the same command again.$") as raised:
        store.write(directory.checkpoints, model, 32, keep=3)
    assert ("free some space" in str(raised.value)) == full
    assert (error.strerror if isinstance(error, OSError) else error.message) in str(raised.value)


def test_only_the_newest_checkpoints_are_kept(made_run):
    settings, model, split, directory = made_run
    saver = make_saver(dataclasses.replace(settings, keep_checkpoints=2), model, directory, split)
    at_step(model, 5)
    saver.save()
    assert sorted(file.stem for file in directory.checkpoints.glob("*.index")) == ["ckpt-24", "ckpt-40"]


def test_a_loss_that_is_not_finite_stops_with_the_last_good_checkpoint_named(made_run):
    _, model, _, directory = made_run
    finite = checkpoints.Finite(directory)
    finite.set_model(model)
    finite.on_train_batch_end(0, {"loss": 1.0})
    with pytest.raises(UserError, match="diverged at .* images: loss=nan, .*=inf.* last good checkpoint is .*ckpt-24"):
        finite.on_train_batch_end(1, {"loss": float("nan"), "norm": float("inf"), "kl": 2.0})


def test_checkpoints_of_other_networks_are_left_alone(made_run):
    settings, _, split, directory = made_run
    wider = build.make_objective(dataclasses.replace(settings, base_channels=5), 0)
    with pytest.raises(UserError, match="holds other weights than the networks of these flags have in this version"):
        store.restore_newest(directory.checkpoints, wider, set_aside=True)
    assert len(list(directory.checkpoints.glob("*.index"))) == 3


@pytest.mark.parametrize("name", ["a [2]/x", "b\\c", "*?", "{d,e}", "[f", "ü %20"])
def test_a_folder_may_have_any_name(name, made_run, tmp_path):
    _, model, _, directory = made_run
    folder = tmp_path / name / "checkpoints"
    shutil.copytree(directory.checkpoints, folder)
    at_step(model, 4)
    store.write(folder, model, 32, keep=1)
    assert list(store.stored(folder)) == [32]
    at_step(model, 0)
    assert store.restore_newest(folder, model, set_aside=True) == str(folder / "ckpt-32")
    assert model.images_seen == 32
    assert store.newest_finite(folder) == folder / "ckpt-32"
    assert sorted(os.listdir(folder)) == ["checkpoint", "ckpt-32.data-00000-of-00001", "ckpt-32.index"]
    shutil.copytree(folder, tmp_path / "plain")  # TensorFlow's own function finds the newest too
    assert tf.train.latest_checkpoint(tmp_path / "plain") == str(tmp_path / "plain" / "ckpt-32")


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 0x10
    path.write_bytes(content)


DAMAGE = {
    "data cut short": lambda data, index: data.write_bytes(data.read_bytes()[:-1]),
    "data empty": lambda data, index: data.write_bytes(b""),
    "data zeroed": lambda data, index: data.write_bytes(bytes(data.stat().st_size)),
    "data with one bit flipped": lambda data, index: flip(data, 0.3),
    "data missing": lambda data, index: data.unlink(),
    "index cut short": lambda data, index: index.write_bytes(index.read_bytes()[:-1]),
    "index empty": lambda data, index: index.write_bytes(b""),
    "index with one bit flipped": lambda data, index: flip(index, 0.3),
    "index missing": lambda data, index: index.unlink(),
    "index renamed": lambda data, index: index.rename(index.with_name("ckpt-old.index")),
    "index renamed by an older version": lambda data, index: index.rename(f"{index}.damaged"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_is_proved_to_be_damaged_is_set_aside(kind, made_run, capsys):
    _, model, _, directory = made_run
    index = directory.checkpoints / "ckpt-24.index"
    DAMAGE[kind](index.with_name("ckpt-24.data-00000-of-00001"), index)
    assert store.restore_newest(directory.checkpoints, model, set_aside=True).endswith("ckpt-16")
    assert first_weight(model) == 2.0
    assert "ckpt-24 cannot be read" in capsys.readouterr().out
    left = [name for name in os.listdir(directory.checkpoints) if name.startswith("ckpt-24")]
    assert all(name.endswith(".damaged") for name in left)


def error_of(kind, text):
    def fail(*arguments):
        raise kind(None, None, text) if issubclass(kind, tf.errors.OpError) else kind(text)

    return lambda patch, data, index: patch.setattr(store, "_restore", fail)


def replace_by_link(path, target):
    path.unlink()
    path.symlink_to(target)


def exhaust_descriptors(patch, data, index):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1, limits[1]))
    patch.setattr(resource, "reset", lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limits), raising=False)


SURROUNDINGS = {
    "no more open files": exhaust_descriptors,
    # Reading it fails as on a disk that does not answer: Input/output error, and a size of 0.
    "data on a broken disk": lambda patch, data, index: replace_by_link(data, "/proc/self/mem"),
    "index on a broken disk": lambda patch, data, index: replace_by_link(index, "/proc/self/mem"),
    "data on a disk that is not there": lambda patch, data, index: replace_by_link(data, "/nowhere/data"),
    "index on a disk that is not there": lambda patch, data, index: replace_by_link(index, "/nowhere/index"),
    "no memory": error_of(MemoryError, ""),
    "no memory on the GPU": error_of(tf.errors.ResourceExhaustedError, "OOM when allocating tensor"),
    "no permission": error_of(tf.errors.PermissionDeniedError, "ckpt-24.data; Permission denied"),
    "no permission, from Python": error_of(PermissionError, "Permission denied"),
    "a disk that is gone": error_of(tf.errors.UnknownError, "ckpt-24.data; Stale file handle"),
    "an error that nobody knows": error_of(tf.errors.InternalError, "something"),
}


@pytest.mark.parametrize("kind", SURROUNDINGS)
def test_what_may_be_the_surroundings_is_told_and_nothing_is_renamed(kind, made_run, monkeypatch):
    _, model, _, directory = made_run
    index = directory.checkpoints / "ckpt-24.index"
    before = sorted(os.listdir(directory.checkpoints))
    SURROUNDINGS[kind](monkeypatch, index.with_name("ckpt-24.data-00000-of-00001"), index)
    try:
        with pytest.raises(UserError, match="cannot be read"):
            store.restore_newest(directory.checkpoints, model, set_aside=True)
    finally:
        getattr(resource, "reset", lambda: None)()
    assert sorted(os.listdir(directory.checkpoints)) == before


def test_checkpoints_that_a_training_replaces_while_they_are_read_are_read_anew(made_run, monkeypatch):
    _, model, _, directory = made_run
    restore, model_step = store.restore, 4

    def replaced_meanwhile(prefix, model):
        monkeypatch.setattr(store, "restore", restore)
        at_step(model, model_step)
        store.write(directory.checkpoints, model, 32, keep=1)
        restore(prefix, model)

    monkeypatch.setattr(store, "restore", replaced_meanwhile)
    assert store.restore_newest(directory.checkpoints, model).endswith("ckpt-32")


def test_a_training_saves_a_checkpoint_before_its_first_step_that_no_other_command_takes(tiny_model, tmp_path):
    settings, model, split = tiny_model
    directory = run.RunDirectory(tmp_path)
    directory.begin(settings, split, overwrite=False)
    at_step(model, 0)
    saver = make_saver(dataclasses.replace(settings, keep_checkpoints=2), model, directory, split)
    assert list(store.stored(directory.checkpoints)) == [0]
    with pytest.raises(UserError, match="holds no checkpoint of a trained model yet"):
        run.load(tmp_path)
    kept = []
    for step in (1, 2, 3):
        at_step(model, step)
        saver.save()
        kept.append(list(store.stored(directory.checkpoints)))
    assert kept == [[0, 8], [8, 16], [16, 24]]


def test_a_run_whose_only_checkpoint_is_damaged_goes_on_from_the_one_before_its_first_step(
    tiny_model, tmp_path, capsys
):
    settings, model, split = tiny_model
    directory = run.RunDirectory(tmp_path)
    directory.begin(settings, split, overwrite=False)
    at_step(model, 0)
    saver = make_saver(settings, model, directory, split)
    at_step(model, 3)
    saver.save()
    damage(directory, 24)
    directory.begin(settings, split, overwrite=False)
    with pytest.raises(UserError, match="no checkpoint in .* can be read .ckpt-24: "):
        run.load(tmp_path)
    for _ in range(2):
        assert store.restore_newest(directory.checkpoints, model, set_aside=True).endswith("ckpt-0")
        assert model.images_seen == 0
        directory.begin(settings, split, overwrite=False)
    assert capsys.readouterr().out.count("ckpt-24 cannot be read") == 1


@pytest.mark.parametrize("part", ["weight", "average", "moment"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_checkpoint_that_is_not_finite_is_not_saved(part, value, made_run):
    settings, model, split, directory = made_run
    saver = make_saver(settings, model, directory, split)
    moments = [v for v in model.generator_optimizer.variables if "velocity" in v.path]
    variable = {
        "weight": model.discriminator.weights[2],
        "average": model.ema_generator.weights[2],
        "moment": moments[3],
    }[part]
    kept = variable.numpy()
    at_step(model, 4)
    model.statistics_step = 4  # else the averages' statistics are measured anew
    try:
        variable.assign(np.full(kept.shape, value))
        with pytest.raises(checkpoints.NotFiniteError, match="diverged at 32 images: .* is not finite.*ckpt-24; lower"):
            saver.save()
        assert list(store.stored(directory.checkpoints)) == [8, 16, 24]
        # As an older version saved it: the one before is named.
        store.write(directory.checkpoints, model, 32, keep=4)
    finally:
        variable.assign(kept)
    assert store.newest_finite(directory.checkpoints) == directory.checkpoints / "ckpt-24"
    damage(directory, 24)
    assert store.newest_finite(directory.checkpoints) == directory.checkpoints / "ckpt-16"


def test_no_checkpoint_is_named_good_where_none_of_a_trained_model_is(made_run):
    _, model, _, directory = made_run
    shutil.rmtree(directory.checkpoints)
    store.write(directory.checkpoints, model, 0, keep=1)
    assert "No checkpoint of a trained model was saved yet" in str(
        checkpoints.NotFiniteError(model, ["loss=nan"], directory)
    )


def test_left_overs_go_at_the_next_start_and_nothing_else(made_run):
    settings, model, split, directory = made_run
    folder = directory.checkpoints
    (folder / "ckpt-32_temp").mkdir()
    left_overs = ["ckpt-32_temp/part-00000-of-00001.index", "ckpt-32.index.tempstate123", f".checkpoint.{'0' * 32}.tmp"]
    orphans = ["ckpt-4.index", "ckpt-4.data-00000-of-00001", "ckpt-3.data-00000-of-00001"]
    stay = ["notes.tmp", "ckpt-4.index.damaged", "ckpt-best.txt"]
    for name in left_overs + orphans + stay:
        (folder / name).write_text("")
    (folder / "checkpoint").write_text("")  # cut short: read by nobody, made anew by the next save
    for file in (
        directory.path / f".config.json.{'0' * 32}.tmp",
        directory.samples / f".000000008_x.png.{'0' * 32}.tmp",
    ):
        file.parent.mkdir(exist_ok=True)
        file.write_text("")
    directory.begin(settings, split, overwrite=False)
    store.restore_newest(folder, model, set_aside=True)
    make_saver(settings, model, directory, split)
    good = [f"ckpt-{n}.{part}" for n in (8, 16, 24) for part in ("data-00000-of-00001", "index")]
    assert sorted(os.listdir(folder)) == sorted(["checkpoint", *good, *stay])
    assert sorted(os.listdir(directory.path)) == ["checkpoints", "config.json", "samples"]
    assert not os.listdir(directory.samples)


def test_a_checkpoint_that_was_just_saved_stays_whatever_else_is_there(made_run):
    _, model, _, directory = made_run
    store.write(
        directory.checkpoints, model, 12, keep=1
    )  # the best of a run that had gone on to 24 before it was killed
    assert list(store.stored(directory.checkpoints)) == [12]

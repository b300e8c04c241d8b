"""A run's folder: bad input is one clear line, a run is held by one training, and nothing of it is lost."""

import dataclasses
import json
import os
import shutil
import signal
import socket
import time

import numpy as np
import pytest

from tfvae.command import UserError
from tfvae.config import Config
from tfvae.training import build, run, store


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
    with pytest.raises(UserError, match="from a newer version of tfvae: expected 2 or less"):
        directory.read_config()


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


def test_config_json_holds_all_that_other_commands_need(made_run):
    settings, _, _, directory = made_run
    read, data = directory.read_config()
    assert dataclasses.replace(read, model_dir="") == settings
    assert len(data.pop("fingerprints")["pixels"]) == 64
    assert data == {"num_classes": 0, "class_names": [], "num_images": 8}


WITHOUT_SIZE = {"format": 1, "flags": {}, "data": {"num_classes": 0, "class_names": [], "num_images": 1}}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"flags": {"colour": 1}, "data": {}}',
        '{"flags": null, "data": {}}',
        '{"flags": {}, "data": null}',
        '{"flags": [], "data": {}}',
        '{"flags": {"batch_size": "8"}, "data": {}, "format": 1}',
        '{"flags": {"resolution": 32}, "data": {}, "format": 1}',
        '{"flags": {}, "data": {}, "format": "new"}',
        json.dumps(WITHOUT_SIZE),
        "\udcff",
    ],
)
def test_a_config_json_that_is_not_one_is_one_clear_line(tmp_path, text):
    (tmp_path / "config.json").write_text(text, errors="surrogateescape")
    with pytest.raises(UserError, match="config.json cannot be read .* expected the file that tfvae.train wrote"):
        run.RunDirectory(tmp_path).read_config()


def test_a_folder_without_a_model_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="holds no model: expected .*config.json"):
        run.load(tmp_path / "nothing")


def tree(folder):
    return {str(path.relative_to(folder)): path.is_file() and path.read_bytes() for path in folder.rglob("*")}


@pytest.mark.parametrize(
    "what", ["index deleted", "index renamed", "all damaged", "no files", "no folder", "only best/"]
)
def test_a_run_that_has_lost_its_checkpoints_is_refused_and_left_as_it_is(what, made_run):
    settings, model, split, directory = made_run
    directory.metrics.write_text('{"images": 24, "loss": 1.0}\n')
    for index in directory.checkpoints.glob("*.index"):
        if what == "index deleted":
            index.unlink()
        elif what == "index renamed":
            index.rename(index.with_name(f"old_{index.name}"))
        elif what == "all damaged":
            index.write_bytes(b"")
    if what == "no files":
        shutil.rmtree(directory.checkpoints)
        directory.checkpoints.mkdir()
    if what == "no folder":
        shutil.rmtree(directory.checkpoints)
    if what == "only best/":
        directory.checkpoints.rename(directory.best)
        directory.metrics.unlink()
    before = tree(directory.path)
    for _ in range(2):  # the second time too
        with pytest.raises(UserError, match="no checkpoint (to go on from|in .* can be read)") as error:
            directory.begin(settings, split, overwrite=False)
            store.restore_newest(directory.checkpoints, model, set_aside=True)
        assert "overwrite" not in str(error.value)
        assert tree(directory.path) == before
    directory.begin(settings, split, overwrite=True)
    assert os.listdir(directory.path) == ["config.json"]


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_anew(made_run):
    settings, _, split, directory = made_run
    shutil.rmtree(directory.checkpoints)
    (directory.checkpoints / "ckpt-0_temp").mkdir(parents=True)
    directory.metrics.write_text("")
    directory.begin(settings, split, overwrite=False)
    assert not os.listdir(directory.checkpoints)


def test_curves_without_a_run_are_not_overwritten(tiny_model, tmp_path):
    settings, _, split = tiny_model
    (tmp_path / "metrics.jsonl").write_text('{"images": 8, "loss": 1}\n')
    for overwrite in (False, True):
        with pytest.raises(UserError, match="holds curves up to 8 images and no config.json"):
            run.RunDirectory(tmp_path).begin(settings, split, overwrite)
    assert tree(tmp_path) == {"metrics.jsonl": b'{"images": 8, "loss": 1}\n'}


@pytest.mark.parametrize("text", ['{"architectures": ["LlamaForCausalLM"]}', "[]", "", '{"flags": null}'])
def test_overwrite_does_not_delete_a_folder_whose_config_json_is_not_ours(text, tiny_model, tmp_path):
    settings, _, split = tiny_model
    (tmp_path / "config.json").write_text(text)
    (tmp_path / "logs").mkdir()
    with pytest.raises(UserError, match="is not a file that tfvae.train wrote whole, so nothing in .* was deleted"):
        run.RunDirectory(tmp_path).begin(settings, split, overwrite=True)
    assert tree(tmp_path) == {"config.json": text.encode(), "logs": False}


def test_a_second_training_in_a_folder_is_refused_until_the_first_has_ended_or_was_killed(tmp_path):
    folder = tmp_path / "run"
    ready, write = os.pipe()
    first = os.fork()
    if not first:
        with run.RunDirectory(folder).held():
            os.write(write, b"x")
            time.sleep(60)
        os._exit(0)
    os.read(ready, 1)
    try:
        with pytest.raises(UserError) as error, run.RunDirectory(folder).held():
            pass
        assert f"is being trained by process {first} on {socket.gethostname()}: expected one training per" in str(
            error.value
        )
    finally:
        os.kill(first, signal.SIGKILL)
        os.waitpid(first, 0)
    with run.RunDirectory(folder).held():
        with pytest.raises(UserError, match=f"process {os.getpid()} on"), run.RunDirectory(folder).held():
            pass
        assert os.listdir(folder) == [".lock"]
    assert not os.listdir(folder)


@pytest.mark.parametrize(
    "moment", ["before it is begun", "after config.json", "after the checkpoint at 0", "in the first step"]
)
@pytest.mark.parametrize("error", [UserError("bad"), ValueError("bad"), KeyboardInterrupt()])
def test_a_failed_start_leaves_what_was_there(moment, error, tiny_model, tmp_path):
    settings, model, split = tiny_model
    notes = tmp_path / "with notes"
    (notes / "logs").mkdir(parents=True)
    (notes / "notes.txt").write_text("mine")
    before = tree(tmp_path)
    for path in (tmp_path / "new" / "run", notes):
        directory = run.RunDirectory(path)
        with pytest.raises(type(error)), directory.held():
            if moment != "before it is begun":
                directory.begin(settings, split, overwrite=True)
            if moment in ("after the checkpoint at 0", "in the first step"):
                store.write(directory.checkpoints, model, 0, keep=1)
            if moment == "in the first step":
                directory.metrics.write_text("")
                directory.samples.mkdir()
            raise error
        assert tree(tmp_path) == before


def test_a_run_that_fails_after_its_first_step_or_when_resumed_stays(made_run):
    settings, model, split, directory = made_run
    before = tree(directory.path)
    with pytest.raises(UserError, match="bad"), directory.held():
        directory.begin(settings, split, overwrite=False)
        directory.samples.mkdir()
        raise UserError("bad")
    assert tree(directory.path) == before
    with pytest.raises(UserError, match="bad"), directory.held():
        directory.begin(settings, split, overwrite=True)
        store.write(directory.checkpoints, model, 0, keep=1)
        directory.trained = True
        raise UserError("bad")
    assert list(store.stored(directory.checkpoints)) == [0]


@pytest.mark.parametrize("place", ["file", "file/run", "x" * 300, "/proc/run", "/dev/null/run"])
def test_a_folder_that_cannot_be_is_one_clear_line(place, tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match="--model_dir=.*: no run can be written there"),
        run.RunDirectory(tmp_path / place).held(),
    ):
        pass
    assert os.listdir(tmp_path) == ["file"]

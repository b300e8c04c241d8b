"""Curves: what a run logged after the checkpoint that it goes on from is forgotten; flags compare between runs."""

import dataclasses
import json

import pytest
import tensorflow as tf
from objectives_toys import at_step
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.plugins.hparams import plugin_data_pb2, summary_v2

from tfvae.config import Config
from tfvae.training import build, callbacks


def test_metrics_after_the_restored_checkpoint_are_dropped(made_run):
    settings, model, _, directory = made_run
    rows = [json.dumps({"images": images, "loss": 1.0}) for images in (8, 24, 32)]
    directory.metrics.write_text("\n".join(rows) + '\n{"images": 40, "lo')
    at_step(model, 3)
    metrics = callbacks.Metrics(settings, directory, tf.summary.create_file_writer(str(directory.logs)))
    metrics.set_model(model)
    metrics.on_train_begin()
    assert [json.loads(line)["images"] for line in directory.metrics.read_text().splitlines()] == [8, 24]


def log(directory, settings, model, images):
    """What a training logs that goes on from the model's step: one point at each of `images`, whose value says which training."""
    writer = tf.summary.create_file_writer(str(directory.logs))
    metrics = callbacks.Metrics(dataclasses.replace(settings, log_every_images=8), directory, writer)
    metrics.set_model(model)
    metrics.on_train_begin()
    for seen in images:
        at_step(model, seen // 8)
        metrics.on_train_batch_end(0, {"loss": float(seen)})
    writer.close()


@pytest.mark.parametrize("older", [False, True])
def test_tensorboard_forgets_what_a_killed_run_logged_after_its_last_checkpoint(older, made_run, monkeypatch):
    settings, model, _, directory = made_run
    at_step(model, 0)
    with monkeypatch.context() as patch:
        if older:  # a version that did not tell TensorBoard when it began
            patch.setattr(callbacks, "drop_later_events", lambda *arguments: None)
        log(directory, settings, model, [8, 16, 24, 32, 40])
    at_step(model, 3)
    log(directory, settings, model, [32])
    expected = [8, 16, 24, 32]
    served = EventMultiplexer().AddRun(str(directory.logs), "run").Reload()
    assert [event.step for event in served.Tensors("run", "losses/loss")] == expected
    assert [json.loads(line)["images"] for line in directory.metrics.read_text().splitlines()] == expected


def test_lines_that_are_no_points_do_not_hinder(made_run):
    settings, model, _, directory = made_run
    directory.metrics.write_text('{"images": 8}\n{"loss": 1}\n[1]\n\n{"images": null}\n{"images": 16}\n{"images": 2')
    log(directory, settings, model, [])
    assert directory.metrics.read_text() == '{"images": 8}\n{"images": 16}\n'


def test_every_flag_has_one_type_for_tensorboard(make_split):
    given = Config(
        data_dir="data",
        resolution=32,
        conditional=True,
        streaming=True,
        blocks_per_stage=1,
        channel_multipliers=(4, 4, 4, 4),
        discriminator_channel_multipliers=(4, 4, 4, 4),
        attention_resolution=16,
        augment=("color",),
        discriminator_beta_1=0,
        discriminator_beta_2=0.9,
        extractor="inception",
        inception_dir="inception",
        classifier_dir="classifier",
        extractor_dir="extractor",
        extractor_archive="archive.tgz",
        flip=True,
        kl_weight=1,
    )
    kinds = []
    for settings in (Config(), given):
        values = callbacks.comparable(build.resolve(settings, make_split(num_classes=3)))
        assert list(values) == [field.name for field in dataclasses.fields(Config)]
        summary = summary_v2.hparams_pb(values, trial_id="x")
        content = tf.compat.v1.Summary.FromString(summary.SerializeToString()).value[-1].metadata.plugin_data.content
        started = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
        kinds.append({name: value.WhichOneof("kind") for name, value in started.hparams.items()})
    assert kinds[0] == kinds[1]
    assert kinds[0]["streaming"] == kinds[0]["flip"] == "bool_value"
    assert kinds[0]["attention_resolution"] == kinds[0]["discriminator_beta_1"] == "number_value"

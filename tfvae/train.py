"""Trains one model: a GAN or a VAE, made of BigGAN's or BigGAN-deep's two networks.

python -m tfvae.train --flagfile=configs/quick/shapes_gan.cfg --model_dir=runs/shapes_gan

The same command again resumes a run that was cut short; --init_from starts a new one from the weights of another. Lengths count
in images seen: real images that entered the discriminator or the encoder.
"""

import contextlib

from absl import flags

from tfvae import command, config

config.define_flags()
DRY_RUN = flags.DEFINE_boolean("dry_run", False, "Print networks, parameters, FLOPs and memory, then stop.")
OVERWRITE = flags.DEFINE_boolean("overwrite", False, "Delete the run in --model_dir and start anew.")
INIT_FROM = flags.DEFINE_string(
    "init_from",
    None,
    "Start a new run from the weights of another one that fit by name and shape: its folder, or one of its checkpoints.",
)
INIT_AVERAGE = flags.DEFINE_boolean(
    "init_average",
    True,
    "With --init_from: take the moving average of the weights; --noinit_average: the last weights.",
)
ALLOW_CHANGED_FLAGS = flags.DEFINE_list(
    "allow_changed_flags",
    [],
    "Names of flags that change in the run in --model_dir from here on, such as batch_size,generator_learning_rate.",
)


def check_flags():
    """(`Config`, value of --init_from: path or None). Raises: ValueError, UserError."""
    settings = config.Config.from_flags()
    config.check_changeable(ALLOW_CHANGED_FLAGS.value)
    if not INIT_AVERAGE.value and not INIT_FROM.value:
        raise ValueError("--noinit_average says what --init_from takes: expected both, or none of them.")
    return settings, command.path("init_from", INIT_FROM.value) if INIT_FROM.value else None


command.start(__name__, check_flags)

import keras
import tensorflow as tf

from tfvae.data import pipeline
from tfvae.networks import tables
from tfvae.objectives.objective import STATISTICS_IMAGES
from tfvae.scoring import extractors, protocol
from tfvae.training import build, callbacks, checkpoints, cost, initial, run, store
from tfvae.training import strategy as strategies


def main(argv):
    with command.user_errors():
        settings, init_from = check_flags()
        build.objective_class(settings)  # an unknown one is refused before the data is prepared
        if not settings.model_dir and not DRY_RUN.value:
            raise ValueError("--model_dir is missing: expected the folder of the run, such as --model_dir=runs/first.")
        if DRY_RUN.value:
            keras.config.set_dtype_policy(settings.precision)
            split = pipeline.describe(settings.dataset, data_dir=settings.data_dir, resolution=settings.resolution)
            print(split.summary)
            settings = build.resolve(settings, split)
            tables.check_attention(settings.resolution, settings.attention_resolution)
            print(cost.summary(settings, split.num_classes if settings.conditional else 0))
            return
        strategy = strategies.make_strategy(settings)
        strategies.check_batch_size(settings.batch_size, strategy)
        worker, num_workers = strategies.worker_of(strategy)
        directory = run.RunDirectory(settings.model_dir)
    # Before the data, whose preparation may take hours.
    with directory.held() if worker == 0 else contextlib.nullcontext():
        with command.user_errors():
            source = initial.source_of(directory, init_from, INIT_AVERAGE.value, OVERWRITE.value)
            split = pipeline.load(
                settings.dataset,
                data_dir=settings.data_dir,
                resolution=settings.resolution,
                streaming=settings.streaming,
                background=settings.background,
                fit=settings.fit,
            )
            if worker == 0:
                print(split.summary, flush=True)
            settings = build.resolve(settings, split)
            extractor = None
            if settings.eval_every_images:
                folders = {flag: getattr(settings, flag, None) for flag in extractors.FLAGS}
                extractor = extractors.load(settings.extractor, **folders)
                protocol.check_resolution(extractor, split)
            with strategy.scope():
                model = build.make_objective(settings, split.num_classes)
                init, table = initial.give(source, model, settings, split.class_names) if source else (None, "")
            if worker == 0 and table:
                print(table, flush=True)
            sample = next(split.batches(STATISTICS_IMAGES, settings.seed).as_numpy_iterator())
            # Last: flags that no network can have, and data that cannot be read, leave the folder as it was.
            if worker == 0:
                directory.begin(settings, split, OVERWRITE.value, ALLOW_CHANGED_FLAGS.value, init)
        data = sample["image"], sample["label"]
        train(settings, strategy, split, data, directory, model, worker, num_workers, extractor)


def train(settings, strategy, split, data, directory, model, worker=0, num_workers=1, extractor=None):
    """Trains `model` from its newest checkpoint to `settings.train_images`.

    Args:
        settings: resolved `Config`. strategy: of `strategies.make_strategy`. split: the training data.
        data: (images uint8 [N, R, R, 3], labels int32 [N]) of it, by which statistics are measured and sheets drawn.
        directory: `run.RunDirectory`. model: the compiled objective. worker, num_workers: this process of how many.
        extractor: an `Extractor`; needed with `eval_every_images`.

    Raises:
        UserError: no readable checkpoint, a loss that is not finite, no space for a checkpoint.
    """
    if num_workers > 1:
        strategies.sum_over_workers(strategy, 0)  # the first process has prepared the folder
    restored = store.restore_newest(directory.checkpoints, model, set_aside=worker == 0)
    step, seen = int(model.step.numpy()), model.images_seen
    if num_workers > 1 and strategies.sum_over_workers(strategy, step) != step * strategy.num_replicas_in_sync:
        raise command.UserError(
            f"the processes do not resume from the same checkpoint (step {step} in this one). Expected --model_dir "
            f"{directory.path} on a disk that all of them see."
        )
    for name, (was, new) in directory.change_flags(seen).items():
        print(f"From {seen:,} images on: --{name} is {config.shown(new)} and was {config.shown(was)}.", flush=True)
    remaining = settings.steps_left(seen)
    total = seen + remaining * model.images_per_step
    print(
        f"{model.title} of {settings.architecture}, {settings.dataset} at {settings.resolution} px, "
        f"{split.num_images:,} images; {total:,} images to see = {total / split.num_images:.1f} epochs = "
        f"{step + remaining:,} steps on {strategy.num_replicas_in_sync} replica(s)"
        + (f"; resumed at {seen:,}" if restored else ""),
        flush=True,
    )
    if not remaining:
        print(f"Finished already: {seen:,} images seen. A larger --train_images goes on.")
        return
    local_replicas = strategy.num_replicas_in_sync // num_workers

    def batches(context):
        return split.batches(settings.batch_size, settings.seed, seen, worker, num_workers, local_replicas)

    dataset = strategy.distribute_datasets_from_function(batches)
    saver = checkpoints.Checkpoints(settings, directory, data, worker == 0, num_workers - 1)
    listeners, scorer = [checkpoints.Finite(directory), saver], None
    if worker == 0:
        writer = tf.summary.create_file_writer(str(directory.logs))
        listeners = [
            # Checkpoints before what writes pictures and prints: if that fails, the weights are safe.
            checkpoints.Finite(directory),
            saver,
            callbacks.Progress(settings, split.num_images),
            callbacks.Metrics(settings, directory, writer),
            callbacks.Sheets(settings, directory, writer, data),
        ]
        if settings.eval_every_images:
            scorer = callbacks.Scores(settings, directory, writer, split, extractor, data, saver)
            listeners.append(scorer)
    ended = scorer is not None and scorer.has_ended(seen)
    if num_workers > 1:
        ended = strategies.sum_over_workers(strategy, ended) > 0
    if ended:
        print(callbacks.without_gain(settings, directory))
        return
    model.last_step = step + remaining
    model.fit(dataset, steps_per_epoch=remaining, epochs=1, shuffle=False, verbose=0, callbacks=listeners)
    if num_workers > 1:
        # Nobody leaves while another still writes: the others would take it for a crash.
        strategies.sum_over_workers(strategy, 0)
    if saver.signal is None and saver.without_gain and settings.steps_left(model.images_seen):
        print(f"Ended at {model.images_seen:,} images, saved. {callbacks.without_gain(settings, directory)}")
    elif saver.signal is None:
        print(
            f"Done: {model.images_seen:,} images seen. Sheets: {directory.samples}  Curves: tensorboard --logdir {directory.logs}"
        )
    else:
        print(f"Stopped at {model.images_seen:,} images, saved. The same command goes on from there.")


if __name__ == "__main__":
    command.run_command(main)

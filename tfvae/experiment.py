"""What a configuration makes: the strategy, the networks, the objective, and the run's directory."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import keras
import tensorflow as tf

from tfvae.config import Config, UserError
from tfvae.data import images
from tfvae.networks import biggan, biggan_deep, layers
from tfvae.objectives import gan, objective, vae

NETWORKS = {"biggan": biggan, "biggan_deep": biggan_deep}

# The machine.


def make_strategy(config):
    """The tf.distribute strategy; sets up devices, precision and seeds, so call it before anything else of TensorFlow.

    Raises:
        ValueError: a strategy that this machine cannot have.
    """
    if config.virtual_devices:
        cpu = tf.config.list_physical_devices("CPU")[0]
        parts = [tf.config.LogicalDeviceConfiguration()] * config.virtual_devices
        try:
            tf.config.set_logical_device_configuration(cpu, parts)
        except RuntimeError:
            if len(tf.config.list_logical_devices("CPU")) != config.virtual_devices:
                raise
    # Grappler's remapper fails on BigGAN's discriminator (an error line for each function) and gains nothing in training.
    tf.config.optimizer.set_experimental_options({"remapping": False})
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy(config.precision)
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    mirrored = config.strategy == "mirrored" or (
        config.strategy == "auto" and max(len(gpus), config.virtual_devices) > 1
    )
    if config.strategy == "multi_worker":
        if not os.environ.get("TF_CONFIG"):
            raise ValueError(
                "--strategy=multi_worker: the environment variable TF_CONFIG is not set. Expected JSON such as "
                '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}.'
            )
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    elif mirrored:
        devices = [f"CPU:{i}" for i in range(config.virtual_devices)] if config.virtual_devices else None
        strategy = tf.distribute.MirroredStrategy(devices)
    else:
        strategy = tf.distribute.get_strategy()
    return strategy


def check_batch_size(batch_size, strategy):
    """Raises a ValueError for a batch that the strategy's replicas cannot share."""
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        near = max(replicas, batch_size // replicas * replicas)
        raise ValueError(
            f"--batch_size={batch_size} does not divide over {replicas} replicas. Expected a multiple of {replicas}, such as "
            f"{near}."
        )


def worker_of(strategy):
    """(index of this process, number of processes)."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return 0, 1
    resolver = strategy.cluster_resolver
    cluster = resolver.cluster_spec().as_dict()
    chiefs, workers = len(cluster.get("chief", [])), len(cluster.get("worker", []))
    return resolver.task_id + (chiefs if resolver.task_type == "worker" else 0), chiefs + workers


def sum_over_workers(strategy, value):
    """Sum of a number over all replicas; also a barrier: it returns when every process has come here."""
    value = tf.constant(value, tf.float32)
    return float(strategy.reduce("SUM", strategy.run(lambda: tf.identity(value)), axis=None))


# What is built.


def _network_arguments(config, initializer):
    return dict(
        resolution=config.resolution,
        base_channels=config.base_channels,
        latent_dim=config.latent_dim,
        attention_resolution=config.attention_resolution,
        channel_multipliers=config.channel_multipliers,
        blocks_per_stage=config.blocks_per_stage,
        spectral_norm=config.spectral_norm,
        activation=config.activation,
        leaky_relu_slope=config.leaky_relu_slope,
        initializer=initializer or config.initializer,
    )


def make_generator(config, num_classes, initializer=None):
    """The generator or decoder of a resolved configuration.

    Args:
        num_classes: 0 without labels. initializer: in place of the configuration's.

    Raises:
        ValueError: sizes that do not fit together.
    """
    return NETWORKS[config.architecture].Generator(
        num_classes=num_classes,
        shared_embedding_dim=config.shared_embedding_dim,
        **_network_arguments(config, initializer),
    )


def make_discriminator(config, num_classes, initializer=None):
    """The discriminator or encoder of a resolved configuration; arguments and errors as `make_generator`'s."""
    # The VAE's encoder does not see the label.
    head = dict(num_classes=num_classes) if config.objective == "gan" else dict(output_dim=2 * config.latent_dim)
    return NETWORKS[config.architecture].Discriminator(**head, **_network_arguments(config, initializer))


def make_objective(config, num_classes):
    """The compiled objective of a resolved configuration, in the current strategy's scope.

    Args:
        num_classes: of the dataset; used where the configuration is conditional.

    Raises:
        ValueError: sizes that do not fit together.
    """
    num_classes = num_classes if config.conditional else 0
    generator, discriminator = make_generator(config, num_classes), make_discriminator(config, num_classes)
    ema_generator = make_generator(
        config, num_classes, initializer="zeros"
    )  # a copy of the generator's weights follows
    shared = dict(
        to_model_range=images.to_model_range,
        global_batch_size=config.batch_size,
        seed=config.seed,
        flip=config.flip,
        ema_decay=config.ema_decay,
        ema_start_images=config.ema_start_images,
        gradient_clip_value=config.gradient_clip_value,
        gradient_clip_norm=config.gradient_clip_norm,
        weight_decay=config.weight_decay,
        orthogonal_regularization=config.orthogonal_regularization,
    )
    networks = (generator, discriminator, ema_generator)
    if config.objective == "gan":
        model = gan.GAN(
            *networks,
            loss=config.loss,
            discriminator_steps=config.discriminator_steps,
            gradient_penalty=config.gradient_penalty,
            augment_policies=config.augment,
            **shared,
        )
    else:
        model = vae.VAE(
            *networks,
            kl_weight=config.kl_weight,
            kl_warmup_images=config.kl_warmup_images,
            decoder_variance=config.decoder_variance,
            **shared,
        )
    model.compile(
        make_optimizer(config, config.generator_learning_rate, config.beta_1, config.beta_2, config.images_per_step),
        make_optimizer(
            config,
            config.discriminator_learning_rate,
            config.discriminator_beta_1,
            config.discriminator_beta_2,
            config.batch_size,
        ),
        steps_per_execution=config.steps_per_execution,
    )
    return model


def make_optimizer(config, rate, beta_1, beta_2, images_per_step):
    """One network's optimizer.

    Args:
        config: resolved. rate, beta_1, beta_2: the network's. images_per_step: real images seen between two of its steps.
    """
    if config.learning_rate_decay_images:
        start = (config.train_images - config.learning_rate_decay_images) / images_per_step
        rate = objective.LinearDecay(rate, start, config.train_images / images_per_step)
    return objective.make_optimizer(config.optimizer, rate, beta_1, beta_2)


STATISTICS_IMAGES = 1024


def refresh_ema_statistics(model, split_images, split_labels):
    """Re-estimates the EMA generator's batch-norm statistics, so that a checkpoint is ready for use without the data.

    Args:
        model: an `Objective`.
        split_images, split_labels: uint8 [N, R, R, 3], int32 [N], drawn from the training split; used in whole batches of
            a replica's size.
    """
    if model.statistics_step == int(model.step.numpy()):
        return  # measured already
    batch = min(model.global_batch_size // model.distribute_strategy.num_replicas_in_sync, len(split_images))
    if not hasattr(model, "measure_statistics"):

        @tf.function
        def measure(batch_images, batch_labels, index):
            latent, label = model.statistics_inputs(batch_images, batch_labels, index)
            model.ema_generator(latent, label, training=True)

        model.measure_statistics = measure
    # From the generator's own, so that the result does not depend on when this was last done.
    for average, own in zip(model.ema_generator.non_trainable_weights, model.generator.non_trainable_weights):
        average.assign(own)
    rows = [slice(i, i + batch) for i in range(0, len(split_images) - batch + 1, batch)]
    layers.reestimate_statistics(
        model.ema_generator,
        lambda i: model.measure_statistics(
            tf.constant(split_images[rows[i]]), tf.constant(split_labels[rows[i]]), tf.constant(i, tf.int64)
        ),
        list(range(len(rows))),
    )
    model.statistics_step = int(model.step.numpy())


# The run's directory.


class RunDirectory:
    """`<model_dir>/`: config.json, checkpoints/, best/, logs/, samples/, metrics.jsonl.

    Args:
        path: the folder; made when the first thing is written.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.config_file = self.path / "config.json"
        self.checkpoints = self.path / "checkpoints"
        self.best = self.path / "best"
        self.logs = self.path / "logs"
        self.samples = self.path / "samples"
        self.metrics = self.path / "metrics.jsonl"

    def read_config(self):
        """(Config, facts of the data: `num_classes`, `class_names`, `num_images`).

        Raises:
            UserError: no run is there, or its config.json is not one of this version's.
        """
        if not self.config_file.is_file():
            raise UserError(
                f"{self.path} holds no model: expected {self.config_file}. Train one with python -m tfvae.train."
            )
        try:
            record = json.loads(self.config_file.read_text())
            values = {k: tuple(v) if isinstance(v, list) else v for k, v in record["flags"].items()}
            return Config(**values | {"model_dir": str(self.path)}), record["data"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self.config_file} cannot be read ({error}): expected the file that tfvae.train wrote."
            ) from error

    def begin(self, config, split, overwrite):
        """Writes config.json, or checks that the run that is there has the same flags.

        Args:
            config: resolved. split: the training split. overwrite: delete the run that is there.

        Raises:
            UserError: another run is there.
        """
        data = {
            "num_classes": split.num_classes,
            "class_names": list(split.class_names),
            "num_images": split.num_images,
            "fingerprint": split.fingerprint,
        }
        if overwrite and self.config_file.exists():
            # Checkpoints first and config.json last: cut short, what is left is still refused under other flags.
            for old in (self.checkpoints, self.best, self.logs, self.samples, self.path / "sheets"):
                if old.exists():
                    shutil.rmtree(old)
            for old in (self.metrics, self.config_file):
                old.unlink(missing_ok=True)
        if not self.config_file.exists() and any(self.checkpoints.glob("ckpt-*")):
            raise UserError(
                f"{self.path} holds checkpoints and no config.json to tell what they are of: expected both or neither. Give "
                "another --model_dir, or put the file back."
            )
        if self.config_file.exists():
            old, old_data = self.read_config()
            changed = [
                f"--{field.name} was {getattr(old, field.name)!r}, is {getattr(config, field.name)!r}"
                for field in dataclasses.fields(Config)
                if not field.metadata["free"] and getattr(old, field.name) != getattr(config, field.name)
            ]
            if config.learning_rate_decay_images and old.train_images != config.train_images:
                changed.append(
                    f"--train_images was {old.train_images}, is {config.train_images} (the rates' decay ends there)"
                )
            changed += [f"the data's {name} changed" for name in data if data[name] != old_data.get(name)]
            if changed:
                raise UserError(
                    f"{self.path} was made with other flags or data: {'; '.join(changed)}. Expected the same to resume it; "
                    "give another --model_dir, or --overwrite to delete it and start anew."
                )
        versions = {"tensorflow": tf.__version__, "keras": keras.__version__}
        record = {"flags": dataclasses.asdict(config), "data": data, "versions": versions}
        self.path.mkdir(parents=True, exist_ok=True)
        beside = self.config_file.with_suffix(".tmp")
        beside.write_text(json.dumps(record, indent=2) + "\n")
        os.replace(beside, self.config_file)


# TensorFlow raises IndexError and many kinds of OpError for a checkpoint that is cut short or lacks a file. These say
# something else: the file may be whole.
NOT_DAMAGE = (tf.errors.ResourceExhaustedError, tf.errors.PermissionDeniedError, tf.errors.CancelledError)


def restore_newest(checkpoints, model, set_aside=False):
    """Restores the newest checkpoint that can be read, and says which ones cannot.

    Args:
        checkpoints: folder, `RunDirectory.checkpoints` or `.best`.
        model: an `Objective`; restored whole, optimizers, EMA and step too.
        set_aside: rename damaged ones to `*.damaged`: of the one process that writes here.

    Returns:
        The checkpoint's path, or None where there is none.

    Raises:
        UserError: there are checkpoints, and none can be read.
    """
    indices = sorted(checkpoints.glob("ckpt-*.index"), key=lambda p: int(p.stem.split("-")[1]), reverse=True)
    checkpoint = tf.train.Checkpoint(objective=model)
    for index in indices:
        prefix = str(index.with_suffix(""))
        try:
            checkpoint.restore(prefix).assert_consumed()
            return prefix
        except (AssertionError, ValueError) as error:
            raise UserError(
                f"{prefix} holds other weights than this version's networks have. Expected a checkpoint of the same version; "
                "--overwrite starts the run anew."
            ) from error
        except (IndexError, tf.errors.OpError) as error:
            if isinstance(error, NOT_DAMAGE):
                raise
            reason = " ".join(str(error).split())[:200]
            print(f"warning: checkpoint {prefix} cannot be read ({reason}): taking the one before it.", flush=True)
            if set_aside:
                os.replace(index, f"{index}.damaged")
    if indices:
        raise UserError(
            f"no checkpoint in {checkpoints} can be read ({len(indices)} damaged). Expected at least one; "
            "--overwrite starts the run anew."
        )
    return None


def load(model_dir, best=False):
    """A trained model, ready for use: (Config, facts of the data, Objective).

    Args:
        best: the checkpoint that scored best while training, not the newest.

    Raises:
        UserError: no run, or no checkpoint that can be read.
    """
    directory = RunDirectory(model_dir)
    config, data = directory.read_config()
    keras.config.set_dtype_policy(config.precision)
    model = make_objective(config, data["num_classes"])
    if restore_newest(directory.best if best else directory.checkpoints, model) is None:
        if best:
            raise UserError(
                f"{directory.best} holds no checkpoint: train with --eval_every_images to have the best one kept."
            )
        raise UserError(f"{directory.checkpoints} holds no checkpoint yet. Train with python -m tfvae.train first.")
    return config, data, model

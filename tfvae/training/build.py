"""What a configuration makes: the networks and the objective."""

import tensorflow as tf

from tfvae.data import images
from tfvae.networks import biggan, biggan_deep, layers
from tfvae.objectives import gan, objective, vae

NETWORKS = {"biggan": biggan, "biggan_deep": biggan_deep}


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

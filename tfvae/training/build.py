"""What a configuration makes: the networks and the objective."""

import dataclasses

from tfvae.networks import biggan, biggan_deep, tables
from tfvae.objectives import gan, objective, soft_intro_vae, vae

NETWORKS = {"biggan": biggan, "biggan_deep": biggan_deep}
OBJECTIVES = {"gan": gan.GAN, "vae": vae.VAE, "soft_intro_vae": soft_intro_vae.SoftIntroVAE}


def objective_class(config):
    """The class of a configuration's objective.

    Raises:
        ValueError: there is no such objective.
    """
    if config.objective not in OBJECTIVES:
        raise ValueError(f"--objective={config.objective}: expected one of {', '.join(OBJECTIVES)}.")
    return OBJECTIVES[config.objective]


def resolve(config, split):
    """A configuration with every default filled in that depends on the data or on the networks.

    Args:
        config: `Config`. split: `Split` of the training data.

    Raises:
        ValueError: labels asked for where there are none, an unknown objective, widths that do not fit the resolution.
    """
    objective_class(config)
    if config.conditional and not split.num_classes:
        raise ValueError(f"--conditional: {config.dataset} has no labels. Leave the flag out.")
    default_blocks = NETWORKS[config.architecture].Generator.default_blocks_per_stage
    multipliers = tables.generator_multipliers(split.resolution, config.channel_multipliers)
    tables.discriminator_multipliers(split.resolution, multipliers, config.discriminator_channel_multipliers)
    attention = config.attention_resolution
    return dataclasses.replace(
        config,
        resolution=split.resolution,
        conditional=split.num_classes > 0 if config.conditional is None else config.conditional,
        streaming=split.streaming if config.streaming is None else config.streaming,
        blocks_per_stage=config.blocks_per_stage or default_blocks,
        channel_multipliers=multipliers,
        attention_resolution=tables.default_attention_resolution(split.resolution) if attention is None else attention,
        discriminator_beta_1=config.beta_1 if config.discriminator_beta_1 is None else config.discriminator_beta_1,
        discriminator_beta_2=config.beta_2 if config.discriminator_beta_2 is None else config.discriminator_beta_2,
    )


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
    return NETWORKS[config.architecture].Discriminator(
        **objective_class(config).discriminator_head(config, num_classes),
        discriminator_channel_multipliers=config.discriminator_channel_multipliers,
        **_network_arguments(config, initializer),
    )


def make_objective(config, num_classes):
    """The compiled objective of a resolved configuration, in the current strategy's scope.

    Args:
        num_classes: of the dataset; used where the configuration is conditional.

    Raises:
        ValueError: sizes that do not fit together.
    """
    num_classes = num_classes if config.conditional else 0
    kind = objective_class(config)
    # The averages begin as copies of the weights.
    average_encoder = make_discriminator(config, num_classes, initializer="zeros") if kind.encode else None
    own = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if config.objective in field.metadata["objectives"]
    }
    model = kind(
        make_generator(config, num_classes),
        make_discriminator(config, num_classes),
        make_generator(config, num_classes, initializer="zeros"),
        average_encoder,
        global_batch_size=config.batch_size,
        seed=config.seed,
        flip=config.flip,
        ema_decay=config.ema_decay,
        ema_start_images=config.ema_start_images,
        gradient_clip_value=config.gradient_clip_value,
        gradient_clip_norm=config.gradient_clip_norm,
        weight_decay=config.weight_decay,
        orthogonal_regularization=config.orthogonal_regularization,
        **own,
    )
    model.compile(
        make_optimizer(config, model.images, config.generator_learning_rate, config.beta_1, config.beta_2),
        make_optimizer(
            config,
            model.images,
            config.discriminator_learning_rate,
            config.discriminator_beta_1,
            config.discriminator_beta_2,
        ),
        steps_per_execution=config.steps_per_execution,
    )
    return model


def make_optimizer(config, images, rate, beta_1, beta_2):
    """One network's optimizer.

    Args:
        config: resolved. images: the objective's variable of images seen. rate, beta_1, beta_2: the network's.
    """
    if config.learning_rate_decay_images:
        start = config.train_images - config.learning_rate_decay_images
        rate = objective.LinearDecay(rate, start, config.train_images, images)
    return objective.make_optimizer(config.optimizer, rate, beta_1, beta_2)

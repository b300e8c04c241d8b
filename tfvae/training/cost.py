"""What a model costs: parameters, FLOPs and memory, before anything is trained."""

import math

import tensorflow as tf

from tfvae.networks import layers
from tfvae.training import build

# Operations whose results the backward pass keeps: an estimate.
KEPT = ("Conv2D", "Conv2DBackpropInput", "FusedBatchNormV3", "Relu", "LeakyRelu", "AddV2", "Mul")


def of_networks(config, num_classes):
    """Sizes of the generator and of the discriminator of a configuration.

    Args:
        config: resolved. num_classes: of the generator; 0 without labels.

    Returns:
        Two dicts: `network`; `parameters`, trainable; `forward_flops` for one image; `kept_bytes` for one image, what its
        backward pass keeps.

    Raises:
        ValueError: sizes that do not fit together.
    """
    label = tf.TensorSpec([1], tf.int32)
    image = tf.TensorSpec([1, config.resolution, config.resolution, 3])
    sizes = []
    for make, specification in (
        (build.make_generator, tf.TensorSpec([1, config.latent_dim])),
        (build.make_discriminator, image),
    ):
        # Zeros: the first values do not matter here, and orthogonal ones take a while.
        network = make(config, num_classes, initializer="zeros")
        # Sizes are known once the network has been traced; an encoder takes no label.
        inputs = [specification, label][: 2 if network.num_classes else 1]
        graph = tf.function(network).get_concrete_function(*inputs, training=True).graph
        kept = sum(
            math.prod(side or 1 for side in result.shape) * result.dtype.size
            for op in graph.get_operations()
            if op.type in KEPT
            for result in op.outputs[:1]
        )
        sizes.append(
            {
                "network": network,
                "parameters": sum(v.value.shape.num_elements() for v in network.trainable_variables),
                "forward_flops": layers.flops_per_image(network),
                "kept_bytes": kept,
            }
        )
    return sizes


def step_flops(config, generator, discriminator):
    """FLOPs of a train step of the global batch, from those of one image's forward passes through the two networks."""
    return config.batch_size * build.objective_class(config).step_flops(config, generator, discriminator)


def summary(config, num_classes):
    """Networks, parameters, FLOPs for each image and memory, as text. Arguments and errors: as `of_networks`'."""
    objective = build.objective_class(config)
    lines = [f"{objective.title} of {config.architecture} at {config.resolution} px, ch {config.base_channels}"]
    sizes = of_networks(config, num_classes)
    # Weights, gradients and the optimizer's slots; and the averages.
    slots = 2 if config.optimizer == "adam" else int(config.beta_1 > 0)
    averaged = (1, int(objective.encode is not None))
    floats = sum(size["parameters"] * (2 + slots + average) for size, average in zip(sizes, averaged))
    for title, size in zip(objective.network_titles, sizes):
        lines += [
            "",
            f"{title}: {size['parameters']:,} trainable parameters, {size['forward_flops'] / 1e9:.3f} GFLOP forward per image",
        ]
        lines += [f"  {block.name:<28} {type(block).__name__}" for block in size["network"].layers]
    pictures = config.batch_size * objective.pictures_per_image
    kept = sum(size["kept_bytes"] for size in sizes) * pictures
    lines += [
        "",
        f"memory: about {floats * 4 / 1e6:,.0f} MB for weights, gradients, the optimizers' slots and the averages, and about "
        f"{kept / 1e6:,.0f} MB for what the backward pass keeps of {pictures} pictures",
    ]
    return "\n".join(lines)

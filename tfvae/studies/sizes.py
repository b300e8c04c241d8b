"""Parameters and FLOPs of experiments before anything is trained, measured in a process of its own and kept.

Of its own: the study itself must not touch a GPU, which its experiments need whole.
"""

import concurrent.futures
import json
import multiprocessing
import os

from tfvae.command import write_whole


def of_experiments(experiments, data_dirs, file):
    """Sizes of the networks of experiments.

    Args:
        experiments: list of `plan.Experiment`. data_dirs: {dataset: folder or None}. file: JSON in which they are kept.

    Returns:
        {folder of the experiment: {"generator_parameters", "discriminator_parameters", "generator_blocks", "forward_flops": of
        both networks for one image, "flops": of the whole training}}; without those whose networks cannot be made: training
        will say why.
    """
    try:
        known = json.loads(file.read_text())
    except (OSError, ValueError):
        known = {}
    missing = {_key(e): (e.settings, data_dirs.get(e.dataset)) for e in experiments if _key(e) not in known}
    if missing:
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
            measured = zip(missing, pool.submit(measure, list(missing.values())).result())
        # What cannot be made now may be another time: data may come.
        known |= {key: size for key, size in measured if size}
        write_whole(file, json.dumps(known, indent=1) + "\n")
    return {e.folder: known[_key(e)] for e in experiments if _key(e) in known}


def _key(experiment):
    return f"{experiment.folder} {experiment.total_images}"


def measure(requests):
    """For each (unresolved `Config`, data_dir): the sizes, or None where no networks can be made of it."""
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    networks, sizes = {}, []
    for settings, data_dir in requests:
        # Experiments that differ in how they are trained have the same networks.
        key = (data_dir, *(getattr(settings, name) for name in OF_NETWORKS))
        if key not in networks:
            networks[key] = _measure(settings, data_dir)
        found = networks[key]
        if found:
            flops = step_flops(settings, *found["forward_flops"])
            found = found | {"flops": settings.total_steps * settings.batch_size * flops}
        sizes.append(found)
    return sizes


OF_NETWORKS = (
    "dataset",
    "resolution",
    "conditional",
    "objective",
    "architecture",
    "base_channels",
    "latent_dim",
    "blocks_per_stage",
    "channel_multipliers",
    "attention_resolution",
    "shared_embedding_dim",
)


def _measure(settings, data_dir):
    import keras
    import tensorflow as tf

    from tfvae.data import pipeline
    from tfvae.networks import layers
    from tfvae.training import build

    keras.backend.clear_session()  # frees the networks before
    try:
        split = pipeline.describe(settings.dataset, data_dir=data_dir, resolution=settings.resolution)
        settings = settings.resolve(split)
        num_classes = split.num_classes if settings.conditional else 0
        networks = [
            make(settings, num_classes, initializer="zeros")
            for make in (build.make_generator, build.make_discriminator)
        ]
    except ValueError:
        return None
    side = settings.resolution
    shapes = [[1, settings.latent_dim], [1, side, side, 3]]
    for network, shape in zip(networks, shapes):
        # Sizes are known once the network has been traced; an encoder takes no label.
        inputs = [tf.TensorSpec(shape), tf.TensorSpec([1], tf.int32)][: 2 if network.num_classes else 1]
        tf.function(network).get_concrete_function(*inputs, training=True)
    parameters = [sum(v.value.shape.num_elements() for v in network.trainable_variables) for network in networks]
    return {
        "generator_parameters": parameters[0],
        "discriminator_parameters": parameters[1],
        "generator_blocks": len(networks[0].blocks),
        "forward_flops": [layers.flops_per_image(network) for network in networks],
    }


def step_flops(settings, generator, discriminator):
    """FLOPs of a train step, for each image of its batch, from those of one image's forward pass.

    A backward pass costs two forward passes through weights, one through inputs alone. GAN: a discriminator step draws, then
    goes forward and back on real and drawn images; a generator step goes through both, without the discriminator's weights.
    """
    if settings.objective == "vae":
        return 3 * (generator + discriminator)
    return settings.discriminator_steps * (generator + 6 * discriminator) + 3 * generator + 2 * discriminator

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
    from tfvae.training import cost

    networks, sizes = {}, []
    for settings, data_dir in requests:
        # Experiments that differ in how they are trained have the same networks.
        key = (data_dir, *(getattr(settings, name) for name in OF_NETWORKS))
        if key not in networks:
            networks[key] = _measure(settings, data_dir)
        found = networks[key]
        if found:
            flops = cost.step_flops(settings, *found["forward_flops"])
            found = found | {"flops": settings.steps_left() * flops}
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
    "discriminator_channel_multipliers",
    "attention_resolution",
    "shared_embedding_dim",
)


def _measure(settings, data_dir):
    import keras

    from tfvae.data import pipeline
    from tfvae.training import build, cost

    keras.backend.clear_session()  # frees the networks before
    try:
        split = pipeline.describe(settings.dataset, data_dir=data_dir, resolution=settings.resolution)
        settings = build.resolve(settings, split)
        generator, discriminator = cost.of_networks(settings, split.num_classes if settings.conditional else 0)
    except ValueError:
        return None
    return {
        "generator_parameters": generator["parameters"],
        "discriminator_parameters": discriminator["parameters"],
        "generator_blocks": len(generator["network"].blocks),
        "forward_flops": [generator["forward_flops"], discriminator["forward_flops"]],
    }

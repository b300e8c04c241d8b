"""Takes the pictures by which a study shows one model, and how its classes spread: an .npz file of small arrays.

python -m tfvae.studies.exhibits --model_dir=runs/cifar10_gan --classifier_dir=runs/classifier_cifar10 --output=exhibits.npz

`best` are the most realistic of --num_images drawn ones by the realism score (Kynkäänniemi et al., arXiv 1904.06991, section 5):
how far inside a ball of the real manifold an image's features lie. `best_neighbours` are the training images nearest to them in
features.
"""

from absl import flags

from tfvae import command
from tfvae.scoring import extractors

MODEL_DIR = flags.DEFINE_string("model_dir", None, "Folder of a run of tfvae.train.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "As tfvae.train's. Default: the model's own.")
load_extractor = extractors.define_flags()
NUM_IMAGES = flags.DEFINE_integer("num_images", 2_000, "Drawn images, of which the best are taken.", 20)
SEED = flags.DEFINE_integer("seed", 0, "Of latents and labels.", 0)
OUTPUT = flags.DEFINE_string("output", None, "The .npz file.")
OVERWRITE = flags.DEFINE_boolean("overwrite", False, "Replace the file that is there.")


def check_flags():
    """{flag's name: path, or None where it is not given}. Raises: ValueError, UserError."""
    for flag, example in ((MODEL_DIR, "runs/cifar10_gan"), (OUTPUT, "exhibits.npz")):
        if not flag.value:
            raise ValueError(f"--{flag.name} is missing: expected such as --{flag.name}={example}.")
    places = (MODEL_DIR, DATA_DIR, OUTPUT)
    paths = {flag.name: command.path(flag.name, flag.value) if flag.value else None for flag in places}
    command.refuse_to_overwrite([paths["output"]], "output", OVERWRITE.value)
    return paths


command.start(__name__, check_flags)

import numpy as np

from tfvae.data import pipeline
from tfvae.scoring import protocol
from tfvae.studies import gallery
from tfvae.training import run


def main(argv):
    with command.user_errors():
        paths = check_flags()
        extractor = load_extractor()
        model = run.load_run(paths["model_dir"])
        dataset, data_dir = model.flags["dataset"], paths["data_dir"] or model.flags["data_dir"]
        options = model.preparation | {"streaming": False}
        train = pipeline.load(dataset, data_dir=data_dir, **options)
        protocol.check_resolution(extractor, train)
        arrays = gallery.take(model, train, extractor, NUM_IMAGES.value, SEED.value)
        if model.encode:
            name = pipeline.held_out_split(dataset, data_dir=data_dir) or "train"
            split = pipeline.load(dataset, name, data_dir=data_dir, **options)
            real, label = split.images[: gallery.SHOWN], split.labels[: gallery.SHOWN]
            reconstructed = model.generate(model.encode(real)[0], label if model.num_classes else None)
            arrays |= {"real": real, "real_split": np.array(name), "reconstructed": reconstructed}
        command.write_whole(paths["output"], lambda stream: np.savez_compressed(stream, **arrays))
    print(paths["output"])


if __name__ == "__main__":
    command.run_command(main)

"""Loads a dataset, preparing it first where needed, and writes what identifies its images: a study's record of it.

python -m tfvae.studies.fingerprints --dataset=cifar10 --output=cifar10.json
"""

from absl import flags

from tfvae import command

DATASET = flags.DEFINE_string("dataset", None, "As tfvae.train's.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "As tfvae.train's.")
RESOLUTION = flags.DEFINE_integer("resolution", None, "Pixels a side. Default: the dataset's own.", 1)
SPLITS = flags.DEFINE_list("splits", [], "Splits whose fingerprints are taken beside train's and the held-out split's.")
OUTPUT = flags.DEFINE_string("output", None, "JSON file, replaced where it is there.")


def check_flags():
    """(the data's folder or None, the output file). Raises: ValueError, UserError."""
    for flag, example in ((DATASET, "cifar10"), (OUTPUT, "cifar10.json")):
        if not flag.value:
            raise ValueError(f"--{flag.name} is missing: expected such as --{flag.name}={example}.")
    data_dir = command.path("data_dir", DATA_DIR.value) if DATA_DIR.value else None
    output = command.path("output", OUTPUT.value)
    command.refuse_to_overwrite([output], "output", overwrite=True)
    return data_dir, output


command.start(__name__, check_flags)

from tfvae.data import pipeline
from tfvae.studies import identity


def main(argv):
    with command.user_errors():
        data_dir, output = check_flags()
        data = fingerprints(DATASET.value, data_dir, RESOLUTION.value, SPLITS.value)
        identity.write(output, data)
    print(f"{output}: {DATASET.value}, {data.key}")


def fingerprints(dataset, data_dir, resolution, splits):
    """The `identity.Data` of a dataset.

    Args and raises: as `pipeline.load`'s. splits: names of those that are read beside the training and the held-out split.
    """
    folder = pipeline.prepare(dataset, data_dir).absolute()
    # First: what changes while the images are read makes the record outdated.
    stamp = identity.stamp_of(folder)
    names = dict.fromkeys(["train", pipeline.held_out_split(dataset, data_dir=data_dir), *splits])
    places = dict(data_dir=data_dir, resolution=resolution)
    found = {name: pipeline.load(dataset, name, **places).fingerprint for name in names if name}
    return identity.Data(str(folder), stamp, found)


if __name__ == "__main__":
    command.run_command(main)

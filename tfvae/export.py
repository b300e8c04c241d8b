"""Publishes a trained model for TF Serving: one more version in the model's folder.

python -m tfvae.export --model_dir=runs/cifar10_vae --export_dir=published/cifar10_vae

A version is verified before a server can see it, and one that exists is never touched.
"""

import shlex

from absl import flags

from tfvae import command

MODEL_DIR = flags.DEFINE_string("model_dir", None, "Folder of a run of tfvae.train.")
EXPORT_DIR = flags.DEFINE_string(
    "export_dir", None, "Folder of the model's versions, made if it is not there; its last part is the model's name."
)
VERSION = flags.DEFINE_integer(
    "version", None, "Number of the version. Default: one more than the newest.", lower_bound=1, upper_bound=2**63 - 1
)
KEEP_VERSIONS = flags.DEFINE_integer(
    "keep_versions", 0, "Newest versions that are kept; older ones are deleted, never this one. 0: all.", lower_bound=0
)


def check_flags():
    """The paths that the flags name. Raises: ValueError: a flag is missing. UserError: a path is none of this machine's."""
    for flag, example in ((MODEL_DIR, "runs/cifar10_vae"), (EXPORT_DIR, "published/cifar10_vae")):
        if not flag.value:
            raise ValueError(f"--{flag.name} is missing: expected a folder, such as {example}.")
    return command.path("model_dir", MODEL_DIR.value), command.path("export_dir", EXPORT_DIR.value)


command.start(__name__, check_flags)

from tfvae.publishing import publish, versions, writing
from tfvae.training import run


def main(argv):
    with command.user_errors():
        model_dir, export_dir = check_flags()
        place, version = publish.find_place(export_dir, VERSION.value)
        config, data, model = run.load(model_dir)
    scores, without_scores = writing.scores_of(config, model)
    print(f"Writing and verifying version {version} of {place.parent.name}", flush=True)
    about = publish.publish(place, config, data, model, scores)
    print(f"{place}  ({', '.join(about['signatures'])}; {about['images_seen']:,} images seen)", flush=True)
    if without_scores:
        print(without_scores)
    newest = max(versions.numbered(place.parent))
    if newest > version:
        print(f"Version {newest} is newer: a server takes that one unless it is told otherwise.")
    for file in versions.no_folders(place.parent):
        print(f"warning: {file} is no folder, and TF Serving takes it for a version: move it elsewhere.")
    if KEEP_VERSIONS.value:
        for old, reason in versions.delete_old(place.parent, KEEP_VERSIONS.value, version).items():
            print(f"warning: version {old} could not be deleted ({reason})." if reason else f"Deleted version {old}")
    print(f"Serve it:   python -m tfvae.serve --model_base_path={shlex.quote(str(place.parent))}")
    print(f"Look at it: python -m tfvae.sample --saved_model={shlex.quote(str(place))}")


if __name__ == "__main__":
    command.run_command(main)

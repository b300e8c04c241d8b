"""Draws from a trained model: sheets to look at, an animation, or many single pictures.

python -m tfvae.sample --model_dir=runs/shapes_gan
python -m tfvae.sample --saved_model=published/shapes_gan --num_images=50000 --output=pictures/
python -m tfvae.sample --model_dir=runs/shapes_gan --animate --output=shapes.webp

Everything is fixed by --seed: the same command draws the same pictures.
"""

import re

from absl import flags

from tfvae import command
from tfvae.scoring import extractors

KINDS = {
    "grid": "unselected samples",
    "classes": "unselected samples, one row per class",
    "interpolations": "from one latent to another",
    "truncation": "the same latents, from little to full variety",
    "reconstructions": "held-out images (training images where the dataset has no others) above their reconstructions",
    "directions": "one latent along the first linear layer's strongest directions; of a run alone",
    "neighbours": "unselected samples above their nearest training images, by pixels and by the features of --extractor, which "
    "take minutes the first time",
}
ON_DEMAND = ("neighbours",)  # not among the default

MODEL_DIR = flags.DEFINE_string("model_dir", None, "Folder of a run of tfvae.train.")
SAVED_MODEL = flags.DEFINE_string(
    "saved_model", None, "In its place: a version that tfvae.export published, or the folder of versions (the newest)."
)
EMA = flags.DEFINE_boolean("ema", True, "Draw with the moving average of the weights; --noema: with the last weights.")
SEED = flags.DEFINE_integer(
    "seed", 0, "Of latents and classes. With --num_images: picture i is the endpoint's of seed + i.", lower_bound=0
)

SHEETS = flags.DEFINE_list(
    "sheets",
    [],
    f"Which: {'; '.join(f'{name} ({what})' for name, what in KINDS.items())}. Default: all that the model has but "
    f"{' and '.join(ON_DEMAND)}.",
)
OUTPUT_DIR = flags.DEFINE_string(
    "output_dir",
    None,
    "Where the sheets go. Default: sheets/ in the run's folder; sheets/VERSION/ beside the versions.",
)
ROWS = flags.DEFINE_integer("rows", 8, "Rows of a sheet (classes: as many as there are, 20 at most).", lower_bound=1)
COLUMNS = flags.DEFINE_integer("columns", 8, "Pictures per row.", lower_bound=1)
DATA_DIR = flags.DEFINE_string("data_dir", None, "Where real images and labels are read. Default: as in training.")
BACKGROUND = flags.DEFINE_string(
    "background", None, "Colour behind transparent images: a name or #rrggbb. Default: the model's own, else white."
)
load_extractor = extractors.define_flags()
CACHE_DIR = flags.DEFINE_string("cache_dir", None, "Where features of real images are kept. Default: ~/.cache/tfvae.")

ANIMATE = flags.DEFINE_boolean(
    "animate",
    False,
    "In place of sheets: a grid whose pictures go from latent to latent, as an animation without an end.",
)
FRAMES = flags.DEFINE_integer("frames", 64, "Of the animation, 20 per second.", lower_bound=2)

NUM_IMAGES = flags.DEFINE_integer("num_images", None, "In place of sheets: so many single pictures.", lower_bound=1)
OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "Of --num_images: a folder for PNG files, with one sub-folder per class; or FILE.npz with arr_0, uint8 [N, R, R, 3], and the "
    "classes as arr_1. Of --animate: FILE.webp or FILE.png. Default: interpolations.webp where the sheets go.",
)
START = flags.DEFINE_integer(
    "start", 0, "Number of the first of --num_images, which are numbered from 0.", lower_bound=0
)
LABEL = flags.DEFINE_list(
    "label",
    None,
    "Of --num_images: classes such as 0,3, which take turns; balanced: all classes do; data: drawn with the frequencies of the "
    "training images. Default: balanced.",
)
TRUNCATION = flags.DEFINE_float(
    "truncation", None, "Of --num_images: latents stay within +-truncation. Default: no limit."
)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Of --num_images: pictures drawn at once.", lower_bound=1)
OVERWRITE = flags.DEFINE_boolean(
    "overwrite", False, "Replace sheets or a file that are there. Pictures in a folder are never replaced."
)

OF_MANY = (START, LABEL, TRUNCATION, BATCH_SIZE)
OF_SHEETS = (SHEETS, OUTPUT_DIR, ROWS, COLUMNS, FRAMES, ANIMATE)
ANIMATIONS = (".webp", ".png")


def check_flags():
    """{flag's name: path, or None where it is not given}. Raises: ValueError, UserError."""
    if bool(MODEL_DIR.value) == bool(SAVED_MODEL.value):
        what = "both are given" if MODEL_DIR.value else "both are missing"
        raise ValueError(
            f"--model_dir and --saved_model: {what}. Expected one of them: the folder of a trained model, such as "
            "runs/shapes_gan, or of a published one."
        )
    unknown = [name for name in SHEETS.value if name not in KINDS]
    if unknown:
        raise ValueError(f"--sheets={','.join(unknown)}: expected some of {', '.join(KINDS)}.")
    if SAVED_MODEL.value and not EMA.value:
        raise ValueError("--noema: a published model has the moving average alone. Leave the flag out.")
    places = (MODEL_DIR, SAVED_MODEL, OUTPUT_DIR, DATA_DIR, OUTPUT, CACHE_DIR)
    paths = {flag.name: command.path(flag.name, flag.value) if flag.value else None for flag in places}
    if NUM_IMAGES.value:
        check_flags_of_many(paths["output"])
    else:
        check_flags_of_sheets(paths["output"])
    if paths["output_dir"]:
        command.check_writable(paths["output_dir"] / "grid.png", "output_dir")
    return paths


def check_flags_of_many(output):
    """Raises a ValueError or UserError for flags that no --num_images can have. output: path of --output, or None."""
    given = [flag.name for flag in OF_SHEETS if flag.present]
    if given:
        raise ValueError(f"--{given[0]}: expected without --num_images, which draws single pictures and no sheets.")
    if not output:
        raise ValueError("--output is missing: expected a folder for the pictures of --num_images, or FILE.npz.")
    if TRUNCATION.value is not None and not TRUNCATION.value > 0:
        raise ValueError(f"--truncation={TRUNCATION.value}: expected more than 0.")
    if SEED.value + START.value + NUM_IMAGES.value > 2**63:
        raise ValueError(f"--seed={SEED.value}: expected a number whose pictures' seeds are below 2 to the 63rd.")
    label = LABEL.value or []
    if label not in (["balanced"], ["data"]) and not all(re.fullmatch("[0-9]{1,9}", one) for one in label):
        raise ValueError(f"--label={','.join(label)}: expected numbers of classes such as 0,3, balanced or data.")
    if is_file(output):
        command.refuse_to_overwrite([output], "output", OVERWRITE.value)
        return
    if output.exists() and not output.is_dir() or output.suffix.lower() in (".zip", ".png", ".npy", *ANIMATIONS):
        raise ValueError(f"--output={output}: expected a folder for PNG files, or a file that ends in .npz.")
    command.check_writable(output / "0.png", "output")
    if OVERWRITE.value:
        raise ValueError("--overwrite: pictures in a folder are never replaced. Expected another --output.")


def check_flags_of_sheets(output):
    """Raises a ValueError or UserError for flags that no sheets or animation can have. output: path of --output, or None."""
    given = [flag.name for flag in OF_MANY if flag.present]
    if given:
        raise ValueError(f"--{given[0]}: expected with --num_images alone.")
    if ANIMATE.value and SHEETS.value:
        raise ValueError("--animate and --sheets: both are given. Expected one of them.")
    if output and not ANIMATE.value:
        raise ValueError("--output: expected with --num_images or --animate; --output_dir is the place of sheets.")
    if output and output.suffix.lower() not in ANIMATIONS:
        raise ValueError(f"--output={output}: expected an animation that ends in {' or '.join(ANIMATIONS)}.")
    if output:
        command.refuse_to_overwrite([output], "output", OVERWRITE.value)


def is_file(output):
    """Whether --output of --num_images is one file, not a folder."""
    return output.suffix.lower() == ".npz"


command.start(__name__, check_flags)

import numpy as np

from tfvae.data import content, images, pipeline
from tfvae.data.split import batches_of
from tfvae.drawing import pictures, sheets
from tfvae.publishing import published
from tfvae.training import run


def main(argv):
    with command.user_errors():
        paths = check_flags()
        if paths["model_dir"]:
            model = run.load_run(paths["model_dir"], EMA.value, replica_batch=BATCH_SIZE.value)
        else:
            model = published.load(paths["saved_model"])
        if NUM_IMAGES.value:
            draw_many(model, paths)
        elif ANIMATE.value:
            animate(model, paths)
        else:
            draw_sheets(model, paths)


def draw_many(model, paths):
    """Writes the single pictures of --num_images."""
    if LABEL.value and not model.num_classes:
        raise ValueError("--label: the model was trained without labels. Expected without this flag.")
    label, frequencies = LABEL.value or [pictures.BALANCED], None
    if not model.num_classes:
        label = None
    elif label == [pictures.BALANCED]:
        label = range(model.num_classes)
    elif label == [pictures.DATA]:
        label, frequencies = pictures.DATA, class_frequencies(model, paths)
    else:
        label = [int(one) for one in label]
    truncation = np.inf if TRUNCATION.value is None else TRUNCATION.value
    some = pictures.Pictures(model, SEED.value, truncation, label, frequencies)
    numbers = np.arange(START.value, START.value + NUM_IMAGES.value)
    if is_file(paths["output"]):
        pictures.write_npz(paths["output"], some, numbers, BATCH_SIZE.value)
        there = 0
    else:
        there = pictures.write_folder(paths["output"], some, numbers, BATCH_SIZE.value)
    drawn = f"{len(numbers) - there:,} pictures drawn"
    print(f"{paths['output']}  ({drawn}{f'; {there:,} were there and stay' if there else ''})")


def class_frequencies(model, paths):
    """How frequent each class is among the training images: float64 [C]. Raises: ValueError: they cannot be known."""
    place = dict(data_dir=paths["data_dir"] or model.flags.get("data_dir"), resolution=model.resolution)
    split = pipeline.describe(model.flags["dataset"], **place)
    if split.labels is None:
        split = pipeline.load(model.flags["dataset"], **place)
    if split.num_classes != model.num_classes:
        raise ValueError(
            f"--label=data: {split.dataset} has {split.num_classes} classes now, and the model {model.num_classes}: expected the "
            "data that it was trained on, or --label=balanced."
        )
    labels = split.labels
    if labels is None:
        labels = np.concatenate([label for _, label in batches_of(split, np.arange(split.num_images))])
    return np.bincount(labels, minlength=model.num_classes) / len(labels)


def animate(model, paths):
    """Writes the animation."""
    file = paths["output"] or folder_of(model, paths) / "interpolations.webp"
    command.refuse_to_overwrite([file], "output", OVERWRITE.value)
    images.write_animation(file, sheets.animation(model, SEED.value, ROWS.value, COLUMNS.value, FRAMES.value))
    print(f"{file}  ({FRAMES.value} frames of an endless interpolation)")


def folder_of(model, paths):
    """Where a model's sheets go."""
    default = model.path / "sheets" if MODEL_DIR.value else model.path.parent / "sheets" / model.path.name
    return paths["output_dir"] or default


def draw_sheets(model, paths):
    """Writes the sheets."""
    kinds = SHEETS.value or [name for name in available(model) if name not in ON_DEMAND]
    missing = [name for name in kinds if name not in available(model)]
    if missing:
        raise ValueError(
            f"--sheets={','.join(missing)}: {MODEL_DIR.value or SAVED_MODEL.value} cannot draw it (classes need labels, "
            "reconstructions an encoder, directions the weights of a run). Expected some of "
            f"{', '.join(available(model))}."
        )
    files = {name: folder_of(model, paths) / f"{name}.png" for name in kinds}
    command.refuse_to_overwrite(files.values(), "output_dir", OVERWRITE.value)
    extractor = load_extractor() if "neighbours" in kinds else None
    splits = {}
    for name, of_split in (("reconstructions", held_out), ("neighbours", lambda *_: "train")):
        if name in kinds:
            try:
                splits[name] = load_real(model, paths, of_split)
            except pipeline.DataError as error:
                if SHEETS.value:
                    raise
                print(f"No {name} without the data: {error}")
                del files[name]
    for name, file in files.items():
        images.write_png(file, draw(name, model, splits.get(name), extractor, paths["cache_dir"]))
        about = KINDS[name]
        if name == "reconstructions":
            kind = "training" if splits[name].split == "train" else "held-out"
            about = f"{kind} images above their reconstructions"
        print(f"{file}  ({about})", flush=True)


def available(model):
    """The sheets that a `Model` can draw."""
    hidden = set() if model.num_classes else {"classes"}
    hidden |= set() if model.encode else {"reconstructions"}
    hidden |= set() if model.network else {"directions"}
    return [name for name in KINDS if name not in hidden]


def held_out(dataset, data_dir):
    """The split of reconstructions."""
    return pipeline.held_out_split(dataset, data_dir=data_dir) or "train"


def load_real(model, paths, of_split):
    """A `Split` of the dataset that a model was trained on. of_split: function of (dataset, data_dir) -> name of the split."""
    dataset, data_dir = model.flags["dataset"], paths["data_dir"] or model.flags.get("data_dir")
    options = model.preparation | ({"background": BACKGROUND.value} if BACKGROUND.value else {})
    return pipeline.load(dataset, of_split(dataset, data_dir), data_dir=data_dir, **options)


def draw(name, model, split, extractor, cache_dir):
    """One sheet of a `Model`, uint8 [H, W, 3]; `split`: real images, for reconstructions and neighbours."""
    if name == "grid":
        return sheets.grid(model, SEED.value, ROWS.value, COLUMNS.value)
    if name == "classes":
        return sheets.class_rows(model, SEED.value, COLUMNS.value)
    if name == "interpolations":
        return sheets.interpolations(model, SEED.value, ROWS.value, COLUMNS.value)
    if name == "truncation":
        return sheets.truncation_sweep(model, SEED.value, ROWS.value)
    if name == "directions":
        return sheets.directions(model, SEED.value, ROWS.value)
    if name == "neighbours":
        kept_in = cache_dir or content.cache_dir()
        return sheets.neighbours(model, split, extractor, kept_in, SEED.value, -(-ROWS.value // 4), COLUMNS.value)
    batch = next(split.batches(max(1, ROWS.value // 2) * COLUMNS.value, SEED.value).as_numpy_iterator())
    label = batch["label"] if model.num_classes else None
    return sheets.reconstructions(model, batch["image"], label, COLUMNS.value)


if __name__ == "__main__":
    command.run_command(main)

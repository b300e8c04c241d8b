"""Draws sheets to look at from a trained model: PNG files.

python -m tfvae.sample --model_dir=runs/shapes_gan
python -m tfvae.sample --saved_model=published/shapes_gan

Everything is fixed by --seed: the same command draws the same pictures.
"""

from absl import flags

from tfvae import command

KINDS = {
    "grid": "unselected samples",
    "classes": "unselected samples, one row per class",
    "interpolations": "from one latent to another",
    "truncation": "the same latents, from little to full variety",
    "reconstructions": "held-out images (training images where the dataset has no others) above their reconstructions",
}

MODEL_DIR = flags.DEFINE_string("model_dir", None, "Folder of a run of tfvae.train.")
SAVED_MODEL = flags.DEFINE_string(
    "saved_model", None, "In its place: a version that tfvae.export published, or the folder of versions (the newest)."
)
OUTPUT_DIR = flags.DEFINE_string(
    "output_dir",
    None,
    "Where the sheets go. Default: sheets/ in the run's folder; sheets/VERSION/ beside the versions.",
)
SHEETS = flags.DEFINE_list(
    "sheets",
    [],
    f"Which: {'; '.join(f'{name} ({what})' for name, what in KINDS.items())}. Default: all that the model has.",
)
EMA = flags.DEFINE_boolean("ema", True, "Draw with the moving average of the weights; --noema: with the last weights.")
SEED = flags.DEFINE_integer("seed", 0, "Of latents and classes.", lower_bound=0)
ROWS = flags.DEFINE_integer("rows", 8, "Rows of a sheet (classes: as many as there are, 20 at most).", lower_bound=1)
COLUMNS = flags.DEFINE_integer("columns", 8, "Pictures per row.", lower_bound=1)
DATA_DIR = flags.DEFINE_string("data_dir", None, "Where reconstructions take real images. Default: as in training.")
BACKGROUND = flags.DEFINE_string(
    "background", None, "Colour behind transparent images: a name or #rrggbb. Default: the model's own, else white."
)
OVERWRITE = flags.DEFINE_boolean("overwrite", False, "Replace sheets that are there.")


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
    places = (MODEL_DIR, SAVED_MODEL, OUTPUT_DIR, DATA_DIR)
    paths = {flag.name: command.path(flag.name, flag.value) if flag.value else None for flag in places}
    if paths["output_dir"]:
        command.check_writable(paths["output_dir"] / "grid.png", "output_dir")
    return paths


command.start(__name__, check_flags)

from tfvae.data import images, pipeline
from tfvae.drawing import sheets
from tfvae.publishing import published
from tfvae.training import run


def main(argv):
    with command.user_errors():
        paths = check_flags()
        if paths["model_dir"]:
            model = run.load_run(paths["model_dir"], EMA.value)
        else:
            model = published.load(paths["saved_model"])
        kinds = SHEETS.value or available(model)
        missing = [name for name in kinds if name not in available(model)]
        if missing:
            raise ValueError(
                f"--sheets={','.join(missing)}: {MODEL_DIR.value or SAVED_MODEL.value} cannot draw it (classes need labels, "
                f"reconstructions an encoder). Expected some of {', '.join(available(model))}."
            )
        default = model.path / "sheets" if MODEL_DIR.value else model.path.parent / "sheets" / model.path.name
        folder = paths["output_dir"] or default
        files = {name: folder / f"{name}.png" for name in kinds}
        command.refuse_to_overwrite(files.values(), "output_dir", OVERWRITE.value)
        split = None
        if "reconstructions" in kinds:
            dataset, data_dir = model.flags["dataset"], paths["data_dir"] or model.flags.get("data_dir")
            try:
                name = pipeline.held_out_split(dataset, data_dir=data_dir) or "train"
                options = dict(resolution=model.resolution, background=BACKGROUND.value or model.background)
                split = pipeline.load(dataset, name, data_dir=data_dir, **options)
            except pipeline.DataError as error:
                if SHEETS.value:
                    raise
                print(f"No reconstructions without the data: {error}")
                del files["reconstructions"]
    for name, file in files.items():
        images.write_png(file, draw(name, model, split))
        about = KINDS[name]
        if name == "reconstructions":
            kind = "training" if split.split == "train" else "held-out"
            about = f"{kind} images above their reconstructions"
        print(f"{file}  ({about})", flush=True)


def available(model):
    """The sheets that a `Model` can draw."""
    hidden = set() if model.num_classes else {"classes"}
    hidden |= set() if model.encode else {"reconstructions"}
    return [name for name in KINDS if name not in hidden]


def draw(name, model, split):
    """One sheet of a `Model`, uint8 [H, W, 3]; `split`: real images for reconstructions."""
    if name == "grid":
        return sheets.grid(model, SEED.value, ROWS.value, COLUMNS.value)
    if name == "classes":
        return sheets.class_rows(model, SEED.value, COLUMNS.value)
    if name == "interpolations":
        return sheets.interpolations(model, SEED.value, ROWS.value, COLUMNS.value)
    if name == "truncation":
        return sheets.truncation_sweep(model, SEED.value, ROWS.value)
    batch = next(split.batches(max(1, ROWS.value // 2) * COLUMNS.value, SEED.value).as_numpy_iterator())
    label = batch["label"] if model.num_classes else None
    return sheets.reconstructions(model, batch["image"], label, COLUMNS.value)


if __name__ == "__main__":
    command.run_command(main)

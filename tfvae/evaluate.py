"""Scores a model, images or a split of a dataset against real images, and says how.

python -m tfvae.evaluate --model_dir=runs/cifar10_gan
python -m tfvae.evaluate --images=pictures/ --dataset=cifar10 --inception_dir=inception
python -m tfvae.evaluate --dataset=cifar10 --calibrate
python -m tfvae.evaluate --dataset=cifar10 --save_reference=cifar10.npz

Writes a JSON file with the scores and everything that they depend on, and prints them. The same command gives the same file.
"""

import dataclasses
import functools
import json
import pathlib
import time
import warnings

from absl import flags

from tfvae import command, config
from tfvae.scoring import extractors

MODEL_DIR = flags.DEFINE_string("model_dir", None, "Score the model of a run of tfvae.train.")
SAVED_MODEL = flags.DEFINE_string("saved_model", None, "Score a version that tfvae.export published.")
IMAGES = flags.DEFINE_string(
    "images", None, "Score a folder of images, a zip file of them, or an .npz file with uint8 [N, R, R, 3]."
)
SPLIT = flags.DEFINE_string(
    "split", None, "Score a split of --dataset, such as test or train[:50%], to calibrate; noise: uniform pixels."
)
CALIBRATE = flags.DEFINE_boolean(
    "calibrate",
    False,
    "Score real images of --dataset, as they are and spoilt in known ways; a figure lies beside --output.",
)
SAVE_REFERENCE = flags.DEFINE_string(
    "save_reference", None, "Write mean and covariance of the features of --num_images real images into this .npz file."
)
REFERENCE = flags.DEFINE_string(
    "reference", None, "An .npz file of --save_reference: the Fréchet distance from it alone, without the real images."
)
DATASET = flags.DEFINE_string("dataset", None, "Of the real images. Default: the model's own.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "As tfvae.train's. Default: the model's own.")
RESOLUTION = flags.DEFINE_integer("resolution", None, "Pixels a side. Default: the model's or the dataset's own.", 8)
BACKGROUND = flags.DEFINE_string(
    "background", None, "Colour behind transparent images: a name or #rrggbb. Default: the model's own, else white."
)
FIT = flags.DEFINE_enum(
    "fit", None, config.FITS, "How real images that are not square become so. Default: the model's own, else crop."
)
REFERENCE_SPLIT = flags.DEFINE_string("reference_split", "train", "Split of --dataset to compare with.")
load_extractor = extractors.define_flags()
NUM_IMAGES = flags.DEFINE_integer(
    "num_images",
    None,
    "Images on each side, if there are so many. Default: by extractor, "
    + ", ".join(f"{kind.name} {kind.num_images:,}" for kind in extractors.EXTRACTORS.values())
    + ".",
    2,
)
MEMORISATION = flags.DEFINE_enum(
    "memorisation",
    "num_images",
    ["num_images", "all"],
    "Memorisation ratio: of --num_images training images, as its name then says, or of all, whose features take a while.",
)
NUM_SEEDS = flags.DEFINE_integer("num_seeds", 1, "Independent sets of drawn images: mean and spread over them.", 1)
SEED = flags.DEFINE_integer("seed", 0, "The first of the seeds.", 0)
EMA = flags.DEFINE_boolean("ema", True, "Draw with the moving average of the weights; --noema: with the last weights.")
BEST = flags.DEFINE_boolean("best", False, "Take the checkpoint that scored best while training, not the newest.")
PRIOR = flags.DEFINE_enum(
    "prior", "normal", ["normal", "gmm"], "VAE: draw latents from the normal, or from a mixture fitted to its codes."
)
NUM_IMPORTANCE_SAMPLES = flags.DEFINE_integer(
    "num_importance_samples",
    1,
    "VAE: samples of the importance-weighted bound on the likelihood, each decoded; 1: the ELBO alone.",
    1,
)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 100, "Images that a replica draws at once.", 1)
OUTPUT = flags.DEFINE_string("output", None, "JSON file. Default: scores….json in --model_dir, or here.")
OVERWRITE = flags.DEFINE_boolean("overwrite", False, "Replace the file that is there.")
CACHE_DIR = flags.DEFINE_string("cache_dir", None, "Where features of real images are kept. Default: ~/.cache/tfvae.")
STRATEGY = flags.DEFINE_enum("strategy", "auto", ["auto", "one", "mirrored"], "auto: all GPUs of this machine.")
VIRTUAL_DEVICES = flags.DEFINE_integer("virtual_devices", 0, "Split the CPU into so many devices (for tests).", 0)


def check_flags():
    """({flag's name: path, or None where it is not given}, the files to write). Raises: ValueError, UserError."""
    wanted = (MODEL_DIR, SAVED_MODEL, IMAGES, SPLIT, SAVE_REFERENCE, CALIBRATE)
    chosen = [f for f in wanted if f.value]
    if len(chosen) != 1:
        given = " and ".join(f"--{f.name}" for f in chosen) or "none"
        raise ValueError(
            f"{given} given: expected one of --model_dir, --saved_model, --images and --split, what to score, --calibrate or "
            "--save_reference."
        )
    of_data_alone = CALIBRATE.value or SAVE_REFERENCE.value
    if REFERENCE.value and of_data_alone:
        raise ValueError(f"--reference: expected with what to score, without --{chosen[0].name}.")
    needs_data = of_data_alone or (SPLIT.value or IMAGES.value) and not REFERENCE.value
    if (needs_data or SPLIT.value not in (None, "noise")) and not DATASET.value:
        raise ValueError("--dataset is missing: expected the dataset to compare with, such as --dataset=cifar10.")
    if BEST.value and not MODEL_DIR.value:
        raise ValueError("--best: expected with --model_dir alone.")
    places = (MODEL_DIR, SAVED_MODEL, IMAGES, DATA_DIR, OUTPUT, CACHE_DIR, SAVE_REFERENCE, REFERENCE)
    paths = {flag.name: command.path(flag.name, flag.value) if flag.value else None for flag in places}
    if paths["save_reference"]:
        if paths["output"]:
            raise ValueError("--output: nothing is scored with --save_reference; expected one of the two.")
        files, flag = [paths["save_reference"]], "save_reference"
    else:
        kind = (
            ("" if EMA.value else "_raw") + ("_best" if BEST.value else "") + ("_gmm" if PRIOR.value == "gmm" else "")
        )
        name = "calibration.json" if CALIBRATE.value else f"scores{kind}.json"
        files, flag = [paths["output"] or (paths["model_dir"] or pathlib.Path()) / name], "output"
    if CALIBRATE.value:
        files.append(files[0].with_suffix(".png"))
        if files[0] == files[1]:
            raise ValueError(f"--output={files[0]}: the figure would lie there; expected a name that ends in .json.")
    command.refuse_to_overwrite(files, flag, OVERWRITE.value)
    if paths["reference"] and not paths["reference"].is_file():
        raise ValueError(f"--reference={paths['reference']}: there is no such file; --save_reference writes one.")
    return paths, files


command.start(__name__, check_flags)

import numpy as np
import tensorflow as tf

from tfvae.data import content, pipeline
from tfvae.data.split import choose
from tfvae.drawing import prior as priors
from tfvae.drawing.model import codes
from tfvae.publishing import published
from tfvae.scoring import calibration, classes, neighbours, parts, presentation, protocol, scores, sources, statistics
from tfvae.training import run
from tfvae.training import strategy as strategies


def main(argv):
    with command.user_errors(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        started = time.monotonic()
        paths, files = check_flags()
        strategy = strategies.make_strategy(
            config.Config(strategy=STRATEGY.value, virtual_devices=VIRTUAL_DEVICES.value)
        )
        with strategy.scope():
            result, model = evaluate(paths)
        result["warnings"] = sorted({" ".join(str(w.message).split()) for w in caught if w.category is UserWarning})
        if not SAVE_REFERENCE.value:
            text = json.dumps(presentation.plain(result), indent=2, ensure_ascii=False) + "\n"
            command.write_whole(files[0], text)
        if CALIBRATE.value:
            from tfvae.studies import figures  # matplotlib takes a while

            rows = [(row["name"], row["scores"]) for row in result["rows"]]
            figures.calibration(files[1], rows, presentation.calibration_panels(result))
    if paths["model_dir"]:
        group = "scores" + ("" if EMA.value else "_raw") + ("_gmm" if PRIOR.value == "gmm" else "")
        presentation.write_curves(run.RunDirectory(paths["model_dir"]).logs, model.images_seen, result, group)
    for line in result["warnings"]:
        print(f"warning: {line}")
    if not SAVE_REFERENCE.value:
        print(presentation.calibration_table(result) if CALIBRATE.value else presentation.table(result))
    print(f"{', '.join(map(str, files))}  ({time.monotonic() - started:.0f} s)")


def evaluate(paths):
    """(what `scores.json` holds, the `Model` or None). paths: of `check_flags`."""
    cache_dir = paths["cache_dir"] or content.cache_dir()
    # Before the data, which may take minutes: a wrong folder ends the command at once.
    extractor = load_extractor()
    known = statistics.load(paths["reference"], extractor) if paths["reference"] else None
    model = load_model(paths)
    dataset = DATASET.value or (model.flags["dataset"] if model else None)
    resolution = RESOLUTION.value or (model.resolution if model else known and known.facts.get("resolution"))
    data_dir = paths["data_dir"] or (model.flags.get("data_dir") if model else None)
    background = BACKGROUND.value or (model.background if model else known and known.facts.get("background"))
    background = background or config.Config.background
    fit = FIT.value or (model.fit if model else config.Config.fit)

    @functools.cache
    def load(split):
        options = dict(resolution=resolution, background=background, fit=fit)
        loaded = pipeline.load(dataset, split, data_dir=data_dir, **options)
        print(loaded.summary, flush=True)
        return loaded

    if known:
        return score_by_statistics(known, paths, model, extractor, resolution, background, load), model
    split = load(REFERENCE_SPLIT.value)
    if model and split.resolution != model.resolution:
        raise ValueError(
            f"the model draws {model.resolution} px and --resolution is {split.resolution}: expected the model's own."
        )
    protocol.check_resolution(extractor, split)
    if SAVE_REFERENCE.value:
        outputs = protocol.outputs_of_split(split, extractor, cache_dir, most_images(extractor))
        statistics.save(paths["save_reference"], outputs, extractor, split)
        return {}, None
    held_out_name = pipeline.held_out_split(dataset, data_dir=data_dir)
    held_out = load(held_out_name) if held_out_name else None
    if CALIBRATE.value:
        return calibrate(split, held_out, extractor), None
    reference, rows = make_reference(split, held_out, load, extractor, cache_dir)
    prior = make_prior(model, load) if model else None
    source = make_source(
        paths["images"],
        model,
        prior,
        split.dataset,
        split.num_classes,
        split.resolution,
        split.background,
        reference.outputs.labels,
        load,
    )
    if paths["images"]:
        print(source.split.summary, flush=True)

    def score(drawn, seed):
        return protocol.score(reference, drawn, extractor, seed)

    part, drawn = score_seeds(source, extractor, score, len(reference.outputs))
    real_logits = reference.outputs.logits
    of_classes = real_logits is not None and extractor.kind.knows_classes
    of_real = {} if not of_classes else {"class_entropy": lambda: classes.class_entropy(real_logits)}
    if extractor.kind.same_person:
        features = reference.outputs.features
        of_real["pairs_of_one_person"] = lambda: neighbours.share_of_near_pairs(features, extractor.kind.same_person)
    result = {
        "source": source.facts,
        "reference": {
            "dataset": dataset,
            "split": split.split,
            "fingerprint": split.fingerprint,
            "resolution": split.resolution,
            "background": split.background,
            "fit": split.fit,
            "images": len(reference.outputs),
            "chosen": "all" if len(rows) == split.num_images else "a subset by seed 0",
            "memorisation": reference.train
            and {
                "training_images": len(reference.train),
                "of": reference.num_train,
                "held_out_images": len(reference.held_out),
            },
        },
        **part,
        "real": protocol.defined(of_real)[0],
    }
    if reference.mode_frequencies is not None and drawn.kinds is not None:
        result["modes"] = parts.known_modes(reference, drawn, extractor)
    if model and model.encode:
        number, train = most_images(extractor), load("train")
        result |= parts.reconstructions(model, reference, split, rows, train, held_out, number, extractor)
        result["likelihood"] = parts.likelihood(model, train, held_out, PRIOR.value, NUM_IMPORTANCE_SAMPLES.value)
    return result, model


def score_seeds(source, extractor, score, num_compared):
    """(part of the result: scores of the images of each seed, and how they were made; `Outputs` of the last seed).

    score: function of (`Outputs`, seed) -> as `protocol.score`. num_compared: images of the reference; None: nobody knows.
    """
    number = min(most_images(extractor), source.num_images or most_images(extractor))
    # Where a source has no more images, every seed would take the same ones.
    num_seeds = 1 if source.num_images == number else NUM_SEEDS.value
    seeds = list(range(SEED.value, SEED.value + num_seeds))
    if num_compared not in (number, None):
        warnings.warn(
            f"{number} images are compared with {num_compared}: their distances compare only with those of the same two numbers",
            stacklevel=1,
        )
    by_seed, undefined = [], {}
    for seed in seeds:
        drawn = protocol.outputs_of(source.batches(number, seed), extractor, number, f"images of seed {seed}")
        found, reasons = score(drawn, seed)
        by_seed.append(found)
        undefined = reasons | undefined
        name = scores.SCORES["frechet"].name_by(extractor.kind)
        shown = f": {name} {found[name]:.5g}" if name in found else ""
        print(f"seed {seed}, {len(by_seed)} of {num_seeds}{shown}", flush=True)
    # A mean over some of the seeds would be of other images than the others'.
    defined = [name for name in by_seed[0] if name not in undefined]
    if not defined:
        raise ValueError(f"no score is defined for these images: {next(iter(undefined.values()))}")
    part = {"num_images": number, "seeds": seeds, **made_by(extractor)}
    part["scores"] = {name: summary([found[name] for found in by_seed]) for name in defined}
    return part | {"undefined": undefined}, drawn


def score_by_statistics(known, paths, model, extractor, resolution, background, load):
    """As `evaluate`'s result, with the Fréchet distance alone. known: `statistics.Statistics`."""
    facts = known.facts
    if not facts:
        warnings.warn(
            f"{paths['reference']} says neither how many images it is of, of which dataset and size, nor how they were "
            "prepared: its distances compare with those by the same file alone",
            stacklevel=1,
        )
    if facts and resolution != facts["resolution"]:
        raise ValueError(
            f"--reference={paths['reference']} is of images of {facts['resolution']} px, and those to score are of {resolution} "
            "px: expected one size."
        )
    if SPLIT.value == "noise" and not resolution or paths["images"] and not resolution:
        raise ValueError("--resolution is missing: expected px a side, which this file of --reference does not say.")
    counts = known.class_counts
    num_classes = len(counts) if counts is not None else 0 if facts or not model else model.num_classes
    labels = np.repeat(np.arange(num_classes), 1 if counts is None else counts).astype(np.int32)
    prior = make_prior(model, load) if model else None
    source = make_source(
        paths["images"], model, prior, facts.get("dataset"), num_classes, resolution, background, labels, load
    )
    if model and model.num_classes and counts is None:
        source.facts["labels"] = "each as often, for the reference's are not known"
    name = scores.SCORES["frechet"].name_by(extractor.kind)

    def score(drawn, seed):
        return protocol.defined({name: lambda: known.frechet_distance(drawn.features)})

    part, _ = score_seeds(source, extractor, score, facts.get("num_images"))
    said = {key: facts.get(key) for key in ("dataset", "split", "fingerprint", "resolution", "background")}
    said |= {"images": facts.get("num_images"), "statistics": str(paths["reference"])}
    return {"source": source.facts, "reference": said, **part}


def calibrate(split, held_out, extractor):
    """What the file of --calibrate holds."""
    rows, number = [], most_images(extractor)
    if held_out and held_out.num_images < min(number, split.num_images):
        held_out = None  # too few: other images of the same split
    for row in calibration.rows(split, held_out, number, extractor, SEED.value):
        rows.append(dataclasses.asdict(row))
        print(f"{row.name}: {row.images:,} images", flush=True)
    names = ("dataset", "split", "fingerprint", "resolution", "background")
    reference = {name: getattr(split, name) for name in names} | {"images": rows[0]["reference_images"]}
    others = held_out or split
    return {
        "reference": reference,
        "images_of": {"split": others.split, "fingerprint": others.fingerprint},
        "seed": SEED.value,
        **made_by(extractor),
        "rows": rows,
    }


def made_by(extractor):
    """What every result says of how it was made."""
    return {
        "protocol": protocol.declared(extractor) | {"batch_size": BATCH_SIZE.value},
        "versions": {"tensorflow": tf.__version__, "numpy": np.__version__},
    }


def summary(values):
    """Mean and standard deviation over seeds (null for one), and the values."""
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "std": spread, "values": values}


# What is scored.


def load_model(paths):
    """The `Model` that the flags name, or None where they name images. Raises: UserError."""
    if paths["model_dir"]:
        return run.load_run(paths["model_dir"], EMA.value, BEST.value, BATCH_SIZE.value)
    return published.load(paths["saved_model"]) if paths["saved_model"] else None


def most_images(extractor):
    """How many images are asked for on each side."""
    return NUM_IMAGES.value or extractor.kind.num_images


def make_source(images, model, prior, dataset, num_classes, resolution, background, labels, load):
    """The images to score, one of the classes of `tfvae.scoring.sources`.

    images: path of --images, or None. The others are the reference's; labels: int32 [N], those to draw from.
    """
    if model:
        if model.num_classes and model.num_classes != num_classes:
            raise ValueError(
                f"the model was trained on {model.num_classes} classes and {dataset} has {num_classes}: expected the dataset "
                "that it was trained on."
            )
        return sources.Generator(model, prior, labels if model.num_classes else None)
    if images:
        return sources.load_files(images, resolution, background)
    return sources.Noise(resolution) if SPLIT.value == "noise" else sources.Stored(load(SPLIT.value))


def make_reference(split, held_out, load, extractor, cache_dir):
    """(`protocol.Reference`, the split's rows that it is made of). held_out: `Split`, or None where the data has none.

    Features take minutes: unless --memorisation=all, those of no more images of a split are extracted than are asked for.
    """
    number = most_images(extractor)
    rows = choose(split.num_images, number)
    limit = None if MEMORISATION.value == "all" else number
    known = load("train") if held_out else None
    train = unseen = None
    if held_out:
        train = protocol.outputs_of_split(known, extractor, cache_dir, limit)
        unseen = protocol.outputs_of_split(held_out, extractor, cache_dir, limit)
    if known is split:
        outputs = train if limit else train.rows(rows)
    else:
        outputs = protocol.outputs_of_split(split, extractor, cache_dir, number)
    frequencies = protocol.mode_frequencies(split.dataset, extractor)
    return protocol.Reference(outputs, split.num_classes, train, unseen, known and known.num_images, frequencies), rows


def make_prior(model, load):
    """What the model's latents are drawn from, one of the classes of `tfvae.drawing.prior`."""
    if PRIOR.value == "normal":
        return priors.Normal(model.latent_dim)
    if not model.encode:
        raise ValueError("--prior=gmm: the model has no encoder to fit a mixture to. Expected a VAE.")
    return priors.Mixture(*codes(model, load("train")))


if __name__ == "__main__":
    command.run_command(main)

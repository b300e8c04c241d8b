"""What a study consists of: its experiments with their flags after the scale's cut, the protocol of their scores, and where
everything lies.

The path of a result names everything that the result depends on: settings, images, extractor, protocol. So the results of other
settings or images have other paths: nothing finished is overwritten, and none is taken for another.
"""

import dataclasses
import fnmatch
import functools
import hashlib
import json
import math
import os
import pathlib
import re
import shlex

from absl import flags

from tfvae import config
from tfvae.data import datasets
from tfvae.scoring import extractors, saved_models
from tfvae.studies import identity

# {scale: FLOP/s that training is assumed to sustain until something was measured}
SCALES = {"full": 20e12, "cpu": 0.15e12}
TRAINED = "classifier"  # the extractor that a study trains where it is missing
# --scale=cpu: one rule for every experiment, whatever its objective.
WIDTH_DIVISOR, WIDTH_MULTIPLE = 4, 4  # BigGAN-deep's widths are multiples of 4
BATCH_DIVISOR, LEAST_BATCH = 16, 32
CPU_CHECKPOINT_SECONDS = 120


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One row of the tables.

    Attributes:
        name: of the row. tables: those that show it.
        arguments: flags of `tfvae.train` but for places and extractors, the scale's cut last.
        settings: `Config`, what they say; not resolved.
        folder: name for its settings; experiments with the same settings share one run.
    """

    name: str
    tables: tuple[str, ...]
    arguments: tuple[str, ...]
    settings: config.Config
    folder: str

    @property
    def dataset(self):
        return self.settings.dataset

    @property
    def total_images(self):
        """Real images that its training ends with."""
        return self.settings.total_images

    @property
    def objective(self):
        """The class of its objective."""
        from tfvae.training import build  # here: it imports TensorFlow, and reading a study's flags takes none

        return build.objective_class(self.settings)

    @property
    def label(self):
        """The name for people: without the dataset, names of objectives and networks as they are written."""
        from tfvae.training import build

        words = self.name.removeprefix(f"{datasets.record(self.dataset).slug}_")
        titles = {"biggan": "BigGAN", "biggan_deep": "BigGAN-deep"}
        titles |= {name: objective.title for name, objective in build.OBJECTIVES.items()}
        # Long ones first: they hold others.
        for written, shown in sorted(titles.items(), key=lambda pair: -len(pair[0])):
            words = re.sub(rf"(?<![a-z]){written}(?![a-z])", shown, words)
        return words.replace("_", " ")


@dataclasses.dataclass(frozen=True, eq=False)
class Study:
    """Everything that was asked for.

    Attributes:
        experiments: in the order of their declaration. published: {name: {quantity: value}}, texts.
        scale: of `SCALES`. output_dir: `pathlib.Path`.
        data_dirs: {dataset, or "" for all: folder}.
        extractor_name, folders: of the extractor of every dataset, as `extractors.kind_of`'s. `{dataset}` in a folder: the
            dataset's name. Classifiers without a folder are in `output_dir`.
        num_images: most images on each side of a score. num_seeds: sets of drawn images.
        mixture_tables: tables whose VAEs are scored with the mixture prior too.
        eval_points: scores along each training; 0: none.
    """

    experiments: tuple[Experiment, ...]
    published: dict
    scale: str
    output_dir: pathlib.Path
    data_dirs: dict
    extractor_name: str | None
    folders: dict
    num_images: int
    num_seeds: int
    mixture_tables: tuple[str, ...]
    eval_points: int

    @property
    def datasets(self):
        return tuple(dict.fromkeys(e.dataset for e in self.experiments))

    @property
    def tables(self):
        """{table: its experiments}, both in the order of their declaration."""
        names = dict.fromkeys(table for e in self.experiments for table in e.tables)
        return {name: [e for e in self.experiments if name in e.tables] for name in names}

    def selected(self, patterns):
        """The experiments that any of the patterns names: NAME, TABLE or TABLE/NAME, with * and ?; all without patterns.

        Raises: ValueError: a pattern that names none.
        """
        chosen = {}
        for pattern in patterns or ["*"]:
            found = [
                e
                for e in self.experiments
                if any(
                    fnmatch.fnmatchcase(t, pattern) for t in (e.name, *e.tables, *(f"{t}/{e.name}" for t in e.tables))
                )
            ]
            if not found:
                raise ValueError(
                    f"--only={pattern} names no experiment: expected tables ({', '.join(self.tables)}) or names "
                    f"({', '.join(e.name for e in self.experiments)})."
                )
            chosen |= {e.name: e for e in found}
        return [e for e in self.experiments if e.name in chosen]

    def with_mixture(self, experiment):
        """Whether it is also scored with latents from a mixture fitted to its codes."""
        return experiment.objective.encode is not None and any(t in self.mixture_tables for t in experiment.tables)

    def protocol(self, dataset):
        known = datasets.record(dataset).protocol
        return dataclasses.replace(known, num_images=min(known.num_images, self.num_images))

    def resolution(self, dataset):
        """Pixels a side for a dataset's classifier and calibration: what its first experiment asks for; None: the data's own."""
        return next(e.settings.resolution for e in self.experiments if e.dataset == dataset)

    # Where everything lies.

    def data_dir(self, dataset):
        return self.data_dirs.get(dataset, self.data_dirs.get(""))

    def data_file(self, dataset, resolution):
        """The record of a dataset's images, one for each place that they may come from."""
        place = self.data_dir(dataset) or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
        if dataset.startswith("folder:"):
            place = dataset.removeprefix("folder:")
        key = hashlib.sha256(os.path.abspath(os.path.expanduser(place)).encode()).hexdigest()[:8]
        size = f"-{resolution}px" if resolution else ""
        return self.output_dir / "data" / f"{datasets.record(dataset).slug}{size}-{key}.json"

    def data_key(self, dataset, resolution):
        """Of `identity.Data`: the images' part of a path."""
        data = identity.read(self.data_file(dataset, resolution))
        return data.key if data else "unread"

    @property
    def kind(self):
        """The `Kind` of extractor that scores."""
        return extractors.kind_of(self.extractor_name, **self.folders)

    @property
    def named_kind(self):
        """The same, with the name that its folder gives it, if it is there."""
        try:
            return (
                self.kind if self.kind.name == TRAINED else _identified(self.kind, self.folders.get(self.kind.flag))[0]
            )
        except ValueError:
            return self.kind

    def kinds(self, dataset):
        """The kinds of extractors that score a dataset: `kind`, and the classifier where modes are counted and `kind` cannot."""
        counted = datasets.record(dataset).counts_modes and not self.kind.knows_classes
        return (self.kind, extractors.EXTRACTORS[TRAINED]) if counted else (self.kind,)

    def extractor(self, dataset, kind=None):
        """(`Kind`, folder or None) of a dataset's extractor. kind: of `kinds`; default: the first."""
        kind = kind or self.kind
        folder, record = self.folders.get(kind.flag), datasets.record(dataset)
        if folder is None and kind.name == TRAINED:
            key = self.data_key(dataset, self.resolution(dataset))
            return kind, self.output_dir / "classifiers" / f"{record.slug}-{key}"
        return kind, folder and pathlib.Path(folder.replace("{dataset}", record.slug))

    def extractor_is_there(self, dataset, kind=None):
        try:
            self.extractor_checksum(dataset, kind)
        except ValueError:
            return False
        return not self.extractor_of_other_data(dataset, kind)

    def extractor_of_other_data(self, dataset, kind=None):
        """Whether the classifier that is there says that it was trained on other images than the dataset's."""
        kind, folder = self.extractor(dataset, kind)
        data = identity.read(self.data_file(dataset, self.resolution(dataset)))
        facts = identity.read_json(folder / saved_models.CLASSIFIER_FACTS) if kind.knows_classes else None
        if data is None or facts is None:
            return False
        return facts.get("data_fingerprint") not in (None, data.fingerprints["train"])

    def extractor_checksum(self, dataset, kind=None):
        """SHA-256 (hex) of the extractor. Raises: ValueError: it is not there."""
        return _identified(*self.extractor(dataset, kind))[1]

    def run_name(self, experiment):
        """Of everything that an experiment's run leaves: its settings and its images."""
        return f"{experiment.folder}-{self.data_key(experiment.dataset, experiment.settings.resolution)}"

    def run_dir(self, experiment):
        return self.output_dir / "runs" / self.run_name(experiment)

    def log_file(self, name):
        return self.output_dir / "logs" / f"{name}.log"

    def record_file(self, name):
        return self.output_dir / "records" / f"{name}.json"

    @property
    def report_dir(self):
        return self.output_dir / "report"

    def scores_dir(self, dataset, kind=None):
        """The folder of all scores that compare with each other. The extractor must be there."""
        data, extractor = self.data_key(dataset, self.resolution(dataset)), self.extractor_checksum(dataset, kind)[:8]
        number = f"{self.protocol(dataset).num_images}x{self.num_seeds}"
        return (
            self.output_dir
            / "scores"
            / f"{datasets.record(dataset).slug}-{data}_{(kind or self.kind).name}_{extractor}_{number}"
        )

    def score_file(self, experiment, prior="normal", kind=None):
        suffix = "" if prior == "normal" else f"-{prior}"
        return self._scored(experiment, f"{suffix}.json", kind)

    def exhibits_file(self, experiment):
        return self._scored(experiment, ".npz")

    def _scored(self, experiment, end, kind=None):
        name = f"{self.run_name(experiment)}-{experiment.total_images}{end}"
        return self.scores_dir(experiment.dataset, kind) / name

    def calibration_file(self, dataset, part, kind=None):
        """part: held_out, noise or spoilt."""
        return self.scores_dir(dataset, kind) / f"calibration-{part}.json"


@functools.cache
def _identified(kind, folder):
    return kind.identified(folder)


def shown(dataset):
    """A dataset's name for people."""
    return datasets.record(dataset).title


# From the study's flags.


def read_config(arguments):
    """The `Config` of flags of `tfvae.train`. Raises: ValueError."""
    values = flags.FlagValues()
    config.define_flags(values)
    try:
        rest = values(["", *arguments])[1:]
    except flags.Error as error:
        raise ValueError(" ".join(str(error).split())) from error
    if rest:
        raise ValueError(f"unexpected {rest[0]!r}: expected one flagfile, then --flag=value.")
    return config.Config.from_flags(values)


def cut(settings, images):
    """The flags by which --scale=cpu cuts an experiment. images: {dataset: images that each experiment sees}, where not usual."""
    width = settings.base_channels
    if width > WIDTH_MULTIPLE:
        width = max(WIDTH_MULTIPLE, round(width / WIDTH_DIVISOR / WIDTH_MULTIPLE) * WIDTH_MULTIPLE)
    batch = min(settings.batch_size, max(LEAST_BATCH, settings.batch_size // BATCH_DIVISOR))
    number = images.get(settings.dataset, datasets.record(settings.dataset).cpu_images)
    # Schedules keep their share of the run. The moving average's start does not: its decay is made for the full length, and a
    # start that is never reached leaves a plain copy.
    share = number / settings.train_images
    schedules = {
        name: math.floor(getattr(settings, name) * share)
        for name in ("kl_warmup_images", "learning_rate_decay_images")
        if getattr(settings, name)
    }
    changed = {"base_channels": width, "batch_size": batch, "train_images": number} | schedules
    shown = {
        "log_every_images": max(1, number // 100),
        "sample_every_images": 0,
        "checkpoint_every_seconds": CPU_CHECKPOINT_SECONDS,
    }
    return tuple(f"--{name}={value}" for name, value in (changed | shown).items())


def digest(settings):
    """Eight characters that stand for the settings that a resumed run must keep.

    Settings at their default are left out, so that a flag that is added later leaves the digests of earlier runs as they are.
    """
    values = {
        field.name: getattr(settings, field.name)
        for field in dataclasses.fields(settings)
        if not field.metadata["free"] and getattr(settings, field.name) != field.default
    }
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]


def read_experiments(lines, scale, images, common=()):
    """The experiments of --experiment's values.

    Args:
        lines: "TABLE/NAME: FLAGFILE --flag=value …"; a NAME may be in several tables, with the same flags.
        scale: of `SCALES`. images: {dataset: images}, for the scale cpu. common: flags of all experiments.

    Returns:
        Tuple of `Experiment`.

    Raises:
        ValueError: a line that cannot be read, flags that no experiment can have, one name for two experiments.
    """
    found, folders = {}, {}
    for line in lines:
        match = re.fullmatch(r"([\w.-]+)/([\w.-]+)\s*:\s*(.+)", line.strip())
        if not match:
            raise ValueError(
                f"--experiment={line}: expected TABLE/NAME: FLAGFILE --flag=value …, names of letters, digits, ._-"
            )
        table, name, rest = match.groups()
        words = shlex.split(rest)
        first = () if words[0].startswith("--") else (f"--flagfile={words[0]}",)
        arguments = (*first, *common, *words[len(first) :])
        try:
            settings = read_config(arguments)
            if scale == "cpu":
                arguments += cut(settings, images)
                settings = read_config(arguments)
        except ValueError as error:
            raise ValueError(f"--experiment={table}/{name}: {error}") from error
        if name in found:
            if found[name].arguments != arguments:
                raise ValueError(
                    f"--experiment={table}/{name}: {name} has other flags in {found[name].tables[0]}: rename one."
                )
            tables = tuple(dict.fromkeys((*found[name].tables, table)))
            found[name] = dataclasses.replace(found[name], tables=tables)
            continue
        if scale == "cpu" and settings.total_images != settings.train_images:
            raise ValueError(
                f"--images={settings.dataset}={settings.train_images}: {name} takes {settings.images_per_step:,} images at once: "
                "expected a multiple of that, so that all see the same number."
            )
        if settings.stop_after_images_without_gain:
            raise ValueError(
                f"--experiment={table}/{name}: --stop_after_images_without_gain ends a training early: expected without it, "
                "for the experiments of a study are compared at the images that they were given."
            )
        key = digest(settings)
        folder = folders.setdefault((key, settings.train_images), f"{name}-{key}")
        found[name] = Experiment(name, (table,), arguments, settings, folder)
    if not found:
        raise ValueError("no --experiment given: expected --flagfile=configs/study/….cfg, which lists them.")
    return tuple(found.values())


def read_published(lines, experiments):
    """{name: {quantity: value}} of --published's values, "NAME: quantity=value; …". Raises: ValueError."""
    names, found = {e.name for e in experiments}, {}
    for line in lines:
        name, _, rest = line.partition(":")
        pairs = [part.partition("=") for part in rest.split(";")]
        if name not in names or not all(value for _, _, value in pairs):
            raise ValueError(
                f"--published={line}: expected NAME: quantity=value; quantity=value, NAME an experiment's."
            )
        found[name] = {quantity.strip(): value.strip() for quantity, _, value in pairs}
    return found


def read_pairs(flag, values, kind=str, default_key=False):
    """{key: value} of a flag that is given as KEY=VALUE, repeated; `default_key`: VALUE alone has the key "".

    Raises: ValueError.
    """
    pairs = {}
    for text in values:
        key, equals, value = text.partition("=")
        try:
            if not equals and not default_key:
                raise ValueError(text)
            key, value = (key, value) if equals else ("", text)
            pairs[key] = kind(value)
        except ValueError:
            expected = "DATASET=FOLDER, or a folder for all" if default_key else "DATASET=NUMBER"
            raise ValueError(f"--{flag}={text}: expected {expected}.") from None
    return pairs

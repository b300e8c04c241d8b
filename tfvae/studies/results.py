"""Reads what there is of a study: scores, costs, curves and pictures of each row, or the reason why there are none."""

import dataclasses
import json

import numpy as np

from tfvae.scoring import calibration
from tfvae.scoring import scores as records
from tfvae.studies import identity, plan, runner, tasks
from tfvae.training import run

PRIORS = {"normal": "", "gmm": ", mixture prior"}


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """A row of the tables: an experiment, with latents drawn from one prior.

    Attributes:
        experiment: `plan.Experiment`. prior: "normal" or "gmm".
        scores: what `tfvae.evaluate` wrote, or None. reason: why there are none, or what else failed; "" where all went well.
        record: of `runner.read_record`. size: of `sizes`, {} where unknown.
        seen: images that its newest checkpoint has seen. curve: rows of the run's metrics.jsonl.
        num_train: images of its training split; conditional: whether its networks are given labels; both None before it began.
        exhibits: {name: array} of `tfvae.studies.exhibits`, {} where there are none.
        limits: of `calibration.blur_limits` for its dataset, {} without a calibration.
    """

    experiment: plan.Experiment
    prior: str
    scores: dict | None
    reason: str
    record: dict
    size: dict
    seen: int
    curve: list
    num_train: int | None
    conditional: bool | None
    exhibits: dict
    limits: dict = dataclasses.field(default_factory=dict)

    @property
    def label(self):
        return self.experiment.label + PRIORS[self.prior]

    def value(self, name):
        """(mean, standard deviation over seeds or None) of a score; None where it is not there.

        name: the key of a record in `scores.SCORES`.
        """
        if name == "spread_within_classes":
            value = self.facts.get(name) if self.prior == "normal" else None
            return None if value is None else (value, None)
        return score_of(self.scores, name)

    def reconstruction(self, name, part="reconstruction"):
        """A score of a VAE's reconstructions, a float, or None.

        part: of what `tfvae.evaluate` wrote; also `reconstruction_from_samples` and `likelihood`.
        """
        part = (self.scores or {}).get(part)
        return None if part is None else records.value_of(part["scores"], name)

    @property
    def facts(self):
        return json.loads(str(self.exhibits["facts"])) if "facts" in self.exhibits else {}

    @property
    def epochs(self):
        return self.seen / self.num_train if self.num_train else None

    @property
    def flops(self):
        """Of its training so far, or None where nothing was trained or its size is unknown."""
        if not self.seen or self.size.get("flops") is None:
            return None
        return self.size["flops"] * self.seen / self.experiment.total_images

    @property
    def images_per_second(self):
        """Median along the curve, or None."""
        speeds = [row["images_per_second"] for row in self.curve if "images_per_second" in row]
        return float(np.median(speeds)) if speeds else None

    @property
    def scored_curve(self):
        """Those of the curve's rows that hold scores of a small sample, each with short names too."""
        rows = []
        for row in self.curve:
            if records.value_of(row, "precision") is not None:
                short = {key: records.value_of(row, key) for key in records.SCORES}
                rows.append(row | {key: value for key, value in short.items() if value is not None})
        return rows


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """Everything that is there.

    Attributes:
        rows: list of `Row`. calibrations: {dataset: {tasks.HELD_OUT or tasks.NOISE: what `tfvae.evaluate` wrote}}.
    """

    rows: list
    calibrations: dict

    def of(self, experiments):
        """The rows of some experiments."""
        return [row for row in self.rows if row.experiment in experiments]


def score_of(scores, name):
    """(mean, spread or None) from what `tfvae.evaluate` wrote, or None where it has none or the score is not defined."""
    values = (scores or {}).get("scores", {})
    found = records.value_of(values, name)
    return None if found is None or found["mean"] is None else (found["mean"], found["std"])


def read(study, sizes):
    """`Found`. sizes: of `sizes.of_experiments`."""
    rows, limits = [], {dataset: _limits(study, dataset) for dataset in study.datasets}
    for one in study.experiments:
        for prior in ["normal"] + ["gmm"] * study.with_mixture(one):
            rows.append(_row(study, one, prior, sizes.get(one.folder, {}), limits[one.dataset]))
    calibrations = {}
    for dataset in study.datasets:
        if study.extractor_is_there(dataset):
            scores = {
                part: _scores(study, dataset, study.resolution(dataset), study.calibration_file, dataset, part)
                for part in (tasks.HELD_OUT, tasks.NOISE)
            }
            calibrations[dataset] = {part: found for part, found in scores.items() if found}
    return Found(rows, calibrations)


def _scores(study, dataset, resolution, file_of, *place):
    """What `tfvae.evaluate` wrote by the study's extractor, with those scores that need one that knows the classes, or None."""
    found, *others = (
        tasks.read_scores(study, dataset, resolution, file_of(*place, kind), kind)
        if study.extractor_is_there(dataset, kind)
        else None
        for kind in study.kinds(dataset)
    )
    for other in filter(None, others if found else []):
        of_classes = {
            name: value
            for name, value in other["scores"].items()
            if records.KNOWN_CLASSES in getattr(records.find(name), "needs", ())
        }
        found = found | {"scores": of_classes | found["scores"], "classes_by": other["protocol"]["extractor"]}
    return found


def _limits(study, dataset):
    if not study.extractor_is_there(dataset):
        return {}
    file = study.calibration_file(dataset, tasks.SPOILT)
    found = tasks.read_scores(study, dataset, study.resolution(dataset), file)
    return calibration.blur_limits(found["rows"]) if found else {}


def _row(study, one, prior, size, limits):
    directory = run.RunDirectory(study.run_dir(one))
    record = runner.read_record(study.record_file(study.run_name(one)))
    scores, exhibits = None, {}
    if study.extractor_is_there(one.dataset):
        scores = _scores(study, one.dataset, one.settings.resolution, study.score_file, one, prior)
        file = study.exhibits_file(one)
        if file.is_file():
            with np.load(file) as arrays:
                exhibits = dict(arrays)
    curve = [json.loads(line) for line, _ in directory.points()]
    config = identity.read_json(directory.config_file) or {}
    seen = tasks.trained_images(study, one)
    reason = _reason(study, one, record, seen) if scores is None or "failed" in record else ""
    num_train = config.get("data", {}).get("num_images")
    conditional = config.get("flags", {}).get("conditional", one.settings.conditional)
    return Row(one, prior, scores, reason, record, size, seen, curve, num_train, conditional, exhibits, limits)


def _reason(study, one, record, seen):
    before = runner.read_record(study.record_file(tasks.preparation_name(study, one.dataset)))
    for failed in (found["failed"] for found in (record, before) if "failed" in found):
        at = f" at {seen:,} images" if seen and failed["step"] == "training" else ""
        return f"{failed['step']} failed{at}: {failed['line']}"
    if seen != one.total_images:
        return f"trained to {seen:,} of {one.total_images:,} images so far" if seen else "not run"
    if not study.extractor_is_there(one.dataset):
        return "trained, not scored: no extractor"
    return "trained, not scored yet"

"""A run's folder: what lies in it, how it is held, begun and loaded."""

import contextlib
import dataclasses
import json
import os
import shutil
from pathlib import Path

import keras
import tensorflow as tf

from tfvae.command import UserError, write_whole
from tfvae.config import PLACES, Config, colour
from tfvae.data import datasets
from tfvae.drawing.model import BATCH, of_objective
from tfvae.networks import tables
from tfvae.training import build, lock, store

# Of config.json. A run without one is of format 0. Since format 2 checkpoints count the images (see `store`).
FORMAT = 2


def of_its_time(flags, format):
    """The flags of an older run, with the values of its time where this version has another default or rule.

    The one place that knows them: a change that older runs would notice adds its lines here, 1 to `FORMAT`, and a stored run to
    the tests.

    Args:
        flags: {field: value}, as config.json holds them. format: of that file.

    Returns:
        {field: value}.
    """
    if format < 1:
        fields = {field.name: field for field in dataclasses.fields(Config)}
        # --background is white, its default, though transparent images were trained on with the colours that lay hidden under
        # them, which no value of it gives. No others notice; such a run in memory is not resumed, for its pixels have changed.
        # The only head that there was, and no flag for it.
        flags = flags | {"encoder_head": "pool"}
        # Flags of other objectives were ignored, whatever their value; now they are errors.
        flags = {
            name: value
            for name, value in flags.items()
            if name not in fields
            or not fields[name].metadata["objectives"]
            or flags["objective"] in fields[name].metadata["objectives"]
        }
        # A side that neither network has means no non-local block, which is 0 now. A side that one network alone has gave that
        # network the block, and still does.
        if not any(flags["attention_resolution"] in sides for sides in tables.attention_sides(flags["resolution"])):
            flags["attention_resolution"] = 0
    return flags


class RunDirectory:
    """`<model_dir>/`: config.json, checkpoints/, best/, logs/, samples/, metrics.jsonl; while it trains, .lock.

    And best_by_…/, what `best` was before scores by another extractor took its place.

    Attributes:
        trained: whether this process has done a step of the run.

    Args:
        path: the folder; made when the first thing is written.
    """

    def __init__(self, path):
        self.trained = False
        self._before = None  # what was in the folder when `begin` wrote into it
        self._old_config = None  # config.json then, bytes
        self._changed = {}  # flags that this training changes: {name: [old, new]}
        self.path = Path(path)
        self.config_file = self.path / "config.json"
        self.checkpoints = self.path / "checkpoints"
        self.best = self.path / "best"
        self.logs = self.path / "logs"
        self.samples = self.path / "samples"
        self.metrics = self.path / "metrics.jsonl"
        # What a training makes.
        self.parts = (self.checkpoints, self.best, self.logs, self.samples, self.metrics, self.config_file)

    @contextlib.contextmanager
    def held(self):
        """Holds the folder, made if absent, for one training. A new run that fails before its first step leaves nothing.

        Raises:
            UserError: another process trains there, or the folder cannot be written.
        """
        made = [path for path in (self.path, *self.path.parents) if not os.path.lexists(path)]
        with contextlib.ExitStack() as stack:
            stack.callback(_remove_empty, made)
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                stack.enter_context(lock.held(self.path / ".lock"))
            except OSError as error:
                reason = "a file is there" if isinstance(error, FileExistsError) else error.strerror
                raise UserError(
                    f"--model_dir={self.path}: no run can be written there ({reason}). Expected a folder that this "
                    "process may write to, or a place for one."
                ) from error
            try:
                yield
            except BaseException:
                if not self.trained:
                    self._withdraw()
                raise

    def _withdraw(self):
        """Deletes what was made here since `begin`, and takes back a change of flags under which no step was done."""
        for part in self.parts if self._before is not None else ():
            if part.name not in self._before:
                shutil.rmtree(part) if part.is_dir() else part.unlink(missing_ok=True)
        if self._changed and self._old_config is not None:
            write_whole(self.config_file, self._old_config)

    def read_config(self):
        """(Config, facts of the data: `num_classes`, `class_names`, `num_images`); errors as `read_record`'s."""
        record, config = self.read_record()
        return config, record["data"]

    def read_record(self):
        """(what config.json holds, a dict; the `Config` of its flags).

        Beside `flags` and `data`: `init`, what another run gave to this one (see `initial`), and `history`, a list of
        {"images": seen when it happened, "changed": {flag: [old, new]}}.

        Raises:
            UserError: no run is there, or its config.json is not one of this version's.
        """
        if not self.config_file.is_file():
            raise UserError(
                f"{self.path} holds no model: expected {self.config_file}. Train one with python -m tfvae.train."
            )
        try:
            record = json.loads(self.config_file.read_text())
            if not _is_record(record):
                raise ValueError("it holds no flags and data of a run")
            format = record.get("format", 0)
            if format > FORMAT:
                raise UserError(
                    f"{self.config_file} is of format {format}, from a newer version of tfvae: expected {FORMAT} or less. "
                    "Use that version."
                )
            values = {k: tuple(v) if isinstance(v, list) else v for k, v in record["flags"].items()}
            config = Config(**of_its_time(values, format) | {"model_dir": str(self.path)})
            known = record["data"] | {"resolution": config.resolution}
            missing = [
                name for name in ("resolution", "num_classes", "class_names", "num_images") if known.get(name) is None
            ]
            if missing:
                raise ValueError(f"without {' and '.join(missing)}")
            return record, config
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self.config_file} cannot be read ({error}): expected the file that tfvae.train wrote."
            ) from error

    def begin(self, config, split, overwrite, allowed=(), init=None):
        """Writes config.json, or checks that the run that is there has the same flags.

        Where it has others and they may change, config.json waits for `change_flags`.

        Args:
            config: resolved. split: the training split. overwrite: delete the run that is there.
            allowed: names of flags that may change in the run that is there. init: of a new run, as `initial.give` returns it.

        Raises:
            UserError: another run is there. ValueError: a new run would get the non-local block in one network alone.
        """
        data = {
            "num_classes": split.num_classes,
            "class_names": list(split.class_names),
            "num_images": split.num_images,
            "fingerprints": split.fingerprints,
        }
        if overwrite or not self.config_file.exists():
            tables.check_attention(config.resolution, config.attention_resolution)
        if overwrite and self.config_file.exists():
            self._delete()
        traces = self._traces()
        if traces and not self.config_file.exists():
            raise UserError(
                f"{self.path} holds {traces} and no config.json to tell what they are of: expected both or neither. Give "
                "another --model_dir, or put the file back."
            )
        old_record, self._changed = {}, {}
        if self.config_file.exists():
            old_record, old = self.read_record()
            self._check_same(old, old_record["data"], config, split, data, allowed)
            data["fingerprints"] = old_record["data"].get("fingerprints", {}) | data["fingerprints"]
            init = init or old_record.get("init")
        if traces and not store.stored_in_part(self.checkpoints):
            raise UserError(
                f"{self.path} was trained before, and there is no checkpoint to go on from: expected one in "
                f"{self.checkpoints}. Put its files back, or begin a run in another --model_dir."
            )
        for left_over in (*store.left_overs(self.checkpoints), *store.left_overs(self.best), *self._left_overs()):
            store.delete(left_over)
        self._before = set(os.listdir(self.path)) if self.path.exists() else set()
        self._old_config = self.config_file.read_bytes() if old_record else None
        self._record = {
            "format": FORMAT,
            "flags": dataclasses.asdict(config),
            "data": data,
            "versions": {"tensorflow": tf.__version__, "keras": keras.__version__},
            "init": init,
            "history": old_record.get("history", []),
        }
        if not self._changed:
            self._write_config()

    def _write_config(self):
        write_whole(self.config_file, json.dumps(self._record, indent=2) + "\n")

    def change_flags(self, images_seen):
        """Writes the flags that `begin` let change, with the images seen when it happened. Returns {name: [old, new]}."""
        if self._changed:
            self._record["history"].append({"images": images_seen, "changed": self._changed})
            self._write_config()
        return self._changed

    def _check_same(self, old, old_data, config, split, data, allowed):
        """Raises a UserError where the run that is there has other data, or other flags than those `allowed` to change.

        Args:
            old, old_data: of that run. config, split, data, allowed: as in `begin`.
        """
        same_data = _is_of(split, old_data)
        free = {field.name for field in dataclasses.fields(Config) if field.metadata["free"]}
        if config.learning_rate_decay_images:
            free -= {"train_images"}  # where the decay ends
        fields = [
            field
            for field in dataclasses.fields(Config)
            if field.name not in free and not _agree(field.name, old, config, same_data)
        ]
        changed = {field.name: [getattr(old, field.name), getattr(config, field.name)] for field in fields}
        refused = {name: values for name, values in changed.items() if name not in allowed}
        lines = [f"--{name} was {was!r}, is {new!r}" for name, (was, new) in refused.items()]
        names = ("num_classes", "class_names", "num_images")
        other_data = [f"the data's {name} changed" for name in names if data[name] != old_data.get(name)]
        other_data += [] if same_data else ["the data's fingerprint changed"]
        if lines or other_data:
            mend = f"--allow_changed_flags={','.join(changed)} goes on with those changed; give another --model_dir for a new run"
            if other_data or any(field.metadata["fixed"] for field in fields):
                mend = f"--init_from={self.path} starts a new run from its weights, in another --model_dir"
            raise UserError(
                f"{self.path} was made with other flags or data: {'; '.join(lines + other_data)}. Expected the same to resume "
                f"it; {mend}, or --overwrite to delete it and start anew."
            )
        self._changed = changed

    def _delete(self):
        """Deletes the run. Raises: UserError: the folder's config.json is not of a run of this project."""
        try:
            ours = _is_record(json.loads(self.config_file.read_text()))
        except ValueError:
            ours = False
        if not ours:
            raise UserError(
                f"{self.config_file} is not a file that tfvae.train wrote whole, so nothing in {self.path} was deleted: give "
                "another --model_dir."
            )
        # Checkpoints first and config.json last: cut short, what is left is still refused under other flags.
        earlier = self.path.glob("best_by_*")  # by other extractors
        for old in (self.checkpoints, self.best, *earlier, self.logs, self.samples, self.path / "sheets"):
            if old.exists():
                shutil.rmtree(old)
        # Scores too: they would pass for the new run's.
        for old in (*self.path.glob("scores*.json"), self.metrics, self.config_file):
            old.unlink(missing_ok=True)

    def _left_overs(self):
        """Files that a training was writing when it was killed."""
        patterns = (".config.json.*.tmp", ".metrics.jsonl.*.tmp", "samples/.*.tmp")
        return [path for pattern in patterns for path in self.path.glob(pattern)]

    def _traces(self):
        """What shows that a run was trained in this folder: words, or None."""
        for folder in (self.checkpoints, self.best):
            if store.has_traces(folder):
                return "checkpoints"
        points = [images for _, images in self.points() if images]
        return f"curves up to {max(points):,} images" if points else None

    def points(self):
        """The lines of metrics.jsonl that are whole, as (line, images seen): a list, empty without the file."""
        lines = self.metrics.read_text(errors="replace").splitlines() if self.metrics.is_file() else []
        found = []
        for line in lines:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                found.append((line, int(json.loads(line)["images"])))
        return found


def _is_of(split, data):
    """Whether a split holds the images that config.json's facts of the data are of, in memory or streamed, here or elsewhere."""
    if "fingerprint" in data:  # of format 0
        return data["fingerprint"] == split.fingerprint_of_format_0
    return bool(split.fingerprints.items() & data.get("fingerprints", {}).items())


def _agree(name, old, new, same_data):
    """Whether two configurations have the same in a field, however it is spelled; of the same data, wherever its folder lies."""
    values = getattr(old, name), getattr(new, name)
    if name == "dataset" and same_data and all(datasets.record(value).folder is not None for value in values):
        return True
    if name == "background":
        return colour(values[0]) == colour(values[1])
    return values[0] == values[1]


def _is_record(record):
    """Whether the content of a config.json is that of a run: its flags and its data."""
    return isinstance(record, dict) and all(isinstance(record.get(name), dict) for name in ("flags", "data"))


def _remove_empty(folders):
    with contextlib.suppress(OSError):  # what holds something stays, and so do those around it
        for folder in folders:
            folder.rmdir()


def load(model_dir, best=False):
    """A trained model, ready for use: (Config, facts of the data, Objective).

    Args:
        best: the checkpoint that scored best while training, not the newest.

    Raises:
        UserError: no run, or no checkpoint that can be read.
    """
    directory = RunDirectory(model_dir)
    config, data = directory.read_config()
    keras.config.set_dtype_policy(config.precision)
    model = build.make_objective(config, data["num_classes"])
    if store.restore_newest(directory.best if best else directory.checkpoints, model, least=1) is None:
        if best:
            raise UserError(
                f"{directory.best} holds no checkpoint: train with --eval_every_images to have the best one kept."
            )
        raise UserError(
            f"{directory.checkpoints} holds no checkpoint of a trained model yet. Train with python -m tfvae.train first."
        )
    return config, data, model


def facts_of_weights(config, objective, ema=True):
    """Which weights a model draws and encodes with: a dict of `weights` and, with an encoder, `encoder_weights`.

    Args:
        config: the run's. objective: restored from a checkpoint. ema: with the moving averages, whose batch-norm statistics were
            measured before they were saved; else with the last weights.
    """
    # An average whose decay is 0, or which has not started yet, is a copy of the last weights.
    averaged = ema and config.ema_decay > 0 and objective.images_seen > config.ema_start_images
    names = {True: "moving average", False: "of the last step"}
    facts = {"weights": names[averaged] + (", batch-norm statistics measured anew" if ema else "")}
    if objective.encode:
        facts["encoder_weights"] = names[averaged and objective.encoder_average_restored]
    return facts


def load_run(model_dir, ema=True, best=False, replica_batch=BATCH):
    """The drawing model of a run of `tfvae.train`; call it in the strategy's scope.

    Args:
        ema: with the moving averages of the weights; else with the last weights, of both networks.
        best: the checkpoint that scored best while training, not the newest.
        replica_batch: images that each replica draws or encodes at once.

    Returns:
        `Model`.

    Raises:
        UserError: no run, or no checkpoint that can be read.
    """
    config, _, objective = load(model_dir, best=best)
    facts = {
        "flags": {name: value for name, value in vars(config).items() if name not in PLACES},
        **facts_of_weights(config, objective, ema),
        "ema": ema,
        "checkpoint": "best" if best else "newest",
        "checkpoint_name": f"ckpt-{objective.images_seen}",
        "images_seen": objective.images_seen,
    }
    return of_objective(objective, Path(model_dir), vars(config), facts, ema, replica_batch)

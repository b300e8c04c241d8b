"""Which versions of which models are in memory: found on disk, loaded, handed to requests, and released after their last one."""

import contextlib
import dataclasses
import gc
import threading
import time

from tfvae.command import numbered_folders
from tfvae.endpoint.settings import wanted_versions
from tfvae.endpoint.statuses import ServingError, invalid

RETRY_SECONDS = 10.0  # until a version that failed to load is tried again, for it may have been half-written


@dataclasses.dataclass
class Version:
    """A version and what became of it."""

    state: str = "LOADING"  # later AVAILABLE, UNLOADING, END
    error: ServingError | None = None  # why it ended without having been available
    tried: float = dataclasses.field(default_factory=time.monotonic)  # when it was loaded, seconds
    servable: object = None  # what serves it, while it does
    requests: int = 0  # how many use it now


class Versions:
    """Every version of every model, for any number of threads.

    Args:
        models: {name: ModelConfig}; may be replaced, for the next `poll`. load: a function of a version's folder to its
            `Servable`; raises `ServingError`. say: function that shows the operator a line.
    """

    def __init__(self, models, load, say):
        self.models, self._load, self._say = models, load, say
        self.stopping = threading.Event()  # once it is set, nothing more is loaded
        self._versions = {}  # {model: {number: Version}}
        self._lock = threading.RLock()
        self._said = {}  # {model or version: the last line about it}

    @contextlib.contextmanager
    def borrow(self, spec):
        """(number, `Servable`) of the version that a ModelSpec means, which stays until the end. Raises: ServingError."""
        with self._lock:
            found = {number: version for number, version in self.find(spec).items() if version.state == "AVAILABLE"}
            if not found:
                raise ServingError("NOT_FOUND", f"model {spec.name} has no such version that is AVAILABLE")
            number, version = next(iter(found.items()))
            version.requests += 1
        try:
            yield number, version.servable
        finally:
            with self._lock:
                version.requests -= 1

    def find(self, spec):
        """{number: Version}, newest first: what a ModelSpec names by number or by label, or all. Raises: ServingError."""
        if not spec.name:
            raise invalid("the model's name is missing")
        choice, number = spec.WhichOneof("version_choice"), spec.version.value
        if choice == "version_label":
            labels = getattr(self.models.get(spec.name), "version_labels", {})
            if spec.version_label not in labels:
                raise invalid(f"model {spec.name} has no version label {spec.version_label!r}")
            number = labels[spec.version_label]
        with self._lock:
            versions = sorted(self._versions.get(spec.name, {}).items(), reverse=True)
        found = {key: version for key, version in versions if choice is None or key == number}
        if not found:
            raise ServingError("NOT_FOUND", f"model {spec.name} has no such version")
        return found

    def poll(self):
        """Loads what the folders have new, then releases what is no longer wanted: one round, by one thread at a time."""
        for name in self.models | self._versions:
            wanted, versions = self._wanted(name), self._versions.setdefault(name, {})
            if wanted is None:
                continue
            for number, path in wanted.items():
                if not self.stopping.is_set():
                    self._follow(name, number, path)
            # Only once another version has taken over, unless none is wanted at all.
            replaced = not wanted or any(
                versions[number].state == "AVAILABLE" for number in wanted if number in versions
            )
            for number, version in sorted(versions.items()):
                if replaced and number not in wanted and version.state == "AVAILABLE":
                    with self._lock:
                        version.state = "UNLOADING"  # hidden from new requests
                if version.state == "UNLOADING" and not version.requests:
                    version.servable.close()
                    version.servable, version.state = None, "END"
                    gc.collect()  # a graph is full of cycles, and of the size of its model
                    self._tell(f"{name} version {number}", "released")

    def _wanted(self, name):
        """{number: folder} of a model's versions to serve; None: unknown, so what is served stays, as in TF Serving."""
        if name not in self.models:
            return {}
        config = self.models[name]
        try:
            found = numbered_folders(config.base_path)
        except OSError as error:
            self._tell(name, f"{config.base_path} cannot be read ({error.strerror or error})")
            return None
        wanted = wanted_versions(config, found)
        if not wanted:
            self._tell(name, f"no version to serve in {config.base_path} yet")
        return {number: found[number] for number in wanted}

    def _follow(self, name, number, path):
        """Loads a version that is on disk, unless it is in memory or failed a short while ago."""
        before = self._versions[name].get(number)
        if before and (before.state != "END" or (before.error and time.monotonic() < before.tried + RETRY_SECONDS)):
            return
        version = Version()
        with self._lock:
            self._versions[name][number] = version
        try:
            version.servable = self._load(path)
        except Exception as error:  # whatever it is, it must not take the other versions with it
            version.error = error if isinstance(error, ServingError) else ServingError("INTERNAL", repr(error))
        version.state = "END" if version.error else "AVAILABLE"
        result = f"not loaded, {version.error.code}: {version.error}" if version.error else "AVAILABLE"
        self._tell(f"{name} version {number}", result)

    def _tell(self, topic, line):
        """Says a line about a model or a version, unless it was the last one about it: not at every round."""
        if self._said.get(topic) != line:
            self._said[topic] = line
            self._say(f"{topic}: {line}")

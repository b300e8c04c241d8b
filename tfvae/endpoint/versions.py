"""Which versions of which models are in memory: found on disk, loaded, handed to requests, and released after their last one."""

import contextlib
import dataclasses
import gc
import re
import threading
import traceback

from tfvae.endpoint.servable import Servable
from tfvae.endpoint.statuses import ServingError, invalid


@dataclasses.dataclass
class Version:
    """A version and what became of it.

    Args:
        state: START, LOADING, AVAILABLE, UNLOADING or END. error: the `ServingError` that kept it from loading.
        servable: what serves it, while it does. requests: how many hold it now. files: what the folder held when it
            failed to load.
    """

    state: str = "START"
    error: ServingError | None = None
    servable: object = None
    requests: int = 0
    files: frozenset = frozenset()


class Versions:
    """Every version of every model, for any number of threads.

    Args:
        models: {name: settings.Model}. load: a function (folder, name of the model) -> a ready `Servable`; raises
            `ServingError`. say: what to do with a line for the operator.
    """

    def __init__(self, models, load, say):
        self._models, self._load, self._say = models, load, say
        self._versions = {}  # {model: {number: Version}}
        self._lock = threading.Lock()
        self._stopping = False
        self._told = {}  # {model: the last thing said of its folder}

    def knows(self, name):
        """Whether a model is one of those to serve."""
        return name in self._models

    def replace_models(self, models):
        """Serves these from the next `poll` on."""
        self._models = models

    # For requests.

    @contextlib.contextmanager
    def borrow(self, spec):
        """(number of the version, `Servable`) that a ModelSpec asks for, which stays while the context lasts.

        Raises:
            ServingError: there is none.
        """
        number, version = self._find(spec)
        try:
            yield number, version.servable
        finally:
            with self._lock:
                version.requests -= 1
                last = version.state == "UNLOADING" and not version.requests
            if last:
                self._close(spec.name, number, version)

    def _find(self, spec):
        number = self._number(spec)
        with self._lock:
            available = [
                key for key, version in self._versions.get(spec.name, {}).items() if version.state == "AVAILABLE"
            ]
            if number is None and available:
                number = max(available)
            if number not in available:
                wanted = f"Latest({spec.name})" if number is None else f"Specific({spec.name}, {number})"
                raise ServingError("NOT_FOUND", f"Servable not found for request: {wanted}")
            version = self._versions[spec.name][number]
            version.requests += 1
            return number, version

    def _number(self, spec):
        """The version that a ModelSpec names, by number or by label; None: the latest."""
        choice = spec.WhichOneof("version_choice")
        if choice == "version":
            return spec.version.value
        if choice == "version_label":
            model = self._models.get(spec.name)
            if model is None or spec.version_label not in model.labels:
                raise invalid(f"Unrecognized servable version label: {spec.version_label}")
            return model.labels[spec.version_label]
        return None

    def states(self, spec):
        """[(number, state, error or None)], newest first: of the version that a ModelSpec names, or of all.

        Raises:
            ServingError: there is none.
        """
        number = self._number(spec)
        with self._lock:
            versions = self._versions.get(spec.name, {})
            if number is not None and number not in versions:
                raise ServingError("NOT_FOUND", f"Could not find version {number} of model {spec.name}")
            if not versions:
                raise ServingError("NOT_FOUND", f"Could not find any versions of model {spec.name}")
            keys = sorted(versions, reverse=True) if number is None else [number]
            return [(key, versions[key].state, versions[key].error) for key in keys]

    # For the one thread that follows the folders.

    def poll(self):
        """Loads what the folders have new, then releases what is no longer wanted: one round."""
        for name in list(self._models | self._versions):
            if self._stopping:
                return
            wanted = []
            if name in self._models:
                try:
                    found = folders(self._models[name].base_path)
                except OSError as error:
                    # As in TF Serving: what is served stays, whatever befalls the disk.
                    self._tell(
                        name, f"{name}: {self._models[name].base_path} cannot be read ({error.strerror or error})"
                    )
                    continue
                wanted = self._models[name].wanted(found)
                if not wanted:
                    self._tell(name, f"{name}: no version in {self._models[name].base_path} yet")
            versions = self._versions.setdefault(name, {})
            for number in wanted:
                self._follow(name, number, found[number])
            available = [number for number in wanted if versions[number].state == "AVAILABLE"]
            # Only once another version has taken over, unless none is wanted at all.
            if available or not wanted:
                for number in sorted(set(versions) - set(wanted)):
                    self._release(name, number)

    def _follow(self, name, number, path):
        """Loads a version that is on disk, unless it is in memory or its files are those that failed before."""
        versions = self._versions[name]
        version = versions.get(number)
        if self._stopping or (version and version.state != "END"):
            return
        files = contents(path)
        if version and version.error and version.files == files:
            return
        version = Version(state="LOADING", files=files)
        with self._lock:
            versions[number] = version
        servable, error = None, None
        try:
            servable = self._load(path, name)
        except ServingError as raised:
            error = raised
        except Exception as raised:  # whatever it is, it must not take the other versions with it
            traceback.print_exc()
            error = ServingError("INTERNAL", f"{type(raised).__name__}: {' '.join(str(raised).split())}")
        with self._lock:
            version.servable, version.error, version.state = servable, error, "END" if error else "AVAILABLE"
        said = f"not loaded, {error.code}: {error.message}" if error else "AVAILABLE"
        self._say(f"{name} version {number}: {said}")
        self._told.pop(name, None)

    def _release(self, name, number):
        """Hides a version from new requests, and closes it when the last one that holds it is done."""
        version = self._versions[name][number]
        with self._lock:
            if version.state != "AVAILABLE":
                return
            version.state = "UNLOADING"
            idle = not version.requests
        if idle:
            self._close(name, number, version)

    def _close(self, name, number, version):
        version.servable.close()
        with self._lock:
            version.servable, version.state = None, "END"
        gc.collect()  # a graph is full of cycles, and of the size of its model
        self._say(f"{name} version {number}: released")

    def _tell(self, name, line):
        """Says a line once, not at every round."""
        if self._told.get(name) != line:
            self._told[name] = line
            self._say(line)

    def stop(self):
        """Loads nothing from now on."""
        self._stopping = True

    def close(self):
        """Releases everything; no request may run."""
        for name, versions in self._versions.items():
            for number in versions:
                self._release(name, number)


def folders(base_path):
    """{number: folder} of the versions under a model's folder. Raises: OSError."""
    found = {}
    for path in sorted(base_path.iterdir()):
        if re.fullmatch("[0-9]+", path.name) and int(path.name) < 1 << 63 and path.is_dir():
            found.setdefault(int(path.name), path)  # 7 and 007 are one version: the first is taken
    return found


def contents(path):
    """What a folder holds: names, sizes and times of its files. A folder that changes meanwhile gives some of them."""
    found = set()
    for file in path.rglob("*"):
        with contextlib.suppress(OSError):
            status = file.stat()
            found.add((str(file.relative_to(path)), status.st_size, status.st_mtime_ns))
    return frozenset(found)


def loader(batching, metrics):
    """The function that `Versions` loads with: a `Servable`, warmed up."""

    def load(path, name):
        servable = Servable(path, name, batching, metrics)
        try:
            servable.warm_up()
        except BaseException:
            servable.close()
            raise
        return servable

    return load

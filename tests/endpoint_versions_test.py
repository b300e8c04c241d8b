"""Which versions are in memory and which one a request gets, with loading replaced; TF Serving's rules."""

import threading
import time

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from tfvae.endpoint import versions as endpoint_versions
from tfvae.endpoint.requests import model_spec
from tfvae.endpoint.statuses import ServingError
from tfvae.endpoint.versions import Versions


class Loaded:
    """Stands for a loaded version."""

    def __init__(self, path):
        self.path, self.closed = path, 0

    def close(self):
        self.closed += 1


class Served:
    """A model `gan` in a folder. bad: {number: what its loading raises}."""

    def __init__(self, folder):
        self.folder, self.bad, self.said, self.loaded = folder / "gan", {}, [], []
        self.folder.mkdir()

    def load(self, path):
        if int(path.name) in self.bad:
            raise self.bad[int(path.name)]
        self.loaded.append(Loaded(path))
        return self.loaded[-1]

    def put(self, *numbers):
        for number in numbers:
            (self.folder / str(number)).mkdir()

    def config(self, text=""):
        """{name: ModelConfig}."""
        return {"gan": text_format.Parse(f"{text} base_path: '{self.folder}'", model_server_config_pb2.ModelConfig())}

    def versions(self, text=""):
        return Versions(self.config(text), self.load, self.said.append)


@pytest.fixture
def served(tmp_path, monkeypatch):
    # A tenth of a second each time, where nothing is to be collected.
    monkeypatch.setattr(endpoint_versions.gc, "collect", lambda: None)
    return Served(tmp_path)


def states(versions):
    return {number: version.state for number, version in versions.find(model_spec("gan")).items()}


def number_for(versions, spec):
    with versions.borrow(spec) as (number, _):
        return number


def test_the_latest_version_is_served_and_folders_without_a_number_are_not_versions(served):
    served.put(2, 10, ".tmp-11", "012x", 2**63)
    (served.folder / "99").write_text("a file")
    versions = served.versions()
    versions.poll()
    assert states(versions) == {10: "AVAILABLE"}
    assert number_for(versions, model_spec("gan")) == 10
    assert served.said == ["gan version 10: AVAILABLE"]
    served.put(2**63 - 1)  # the largest that TF Serving reads
    versions.poll()
    assert number_for(versions, model_spec("gan")) == 2**63 - 1


def test_a_new_version_takes_over_and_the_old_one_is_closed_after_its_last_request(served):
    served.put(1)
    versions = served.versions()
    versions.poll()
    with versions.borrow(model_spec("gan")) as (number, old):
        served.put(2)
        versions.poll()
        assert states(versions) == {2: "AVAILABLE", 1: "UNLOADING"}
        assert (number, old.closed) == (1, 0)
        assert number_for(versions, model_spec("gan")) == 2
        with pytest.raises(ServingError, match="model gan has no such version that is AVAILABLE"):
            number_for(versions, model_spec("gan", 1))
    versions.poll()
    assert old.closed == 1
    assert states(versions) == {2: "AVAILABLE", 1: "END"}
    versions.poll()
    assert old.closed == 1


@pytest.mark.parametrize(
    ("raised", "code"), [(ServingError("DATA_LOSS", "it is bad"), "DATA_LOSS"), (KeyError("it is bad"), "INTERNAL")]
)
def test_a_bad_version_leaves_the_good_one_and_its_error_is_in_the_status(served, raised, code):
    served.put(1)
    versions = served.versions()
    versions.poll()
    served.bad[2] = raised
    served.put(2)
    versions.poll()
    assert states(versions) == {2: "END", 1: "AVAILABLE"}
    assert number_for(versions, model_spec("gan")) == 1
    version = versions.find(model_spec("gan", 2))[2]
    assert version.state == "END" and version.error.code == code and "it is bad" in version.error.message
    assert served.said[-1].startswith(f"gan version 2: not loaded, {code}: ")


def test_a_bad_version_is_tried_again_a_while_later(served, monkeypatch):
    served.put(1)
    served.bad[1] = ServingError("DATA_LOSS", "half-written")
    versions = served.versions()
    versions.poll()
    del served.bad[1]
    versions.poll()
    assert states(versions) == {1: "END"}
    monkeypatch.setattr(endpoint_versions, "RETRY_SECONDS", 0.0)
    versions.poll()
    assert states(versions) == {1: "AVAILABLE"}


def test_removing_the_newest_folder_goes_back_and_removing_all_stops(served):
    served.put(1, 2)
    versions = served.versions()
    versions.poll()
    (served.folder / "2").rmdir()
    versions.poll()
    assert states(versions) == {2: "END", 1: "AVAILABLE"}
    (served.folder / "1").rmdir()
    versions.poll()
    assert states(versions) == {2: "END", 1: "END"}
    assert [loaded.closed for loaded in served.loaded] == [1, 1]


def test_a_folder_that_cannot_be_read_changes_nothing_and_is_said_once(served, tmp_path):
    served.put(1)
    versions = served.versions()
    versions.poll()
    served.folder.rename(tmp_path / "elsewhere")
    versions.poll()
    versions.poll()
    assert states(versions) == {1: "AVAILABLE"}
    assert len([line for line in served.said if "cannot be read" in line]) == 1


def test_a_folder_without_versions_is_said_once(served):
    versions = served.versions()
    versions.poll()
    versions.poll()
    assert served.said == [f"gan: no version to serve in {served.folder} yet"]
    served.put(1)
    versions.poll()
    assert served.said[1:] == ["gan version 1: AVAILABLE"]


def test_all_and_specific_versions_are_served_together_and_by_label(served):
    served.put(1, 2, 3)
    labels = "version_labels { key: 'stable' value: 1 } version_labels { key: 'old' value: 2 }"
    versions = served.versions(f"model_version_policy {{ specific {{ versions: 1 versions: 3 }} }} {labels}")
    versions.poll()
    assert states(versions) == {3: "AVAILABLE", 1: "AVAILABLE"}
    assert number_for(versions, model_spec("gan")) == 3
    assert number_for(versions, model_spec("gan", 1)) == 1
    assert number_for(versions, model_spec("gan", label="stable")) == 1
    with pytest.raises(ServingError, match="model gan has no such version"):
        number_for(versions, model_spec("gan", label="old"))
    with pytest.raises(ServingError, match="model gan has no version label 'new'") as raised:
        number_for(versions, model_spec("gan", label="new"))
    assert raised.value.code == "INVALID_ARGUMENT"


def test_another_config_changes_what_is_served(served):
    served.put(1, 2)
    versions = served.versions()
    versions.poll()
    versions.models = served.config("model_version_policy { specific { versions: 1 } }")
    versions.poll()
    assert states(versions) == {2: "END", 1: "AVAILABLE"}
    versions.models = {}
    versions.poll()
    assert states(versions) == {2: "END", 1: "END"}


def test_once_it_is_stopping_nothing_more_is_loaded(served):
    served.put(1)
    versions = served.versions()
    versions.stopping.set()
    versions.poll()
    assert served.loaded == []


@pytest.mark.parametrize("spec", [model_spec("vae"), model_spec("gan", 9)])
def test_what_is_not_there_has_no_state(served, spec):
    served.put(1)
    versions = served.versions()
    versions.poll()
    with pytest.raises(ServingError, match="has no such version") as raised:
        versions.find(spec)
    assert raised.value.code == "NOT_FOUND"


def test_no_request_is_lost_or_given_a_closed_version_while_versions_change(served):
    served.put(1)
    versions = served.versions()
    versions.poll()
    wrong, done = [], threading.Event()

    def request():
        while not done.is_set():
            with versions.borrow(model_spec("gan")) as (_, servable):
                time.sleep(0.001)
                if servable is None or servable.closed:
                    wrong.append(servable)

    threads = [threading.Thread(target=request) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(2, 12):
        served.put(number)
        versions.poll()
        time.sleep(0.005)
    done.set()
    for thread in threads:
        thread.join()
    versions.poll()
    assert not wrong
    assert [loaded.closed for loaded in served.loaded] == [1] * 10 + [0]
    versions.models = {}
    versions.poll()
    assert all(loaded.closed == 1 for loaded in served.loaded)

"""Which versions are in memory and which one a request gets, with loading replaced; TF Serving's rules."""

import threading
import time

import pytest

from tfvae.endpoint import settings
from tfvae.endpoint.requests import model_spec
from tfvae.endpoint.statuses import ServingError
from tfvae.endpoint.versions import Versions


class Loaded:
    """Stands for a loaded version."""

    def __init__(self, path):
        self.path, self.closed = path, 0

    def close(self):
        self.closed += 1


@pytest.fixture
def served(tmp_path):
    """A model `gan` in a folder, with the loader's refusals in `bad`: {number: code}."""

    class Served:
        folder = tmp_path / "gan"
        bad = {}
        said = []
        loaded = []

        def load(self, path, name):
            assert name == "gan"
            if int(path.name) in self.bad:
                raise ServingError(self.bad[int(path.name)], f"{path.name} is bad")
            self.loaded.append(Loaded(path))
            return self.loaded[-1]

        def put(self, *numbers):
            for number in numbers:
                (self.folder / str(number)).mkdir(parents=True)

        def versions(self, **model):
            self.folder.mkdir(exist_ok=True)
            return Versions({"gan": settings.Model("gan", self.folder, **model)}, self.load, self.said.append)

    served = Served()
    served.bad, served.said, served.loaded = {}, [], []
    return served


def states(versions):
    return {number: state for number, state, _ in versions.states(model_spec("gan"))}


def number_for(versions, spec):
    with versions.borrow(spec) as (number, _):
        return number


def test_the_latest_version_is_served_and_folders_without_a_number_are_not_versions(served):
    served.put(2, 10, ".tmp-11", "012x")
    (served.folder / "99").write_text("a file")
    versions = served.versions()
    versions.poll()
    assert states(versions) == {10: "AVAILABLE"}
    assert number_for(versions, model_spec("gan")) == 10
    assert served.said == ["gan version 10: AVAILABLE"]


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
        with pytest.raises(ServingError, match=r"Servable not found for request: Specific\(gan, 1\)"):
            number_for(versions, model_spec("gan", 1))
    assert old.closed == 1
    assert states(versions) == {2: "AVAILABLE", 1: "END"}
    versions.poll()
    assert old.closed == 1


def test_a_bad_version_leaves_the_good_one_and_its_error_stands_in_the_status(served):
    served.put(1)
    versions = served.versions()
    versions.poll()
    served.bad[2] = "DATA_LOSS"
    served.put(2)
    versions.poll()
    assert states(versions) == {2: "END", 1: "AVAILABLE"}
    assert number_for(versions, model_spec("gan")) == 1
    ((number, state, error),) = versions.states(model_spec("gan", 2))
    assert (number, state, error.code, error.message) == (2, "END", "DATA_LOSS", "2 is bad")
    assert served.said[-1] == "gan version 2: not loaded, DATA_LOSS: 2 is bad"


def test_a_bad_version_is_tried_again_only_when_its_files_change(served):
    served.put(1)
    served.bad[1] = "DATA_LOSS"
    versions = served.versions()
    versions.poll()
    del served.bad[1]
    versions.poll()
    assert states(versions) == {1: "END"}
    (served.folder / "1" / "variables").mkdir()
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
    served.folder.rmdir()
    versions.poll()
    versions.poll()
    assert len([line for line in served.said if "cannot be read" in line]) == 1


def test_all_and_specific_versions_are_served_together_and_by_label(served):
    served.put(1, 2, 3)
    versions = served.versions(policy="specific", versions=(1, 3), labels={"stable": 1, "old": 2})
    versions.poll()
    assert states(versions) == {3: "AVAILABLE", 1: "AVAILABLE"}
    assert number_for(versions, model_spec("gan")) == 3
    assert number_for(versions, model_spec("gan", 1)) == 1
    assert number_for(versions, model_spec("gan", label="stable")) == 1
    with pytest.raises(ServingError, match=r"Servable not found for request: Specific\(gan, 2\)"):
        number_for(versions, model_spec("gan", label="old"))
    with pytest.raises(ServingError, match="Unrecognized servable version label: new") as raised:
        number_for(versions, model_spec("gan", label="new"))
    assert raised.value.code == "INVALID_ARGUMENT"


def test_another_config_changes_what_is_served(served):
    served.put(1, 2)
    versions = served.versions()
    versions.poll()
    versions.replace_models({"gan": settings.Model("gan", served.folder, policy="specific", versions=(1,))})
    versions.poll()
    assert states(versions) == {2: "END", 1: "AVAILABLE"}
    versions.replace_models({})
    versions.poll()
    assert states(versions) == {2: "END", 1: "END"}


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (model_spec("vae"), "Could not find any versions of model vae"),
        (model_spec("gan", 9), "Could not find version 9 of model gan"),
    ],
)
def test_what_is_not_there_has_no_state(served, spec, text):
    served.put(1)
    versions = served.versions()
    versions.poll()
    with pytest.raises(ServingError, match=text) as raised:
        versions.states(spec)
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
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert [loaded.closed for loaded in served.loaded] == [1] * 10 + [0]
    versions.close()
    assert all(loaded.closed == 1 for loaded in served.loaded)

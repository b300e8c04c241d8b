"""models.config, the batching parameters, and which versions follow from them; the protos are the official ones."""

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from tfvae.command import UserError
from tfvae.endpoint import settings


def write_config(folder, **model):
    """A models.config with one model, written by the official proto."""
    config = model_server_config_pb2.ModelServerConfig()
    given = {"name": "gan", "base_path": "/models/gan", "model_platform": "tensorflow"} | model
    text_format.Parse(
        " ".join(f"{key}: {value!r}" for key, value in given.items() if key != "text") + given.get("text", ""),
        config.model_config_list.config.add(),
    )
    file = folder / "models.config"
    file.write_text(text_format.MessageToString(config))
    return file


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", [7]),
        ("model_version_policy { latest {} }", [7]),
        ("model_version_policy { latest { num_versions: 2 } }", [7, 5]),
        ("model_version_policy { all {} }", [7, 5, 2]),
        ("model_version_policy { specific { versions: 2 versions: 7 versions: 9 } }", [7, 2]),
    ],
)
def test_a_policy_picks_versions_from_those_on_disk(tmp_path, text, wanted):
    model = settings.read_models(write_config(tmp_path, text=text))["gan"]
    assert model.wanted({2: "", 5: "", 7: ""}) == wanted
    assert str(model.base_path) == "/models/gan"


def test_labels_are_read(tmp_path):
    file = write_config(tmp_path, text='version_labels { key: "stable" value: 5 }')
    assert settings.read_models(file)["gan"].labels == {"stable": 5}


@pytest.mark.parametrize(
    ("model", "text"),
    [
        ({"base_path": "models/gan"}, "base_path 'models/gan' is not absolute"),
        ({"model_platform": ""}, "model_platform is '', expected 'tensorflow'"),
        ({"name": ""}, "expected a name"),
    ],
)
def test_a_config_that_tf_serving_would_refuse_is_refused(tmp_path, model, text):
    with pytest.raises(UserError, match=text):
        settings.read_models(write_config(tmp_path, **model))


@pytest.mark.parametrize("text", ["model_config_list { config { nam: 'a' } }", "", "{"])
def test_a_broken_config_is_refused_in_one_sentence(tmp_path, text):
    (tmp_path / "models.config").write_text(text)
    with pytest.raises(UserError, match="models.config"):
        settings.read_models(tmp_path / "models.config")


def test_a_model_is_named_after_its_folder(tmp_path):
    (tmp_path / "gan" / "1").mkdir(parents=True)
    assert list(settings.single_model(tmp_path / "gan")) == ["gan"]
    assert list(settings.single_model(tmp_path / "gan", "other")) == ["other"]
    with pytest.raises(UserError, match="is not a folder"):
        settings.single_model(tmp_path / "vae")
    (tmp_path / "gan" / "1" / "saved_model.pb").write_bytes(b"")
    with pytest.raises(UserError, match="is itself a version: expected the folder above"):
        settings.single_model(tmp_path / "gan" / "1")


def test_batching_parameters_are_read_and_the_rest_keep_their_defaults(tmp_path):
    file = tmp_path / "batching.txt"
    file.write_text(
        "max_batch_size { value: 8 }\nbatch_timeout_micros { value: 0 }\nallowed_batch_sizes: 1\nallowed_batch_sizes: 8\n"
    )
    batching = settings.read_batching(file)
    assert (batching.max_batch_size, batching.batch_timeout_micros, batching.allowed_batch_sizes) == (8, 0, (1, 8))
    assert batching.max_enqueued_batches == settings.Batching().max_enqueued_batches


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "max_batch_size { value: 8 } allowed_batch_sizes: 4",
            "expected an increasing list whose last is max_batch_size, 8",
        ),
        ("max_batch_size { value: 8 } allowed_batch_sizes: 8 allowed_batch_sizes: 8", "expected an increasing list"),
        ("max_batch_size: 8", "some of max_batch_size"),
        ("num_batch_threads { value: 0 }", "num_batch_threads is 0: expected 1 or more"),
        ("pad_variable_length_inputs: true", "pad_variable_length_inputs"),
    ],
)
def test_bad_batching_parameters_are_refused(tmp_path, text, message):
    (tmp_path / "batching.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        settings.read_batching(tmp_path / "batching.txt")

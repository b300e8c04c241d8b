"""models.config, the batching parameters, and which versions follow from them; the protos are the official ones."""

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from tfvae.command import UserError
from tfvae.endpoint import settings


def write_config(folder, text="", platform="model_platform: 'tensorflow'", name="gan", base_path="/models/gan"):
    """A models.config with one model, written by the official proto."""
    config = model_server_config_pb2.ModelServerConfig()
    text = f"name: {name!r} base_path: {base_path!r} {platform} {text}"
    text_format.Parse(text, config.model_config_list.config.add())
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
    model = settings.read_models(write_config(tmp_path, text))["gan"]
    assert settings.wanted_versions(model, {2: "", 5: "", 7: ""}) == wanted
    assert model.base_path == "/models/gan"


def test_labels_are_read(tmp_path):
    file = write_config(tmp_path, 'version_labels { key: "stable" value: 5 }')
    assert settings.read_models(file)["gan"].version_labels == {"stable": 5}


def test_the_platform_may_be_given_in_the_old_form(tmp_path):
    assert list(settings.read_models(write_config(tmp_path, platform="model_type: TENSORFLOW"))) == ["gan"]


@pytest.mark.parametrize(
    "model",
    [
        {"base_path": "models/gan"},
        {"platform": ""},
        {"platform": "model_type: TENSORFLOW model_platform: 'other'"},
        {"name": ""},
    ],
)
def test_a_config_that_tf_serving_would_refuse_is_refused(tmp_path, model):
    with pytest.raises(UserError, match=f"model '{model.get('name', 'gan')}': expected a name that no other model has"):
        settings.read_models(write_config(tmp_path, **model))


def test_a_base_path_may_begin_at_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    file = write_config(tmp_path, base_path="~/published/a [2]")
    assert settings.read_models(file)["gan"].base_path == f"{tmp_path}/published/a [2]"


@pytest.mark.parametrize("url", ["gs://bucket/gan", "s3://bucket/gan", "file:///models/gan"])
def test_a_base_path_that_is_a_url_is_refused_in_one_line(url, tmp_path):
    file = write_config(tmp_path, base_path=url)
    with pytest.raises(UserError) as error:
        settings.read_models(file)
    assert str(error.value).startswith(
        f"--model_config_file={file}: base_path={url}: URLs are neither read nor written"
    )
    assert "\n" not in str(error.value)


def test_a_name_that_two_models_have_is_refused(tmp_path):
    file = tmp_path / "models.config"
    model = "config { name: 'gan' base_path: '/models/gan' model_platform: 'tensorflow' }"
    file.write_text(f"model_config_list {{ {model} {model} }}")
    with pytest.raises(UserError, match="model 'gan': expected a name that no other model has"):
        settings.read_models(file)


@pytest.mark.parametrize("text", ["model_config_list { config { nam: 'a' } }", "", "{"])
def test_a_broken_config_is_refused_in_one_sentence(tmp_path, text):
    (tmp_path / "models.config").write_text(text)
    with pytest.raises(UserError, match="models.config"):
        settings.read_models(tmp_path / "models.config")


def test_batching_parameters_are_read_and_the_rest_keep_their_defaults(tmp_path):
    file = tmp_path / "batching.txt"
    file.write_text(
        "max_batch_size { value: 8 }\nbatch_timeout_micros { value: 9 }\nallowed_batch_sizes: 1\nallowed_batch_sizes: 8\n"
    )
    given = {"max_batch_size": 8, "batch_timeout_micros": 9, "allowed_batch_sizes": [1, 8]}
    assert settings.read_batching(file) == settings.DEFAULT_BATCHING | given
    file.write_text("")
    assert settings.read_batching(file) == settings.DEFAULT_BATCHING


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "max_batch_size { value: 8 } allowed_batch_sizes: 4",
            ": allowed_batch_sizes: expected .* that rise to max_batch_size",
        ),
        (
            "max_batch_size { value: 8 } allowed_batch_sizes: 8 allowed_batch_sizes: 8",
            ": allowed_batch_sizes: expected",
        ),
        ("max_batch_size: 8", "expected a text BatchingParameters"),
        ("num_batch_threads { value: 0 }", ": num_batch_threads: expected 1 or more"),
        ("batch_timeout_micros { value: -1 }", ": batch_timeout_micros: expected"),
        ("pad_variable_length_inputs: true", "pad_variable_length_inputs"),
    ],
)
def test_bad_batching_parameters_are_refused(tmp_path, text, message):
    (tmp_path / "batching.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        settings.read_batching(tmp_path / "batching.txt")

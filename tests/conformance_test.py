"""What every network has in common, over one list of all of them."""

import importlib
import inspect
import pkgutil
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfvae.networks
from tfvae.networks import biggan, biggan_deep

NETWORKS = [biggan.Generator, biggan.Discriminator, biggan_deep.Generator, biggan_deep.Discriminator]
SIZES = dict(resolution=32, base_channels=8, latent_dim=16)


def name(network):
    return f"{network.__module__.rsplit('.', 1)[-1]}.{network.__name__}"


EVERY_NETWORK = pytest.mark.parametrize("network", NETWORKS, ids=name)
# Every option that adds weights, and none of them.
SETTINGS = pytest.mark.parametrize(
    "settings",
    [dict(), dict(num_classes=3, spectral_norm=True, attention_resolution=16)],
    ids=["plain", "full"],
)


def make(network, settings, seed=0):
    keras.utils.set_random_seed(seed)
    return network(**SIZES, **settings)


def inputs(network, batch=2):
    draw = np.random.default_rng(1)
    shape = (network.latent_dim,) if hasattr(network, "latent_dim") else (network.resolution, network.resolution, 3)
    label = tf.constant([0, 2]) if network.num_classes else None
    return draw.normal(size=(batch, *shape)).astype(np.float32), label


def network_classes():
    """The public networks of every module of tfvae/networks, without those that others are made from."""
    found = set()
    for module in pkgutil.iter_modules(tfvae.networks.__path__, "tfvae.networks."):
        for _, member in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            own = member.__module__ == module.name and not member.__name__.startswith("_")
            if own and issubclass(member, keras.Model):
                found.add(member)
    return {network for network in found if not any(network in other.__bases__ for other in found)}


def test_the_list_holds_every_public_network():
    assert {name(n) for n in network_classes()} == {name(n) for n in NETWORKS}


@pytest.mark.parametrize("method", ["__init__", "call"])
@pytest.mark.parametrize("role", ["Generator", "Discriminator"])
def test_networks_of_one_role_have_one_signature(role, method):
    signatures = [inspect.signature(getattr(n, method)) for n in NETWORKS if n.__name__ == role]
    assert len(signatures) == 2
    assert all(signature == signatures[0] for signature in signatures)


def test_shared_constructor_arguments_have_one_default():
    """But `latent_dim`, which a discriminator does not need."""
    defaults = {}
    for network in NETWORKS:
        for argument in inspect.signature(network).parameters.values():
            if argument.name != "latent_dim":
                assert defaults.setdefault(argument.name, argument.default) == argument.default, argument.name


def documented(network):
    """Names in a docstring's Args, or in those of the class that it names for its arguments."""
    text = " ".join(network.__doc__.split())
    named = re.search(r"Arguments: `(\w+)\.(\w+)`'s", text)
    if named:
        return documented(getattr(importlib.import_module(f"tfvae.networks.{named[1]}"), named[2]))
    section = text.split(" Args: ", 1)[1].split(" Raises: ")[0]
    return {argument for entry in re.findall(r"((?:\w+, )*\w+): ", section) for argument in entry.split(", ")}


@EVERY_NETWORK
def test_every_constructor_argument_is_documented(network):
    arguments = {a.name for a in inspect.signature(network).parameters.values() if a.kind is not a.VAR_KEYWORD}
    assert "resolution" in arguments
    assert arguments <= documented(network)


@EVERY_NETWORK
def test_call_documents_its_arguments_and_what_it_returns(network):
    text = inspect.getdoc(network.call)
    assert all(f"\n    {a}: " in text for a in inspect.signature(network.call).parameters if a != "self")
    assert "\nReturns:\n    float32 [B, " in text


@SETTINGS
@EVERY_NETWORK
def test_first_outputs_are_finite_and_differ_between_inputs_and_a_call_adds_no_weights(network, settings):
    built = make(network, settings)
    before = [w.path for w in built.weights]
    x, label = inputs(built)
    for training in (False, True):
        y = built(x, label, training=training).numpy()
        assert y.dtype == np.float32 and np.isfinite(y).all()
        assert np.abs(y[0] - y[1]).max() > 1e-5
    assert before and [w.path for w in built.weights] == before


@SETTINGS
@EVERY_NETWORK
def test_every_trainable_weight_receives_a_finite_gradient(network, settings):
    built = make(network, settings)
    x, label = inputs(built)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(built(x, label, training=True)))
    gradients = tape.gradient(loss, [w.value for w in built.trainable_weights])
    for weight, gradient in zip(built.trainable_weights, gradients):
        assert gradient is not None, weight.path
        assert np.isfinite(tf.convert_to_tensor(gradient)).all(), weight.path


@EVERY_NETWORK
def test_same_seed_gives_the_same_weights(network):
    first, second, other = (make(network, {}, seed) for seed in (1, 1, 2))
    for a, b in zip(first.get_weights(), second.get_weights()):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(first.get_weights(), other.get_weights()))


@EVERY_NETWORK
def test_a_checkpoint_restores_weights_statistics_and_outputs_exactly(network, tmp_path):
    settings = dict(num_classes=3, spectral_norm=True, attention_resolution=16)
    saved, restored = make(network, settings, seed=1), make(network, settings, seed=2)
    x, label = inputs(saved)
    for _ in range(2):
        saved(x, label, training=True)  # moves u and the statistics
    saved.attention.gain.assign(0.5)
    expected = saved(x, label).numpy()
    assert (restored(x, label).numpy() != expected).any()
    path = tf.train.Checkpoint(network=saved).write(str(tmp_path / "checkpoint"))
    tf.train.Checkpoint(network=restored).read(path).assert_consumed()
    for a, b in zip(saved.weights, restored.weights):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.path)
    np.testing.assert_array_equal(restored(x, label).numpy(), expected)

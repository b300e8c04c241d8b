"""Bounds on the likelihood, against a linear-Gaussian model whose likelihood is known in closed form."""

import dataclasses
import json

import numpy as np
import pytest
import scoring_toys
from objectives_toys import LinearGaussian

from tfvae.data import images as pixels
from tfvae.data import pipeline
from tfvae.drawing.model import of_objective
from tfvae.publishing import published
from tfvae.scoring import extractors, likelihood, scores
from tfvae.training import run

SIGMA = 0.3
# Columns at right angles: then the posterior of the latent is diagonal, as the encoder's is.
WEIGHTS = np.linalg.qr(np.random.default_rng(0).normal(size=(12, 3)))[0] * [2.0, 1.0, 0.5]
OFFSET = np.random.default_rng(1).normal(size=12)


def images(number=50):
    draw = np.random.default_rng(2)
    flat = draw.normal(size=(number, 3)) @ WEIGHTS.T + OFFSET + SIGMA * draw.normal(size=(number, 12))
    return flat.reshape(number, 2, 2, 3).astype(np.float32)


def decode(latent):
    return (latent @ WEIGHTS.T + OFFSET).reshape(-1, 2, 2, 3).astype(np.float32)


def posterior(y, shift=0.0):
    """The exact one; moved, one that is not."""
    precision = 1.0 + np.sum(WEIGHTS**2, 0) / SIGMA**2
    mean = (y.reshape(-1, 12) - OFFSET) @ WEIGHTS / SIGMA**2 / precision
    return (mean + shift).astype(np.float32), np.broadcast_to(-np.log(precision), mean.shape).astype(np.float32)


def log_likelihood(y):
    """ln N(y; offset, W W^T + sigma^2 I)."""
    covariance = WEIGHTS @ WEIGHTS.T + SIGMA**2 * np.eye(12)
    rest = y.reshape(-1, 12).astype(np.float64) - OFFSET
    return -0.5 * (
        12 * np.log(2 * np.pi) + np.linalg.slogdet(covariance)[1] + np.sum(rest @ np.linalg.inv(covariance) * rest, 1)
    )


@pytest.mark.parametrize("num_samples", [1, 10])
def test_with_the_exact_posterior_the_bound_is_the_likelihood(num_samples):
    y = images()
    found = likelihood.bounds(y, posterior, decode, SIGMA, num_samples)
    np.testing.assert_allclose(found["importance_weighted"], log_likelihood(y), rtol=1e-4, atol=1e-3)


def test_the_elbo_lies_below_the_likelihood_and_reaches_it_on_average_with_the_exact_posterior():
    y = np.repeat(images(3), 4000, axis=0)  # many draws of each
    elbo = likelihood.bounds(y, posterior, decode, SIGMA)["elbo"].reshape(3, 4000).mean(1)
    np.testing.assert_allclose(elbo, log_likelihood(images(3)), atol=0.15)
    wrong = likelihood.bounds(y, lambda v: posterior(v, 0.3), decode, SIGMA)["elbo"].reshape(3, 4000).mean(1)
    # KL(N(m + 0.3, v) || N(m, v)) = 0.3^2 / (2 v), summed over the latent.
    gap = np.sum(0.3**2 / 2 * (1.0 + np.sum(WEIGHTS**2, 0) / SIGMA**2))
    np.testing.assert_allclose(log_likelihood(images(3)) - wrong, gap, atol=0.15)


def test_more_samples_bring_a_wrong_posterior_nearer_to_the_likelihood():
    y = images(200)
    means = [
        likelihood.bounds(y, lambda v: posterior(v, 0.1), decode, SIGMA, k)["importance_weighted"].mean()
        for k in (1, 10, 100)
    ]
    assert means[0] < means[1] < means[2] <= log_likelihood(y).mean() + 0.05


def test_rate_is_the_kl_divergence_and_its_parts_add_up():
    found = likelihood.bounds(images(), posterior, decode, SIGMA)
    mean, log_variance = (x.astype(np.float64) for x in posterior(images()))
    expected = 0.5 * np.sum(np.exp(log_variance) + mean**2 - 1 - log_variance, 1)
    np.testing.assert_allclose(found["rate"], expected)
    np.testing.assert_allclose(found["rate_by_dimension"].sum(1), expected)
    np.testing.assert_allclose(found["elbo"], -found["rate"] - found["distortion"])


def test_sigma_is_the_root_mean_squared_error_of_posterior_samples():
    """E (y - W z - b)^2 is sigma^2 for y and z of the model."""
    errors = likelihood.sample_errors(images(20_000), posterior, decode)
    np.testing.assert_allclose(np.sqrt(errors.mean()), SIGMA, rtol=0.01)


def test_uniform_pixels_have_eight_bits_per_dimension():
    """A density of 1 / 2 in [-1, 1] gives each of 255 steps 1 / 255: nearly 8 bits."""
    bits = likelihood.bits_per_dimension(np.array([12 * np.log(0.5)]), 12)
    np.testing.assert_allclose(bits, np.log2(255.0))


def test_dequantised_pixels_keep_their_level():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, 3)
    y = likelihood.dequantise(levels, np.random.default_rng(0))
    np.testing.assert_array_equal(np.round((y + 1.0) * 127.5), levels)
    assert y.dtype == np.float32 and np.std((y + 1.0) * 127.5 - levels) == pytest.approx(12**-0.5, rel=0.05)


@pytest.mark.parametrize("wrong", [dict(num_samples=0), dict(sigma=0.0), dict(sigma=float("nan"))])
def test_wrong_arguments_are_one_line(wrong):
    with pytest.raises(ValueError, match="expected 1 or more samples and a sigma above 0"):
        likelihood.bounds(images(2), posterior, decode, **dict(sigma=SIGMA) | wrong)


def test_dequantised_pixels_do_not_depend_on_the_parts_that_they_come_in():
    levels = np.random.default_rng(0).integers(0, 256, (7, 5, 5, 3)).astype(np.uint8)
    draw = np.random.default_rng(0)
    parts = [likelihood.dequantise(levels[rows], draw) for rows in (slice(3), slice(3, 7))]
    np.testing.assert_array_equal(np.concatenate(parts), likelihood.dequantise(levels, np.random.default_rng(0)))


# By the command.


@pytest.fixture
def evaluate(run_command, make_split, monkeypatch, tmp_path):
    """A function: (what `tfvae.evaluate` printed, the likelihood and all that it wrote) of `LinearGaussian` and its images."""
    toy = LinearGaussian(resolution=16)
    splits = {
        name: dataclasses.replace(make_split(number, 16), split=name, images=toy.images(number, seed))
        for seed, (name, number) in enumerate({"train": 300, "test": 60}.items())
    }
    monkeypatch.setattr(pipeline, "load", lambda dataset, split="train", **_: splits[split])
    monkeypatch.setattr(pipeline, "held_out_split", lambda *_, **__: "test")
    kind = dataclasses.replace(scoring_toys.CLASSIFIER, name="counting", flag=None, load=scoring_toys.load_counting)
    monkeypatch.setitem(extractors.EXTRACTORS, "counting", kind)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(likelihood, "SCORED_IMAGES", 40)

    def evaluate(*arguments, sigma=toy.SIGMA, **changes):
        toy.decoder_sigma = sigma
        flags = {"dataset": "random", "resolution": 16, "latent_dim": 3}
        model = dataclasses.replace(of_objective(toy, tmp_path, flags, {"weights": "none"}, replica_batch=7), **changes)
        monkeypatch.setattr(run, "load_run", lambda *_: model)
        output = tmp_path / "scores.json"
        given = [
            f"--model_dir={tmp_path}",
            "--extractor=counting",
            "--num_images=30",
            "--overwrite",
            f"--output={output}",
        ]
        printed = run_command("evaluate", *given, *arguments)
        found = json.loads(output.read_text())
        return printed, found.get("likelihood"), found

    evaluate.toy, evaluate.held_out = toy, splits["test"].images
    return evaluate


def dequantised(levels):
    """By the protocol's words."""
    u = np.random.default_rng(0).random(levels.shape, np.float32)
    return (levels + u - 0.5) / 127.5 - 1.0


@pytest.mark.filterwarnings("ignore:.*rank-deficient")
def test_evaluate_finds_the_likelihood_of_the_linear_gaussian_model(evaluate, tmp_path):
    printed, found, _ = evaluate("--num_importance_samples=10")
    toy, y = evaluate.toy, dequantised(evaluate.held_out)[:40].reshape(40, -1)
    covariance = toy.weights.T @ toy.weights + toy.SIGMA**2 * np.eye(y.shape[1])
    density = -0.5 * (
        y.shape[1] * np.log(2 * np.pi)
        + np.linalg.slogdet(covariance)[1]
        + np.sum(np.linalg.solve(covariance, y.T).T * y, 1)
    )
    values = found["scores"]
    # The posterior is exact, so that every importance-weighted bound is the likelihood.
    assert values["importance_weighted_bound"] == pytest.approx(density.mean(), abs=0.02)
    bits = -density.mean() / np.log(2) / y.shape[1] + np.log2(127.5)
    assert values["importance_weighted_bits_per_dimension"] == pytest.approx(bits, abs=1e-4)
    # One draw of each of 40 images: a standard error of sqrt(3 / 2 / 40) nats.
    assert values["elbo"] == pytest.approx(density.mean(), abs=0.8)
    assert values["elbo"] == pytest.approx(-values["rate"] - values["distortion"])
    assert values["elbo_bits_per_dimension"] == pytest.approx(-values["elbo"] / np.log(2) / y.shape[1] + np.log2(127.5))
    mean, log_variance = toy.posterior(y)
    kl = np.mean(0.5 * (np.exp(log_variance) + mean**2 - 1 - log_variance), 0)
    np.testing.assert_allclose(found["kl_by_dimension"], kl, rtol=1e-3)
    assert values["rate"] == pytest.approx(kl.sum(), rel=1e-3)
    assert found["of"] == {"split": "test", "images": 40, "chosen": "the first"}
    assert found["decoder_sigma"] == toy.SIGMA and found["decoder_sigma_is"] == "trained"
    assert found["num_importance_samples"] == 10 and found["undefined"] == {}
    assert "importance_weighted_bits_per_dimension" in printed and "0.1 (trained), 10 importance samples" in printed

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "logs"))
    events.Reload()
    tags = events.Tags()["tensors"]
    assert {"scores_of_reconstructions/psnr", "scores_of_reconstructions_from_samples/psnr"} <= set(tags)
    assert {"scores_of_likelihood_by_10_samples/elbo", "scores_of_likelihood_by_10_samples/kl_by_dimension"} <= set(
        tags
    )


@pytest.mark.filterwarnings("ignore:.*rank-deficient")
def test_without_a_trained_sigma_it_is_measured_on_training_images_and_said(evaluate):
    printed, found, _ = evaluate(sigma=None)
    assert found["decoder_sigma"] == pytest.approx(evaluate.toy.SIGMA, rel=0.01)
    assert found["decoder_sigma_is"] == "root mean squared error of posterior samples of 300 images of train"
    # By one sample the bound is the ELBO.
    assert [name for name in scores.SCORES if name in found["scores"]] == [
        "elbo",
        "elbo_bits_per_dimension",
        "rate",
        "distortion",
    ]
    assert "likelihood of the first 40 images" in printed


@pytest.mark.filterwarnings("ignore:.*rank-deficient")
@pytest.mark.parametrize(
    ("arguments", "changes", "reason"),
    [
        ([], dict(decode=None), "a published version gives pixels of 8 bits"),
        (["--prior=gmm"], {}, "it is of the normal prior"),
        ([], dict(sigma=0.0), "expected 1 or more samples and a sigma above 0"),
        ([], dict(sigma=float("inf")), "expected a finite number"),
    ],
)
def test_a_likelihood_that_is_not_defined_leaves_the_other_scores(arguments, changes, reason, evaluate):
    printed, found, everything = evaluate(*arguments, **changes)
    assert found["undefined"] and set(found["scores"]) <= {"rate"}  # which needs no sigma
    assert all(reason in line for line in found["undefined"].values()) and reason in printed
    assert (
        everything["scores"]["precision"]["mean"] >= 0 and everything["reconstruction"]["scores"]["squared_error"] > 0
    )


@pytest.mark.filterwarnings("ignore:.*rank-deficient")
def test_a_model_without_an_encoder_has_no_likelihood(evaluate):
    assert evaluate(encode=None)[1] is None


# The drawing model.


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("mixed_bfloat16", 3e-3)])
def test_a_run_decodes_to_floats_and_encodes_them(precision, tolerance, make_model, tmp_path):
    settings, objective = make_model("vae", precision=precision)
    model = of_objective(objective, tmp_path, vars(settings), {})
    latent = np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32)
    decoded = model.decode(latent)
    assert decoded.dtype == np.float32 and len(np.unique(decoded)) > 256
    np.testing.assert_array_equal(pixels.to_uint8(decoded), model.generate(latent))
    image = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    for one, other in zip(model.encode(image), model.encode(pixels.to_model_range(image).numpy())):
        np.testing.assert_allclose(one, other, atol=tolerance)


def test_only_a_trained_sigma_is_a_model_s_own(make_model, tmp_path, vae):
    settings, objective = make_model("vae", decoder_variance="learned")
    objective.log_sigma.assign(np.log(0.2))
    sigma = of_objective(objective, tmp_path, vars(settings), {}).decoder_sigma
    # As the loss has it: softly no smaller than exp(-6).
    assert sigma == pytest.approx(np.exp(-6 + np.log1p(np.exp(np.log(0.2) + 6))), rel=1e-5)
    for name, flags in (("vae", dict(decoder_variance="optimal")), ("soft_intro_vae", {}), ("gan", {})):
        settings, objective = make_model(name, **flags)
        assert of_objective(objective, tmp_path, vars(settings), {}).decoder_sigma is None
    version = published.load(vae[0])
    assert version.decode is None and version.decoder_sigma is None

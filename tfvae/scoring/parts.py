"""What a result says beside the scores of drawn images: of reconstructions, of the likelihood, of modes that are known."""

import numpy as np

from tfvae.data.split import choose, without
from tfvae.scoring import modes, protocol

# Parts of the result: from which latents reconstructions are decoded.
RECONSTRUCTIONS = {
    "reconstruction": "the posterior's mean",
    "reconstruction_from_samples": "a sample of the posterior",
}
# Reconstructions are scored on training images outside of the reference, if there are so many.
LEAST_UNSEEN = 1000


def reconstructions(model, reference, reference_split, rows, train, held_out, number, extractor):
    """Errors of held-out images (None: of the training images), scores of training images outside of the reference.

    rows: of `reference_split`, those that the reference is made of. number: of images, at most. Returns: {part of the result: its
    content}.
    """
    held_out = held_out or train
    rest = without(train, reference_split, rows)
    known = len(rest) < min(LEAST_UNSEEN, number)
    chosen = np.arange(train.num_images) if known else rest
    chosen = chosen[choose(len(chosen), number, seed=1)]
    compared = choose(held_out.num_images, number)
    made = {}
    for name, latent in RECONSTRUCTIONS.items():
        sampled = name == "reconstruction_from_samples"
        found, undefined = protocol.reconstruction_scores(
            model, (held_out, compared), (train, chosen), reference, extractor, sampled
        )
        made[name] = {
            "errors_of": {"split": held_out.split, "images": len(compared)},
            "scores_of": {"split": "train", "images": len(chosen), "also_in_the_reference": known},
            "latent": latent,
            "scores": found,
            "undefined": undefined,
        }
    return made


def likelihood(model, train, held_out, prior, num_samples):
    """`protocol.likelihood_scores` of held-out images (None: of training images), or why there are none."""
    reason = None
    if model.decode is None:
        reason = "a published version gives pixels of 8 bits: score the run that it was exported from."
    elif prior == "gmm":
        reason = "it is of the normal prior: score without --prior=gmm."
    if reason:
        return {"scores": {}, "undefined": {"likelihood": reason}}
    return protocol.likelihood_scores(model, train, held_out or train, num_samples)


def known_modes(reference, drawn, extractor):
    """The scores of modes of as many held-out images, and the kinds in each channel. drawn: `Outputs` of the last seed."""
    found, number = protocol.modes_of_held_out(reference, extractor, len(drawn))
    marginals = {"nominal": modes.nominal_marginals(reference.mode_frequencies), "drawn": modes.marginals(drawn.kinds)}
    if number:
        marginals["held_out"] = modes.marginals(reference.held_out.kinds)
    return {
        "held_out_images": number,
        "held_out": found,
        "marginals": {name: dict(zip(modes.CHANNELS, part.tolist())) for name, part in marginals.items()},
    }

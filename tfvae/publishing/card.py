"""A version's model card: README.md in its folder, with Hugging Face's front matter, and a sheet of its samples.

A server ignores both. In the version's folder they come, stay and go with the weights that they are of.
"""

import json

import numpy as np
import tensorflow as tf

from tfvae.data import datasets, images
from tfvae.scoring import presentation

CARD, SHEET = "README.md", "samples.png"
UNKNOWN = "unknown"  # the licence until somebody says it; one of Hugging Face's identifiers
COLUMNS, ROWS = 8, 4

OUTPUTS = {
    "sample": "`image_bytes` [B]: PNG",
    "decode": "`image` uint8 [B, {resolution}, {resolution}, 3]",
    "encode": "`mean`, `log_variance` float32 [B, {latent_dim}]",
    "reconstruct": "`image_bytes` [B]: PNG",
}


def write(folder, about, functions):
    """Writes the card and its sheet.

    Args:
        folder: of the version. about: the content of its tfvae.json. functions: `signatures.of_model`'s.
    """
    sample, _ = functions["sample"]
    number = ROWS * COLUMNS
    inputs = [tf.range(number, dtype=tf.int64), tf.fill([number], np.float32(np.inf))]
    if about["num_classes"]:
        inputs.append(tf.range(number) % about["num_classes"])
    # A picture that cannot be drawn is named by the verification, which comes next.
    drawn = [tf.io.decode_png(png).numpy() for png in sample(*inputs)["image_bytes"].numpy() if png]
    if drawn:
        images.write_png(folder / SHEET, images.sheet(np.stack(drawn), COLUMNS))
    (folder / CARD).write_text(text(about, functions))


def text(about, functions):
    """The card, in Markdown; arguments as `write`'s."""
    name, labelled, objective, side = about["name"], about["num_classes"] > 0, about["title"], about["resolution"]
    data = datasets.record(about["dataset"])
    data = "images of one's own" if data.folder is not None else data.title
    row = {"seed": 7, "truncation": 1.0} | ({"label": 3 % about["num_classes"]} if labelled else {})
    python = ", ".join(f"{key}={value}" for key, value in {"seed": 7, "count": 1, **row}.items())
    networks = " and ".join(about["network_titles"])
    tags = ["image-generation", "tensorflow", "saved-model", about["objective"].replace("_", "-")]
    # Hugging Face has no task for pictures of a class.
    task = [] if labelled else ["pipeline_tag: unconditional-image-generation"]
    rows = [
        ("objective", f"{objective}, with {networks} of {about['architecture'].replace('biggan', 'BigGAN')}"),
        ("data", f"{data}, {side} px"),
        *(
            [("classes", ", ".join(f"{i} {title}" for i, title in enumerate(about["class_names"])).replace("|", r"\|"))]
            if labelled
            else []
        ),
        ("images seen", f"{about['images_seen']:,} real images entered the {about['network_titles'][1]} in training"),
        ("weights", about["weights"]),
        ("latent", f"{about['latent_dim']} numbers of the standard normal"),
        (
            "made with",
            f"tfvae{' ' + about['commit'] if about['commit'] else ''}, TensorFlow {about['versions']['tensorflow']}",
        ),
    ]
    parts = [
        "---",
        f"license: {about['license']}",
        "library_name: tfvae",
        *task,
        f"tags: [{', '.join(tags)}]",
        "---",
        "",
        f"# {name}",
        "",
        f"A generator of images, trained on {data} with the objective {objective}. A TensorFlow SavedModel that TensorFlow "
        "Serving serves.",
        "",
        f"![Samples, not selected]({SHEET})",
        "",
        f"Samples of the seeds 0 to {ROWS * COLUMNS - 1}, not selected{'; the classes take turns' if labelled else ''}.",
        "",
        "| | |",
        "| --- | --- |",
        *(f"| {key} | {value} |" for key, value in rows),
        "",
        "All flags of the training are in `assets.extra/tfvae.json`.",
        "",
        "## Draw",
        "",
        "From a server, and from Python:",
        "",
        "```",
        f"curl -s localhost:8501/v1/models/{name}:predict -d '{json.dumps({'instances': [row]})}'",
        "```",
        "",
        "```python",
        f'import tfvae; pictures = tfvae.load("THIS_FOLDER").sample({python})  # uint8 [1, {side}, {side}, 3]',
        "```",
        "",
        "| signature | inputs | outputs |",
        "| --- | --- | --- |",
        *(f"| `{key}` | {_inputs(specs)} | {OUTPUTS[key].format(**about)} |" for key, (_, specs) in functions.items()),
        "",
        "## Scores",
        "",
        *_scores(about["scores"]),
        "",
        "## Licence",
        "",
        "The licence of the weights is for whoever trained them to choose, and the training data may bind that choice. It is the "
        "`license` at the top of this file, "
        + ("which nobody has set yet." if about["license"] == UNKNOWN else f"{about['license']}.")
        + " It can be edited there; `tfvae.export --license=…` sets it. The code of tfvae is under Apache 2.0.",
    ]
    return "\n".join(parts) + "\n"


def _inputs(specs):
    return ", ".join(
        f"`{spec.name}` {spec.dtype.name} [{', '.join(['B', *map(str, spec.shape[1:])])}]" for spec in specs
    )


def _scores(scores):
    """The lines of the scores with the protocol that they were measured by."""
    if scores is None:
        return ["This model was not scored when it was published."]
    try:
        return ["```", presentation.table(scores), "```", "", "The whole protocol is in `assets.extra/tfvae.json`."]
    except (KeyError, TypeError, AttributeError):  # of an older tfvae, which wrote fewer entries
        return ["They are in `assets.extra/tfvae.json`."]

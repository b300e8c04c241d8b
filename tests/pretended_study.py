"""Studies for tests, and files as finished experiments leave them, from nobody's training."""

import json

import numpy as np

from tfvae.studies import identity, plan, runner


def experiments(*lines, scale="full", images=None):
    return plan.read_experiments(lines, scale, images or {})


def make_study(folder, lines, published=(), num_seeds=3, **changes):
    found = experiments(*lines)
    fields = dict(
        experiments=found,
        published=plan.read_published(published, found),
        scale="full",
        output_dir=folder,
        data_dirs={"": "here", "lfw": "there"},
        extractor_name="classifier",
        folders={},
        num_images=10_000,
        num_seeds=num_seeds,
        mixture_tables=("main",),
        eval_points=10,
    )
    return plan.Study(**fields | changes)


def score(mean, std=0.01):
    return {"mean": mean, "std": std, "values": [mean] * 3}


FINGERPRINT = "f" * 64


def scores(seen, extractor="ab" * 32, **values):
    names = {"classifier_score": 2.0, "frechet_classifier_distance": 50.0, "kernel_classifier_distance": 1.0}
    names |= {"precision": 0.5, "recall": 0.4, "density": 0.6, "coverage": 0.3, "class_entropy": 1.5}
    return {
        "source": {"weights": "of the last step", "images_seen": seen},
        "reference": {"dataset": "cifar10", "split": "train", "images": 10_000, "fingerprint": FINGERPRINT},
        "num_images": 10_000,
        "seeds": [0, 1, 2],
        "protocol": {
            "extractor": {
                "kind": "classifier", "name": "classifier of cifar10", "checksum": extractor, "accuracy": 0.9,
                "preparation": "none",
            },
            "precision_and_recall_neighbours": 3,
            "density_and_coverage_neighbours": 5,
        },
        "scores": {name: value if isinstance(value, dict) else score(value) for name, value in (names | values).items()},
    }  # fmt: skip


def pretend_data(made, dataset):
    """Leaves the record of a dataset whose files did not change."""
    folder = made.output_dir / "images"
    folder.mkdir(parents=True, exist_ok=True)
    data = identity.Data(str(folder), identity.stamp_of(folder), {"train": FINGERPRINT})
    identity.write(made.data_file(dataset, None), data)


def pretend(made, one, trained=True, values=None, reconstruction=None, exhibited=False, **parts):
    """Leaves what a finished experiment leaves. parts: {a further part of its scores: {name: value}}."""
    pretend_data(made, one.dataset)
    extractor = made.extractor(one.dataset)[1]
    extractor.mkdir(parents=True, exist_ok=True)
    (extractor / "saved_model.pb").write_text("a network")
    if not trained:
        return
    run = made.run_dir(one)
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / f"ckpt-{one.total_images}.index").touch()
    (run / "config.json").write_text(json.dumps({"data": {"num_images": 50_000}}))
    rows = [{"images": n, "images_per_second": 100.0 + n} for n in (10, 20, 30)]
    rows += [{"images": n, "precision": 0.1, "recall": 0.2, "frechet_classifier_distance": 100.0 / n} for n in (15, 30)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"images": 4')
    runner.write_record(
        made.record_file(made.run_name(one)), {"seconds": {"training": 3725.0}, "peak_memory_mb": {"training": 1500.0}}
    )
    if values is not None:
        for prior in ("normal", "gmm"):
            file = made.score_file(one, prior)
            file.parent.mkdir(parents=True, exist_ok=True)
            found = scores(one.total_images, made.extractor_checksum(one.dataset), **values)
            if reconstruction:
                errors_of = {"split": "test", "images": 10_000}
                scores_of = {"split": "train", "images": 9_000, "also_in_the_reference": False}
                found["reconstruction"] = {"errors_of": errors_of, "scores_of": scores_of, "scores": reconstruction}
            found |= {part: {"scores": those} for part, those in parts.items()}
            file.write_text(json.dumps(found))
    if exhibited:
        draw = np.random.default_rng(0)
        names = ("unselected", "best", "best_neighbours", "real", "reconstructed")
        colours = {name: draw.integers(0, 256, (12, 1, 1, 3)) for name in names}
        colours["interpolations"] = draw.integers(0, 256, (24, 1, 1, 3))
        arrays = {name: np.tile(colour, [1, 32, 32, 1]).astype(np.uint8) for name, colour in colours.items()}
        facts = {"drawn": 2_000, "spread_within_classes": 0.75}
        np.savez(made.exhibits_file(one), facts=np.array(json.dumps(facts)), **arrays)

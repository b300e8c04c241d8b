"""How long a study takes: from the FLOPs of its trainings and the speed that was assumed, then measured."""

from tfvae.studies import runner, tasks

SCORING_SECONDS = 180.0  # of one run's start, scores and pictures, assumed until something was measured


def training_seconds(study, sizes, speed):
    """Estimated seconds of whole trainings.

    Args:
        study: `plan.Study`. sizes: of `sizes.of_experiments`. speed: FLOP/s assumed.

    Returns:
        {experiment's folder: seconds}; experiments without sizes are left out.
    """
    flops, seconds = {}, {}
    for one in study.experiments:
        spent = runner.read_record(study.record_file(study.run_name(one)))["seconds"].get("training", 0.0)
        if one.folder in sizes and spent and tasks.trained_images(study, one) == one.total_images:
            # By networks: what a processor makes of them differs.
            key = one.settings.architecture
            flops[key] = flops.get(key, 0.0) + sizes[one.folder]["flops"]
            seconds[key] = seconds.get(key, 0.0) + spent
    if flops:
        speed = sum(flops.values()) / sum(seconds.values())
    speeds = {key: flops[key] / seconds[key] for key in flops}
    return {
        one.folder: sizes[one.folder]["flops"] / speeds.get(one.settings.architecture, speed)
        for one in study.experiments
        if one.folder in sizes
    }


def seconds_left(study, experiments, sizes, speed):
    """Estimated seconds until the experiments are trained and scored."""
    whole = training_seconds(study, sizes, speed)
    measured, left = [], 0.0
    runs = {one.folder: one for one in experiments}
    for one in runs.values():
        record = runner.read_record(study.record_file(study.run_name(one)))
        spent = record["seconds"].get("training", 0.0)
        if tasks.trained_images(study, one) != one.total_images:
            left += max(0.0, whole.get(one.folder, 0.0) - spent)
        if study.extractor_is_there(one.dataset) and study.exhibits_file(one).is_file():
            measured.append(sum(record["seconds"].values()) - spent)
    scoring = sum(measured) / len(measured) if measured else SCORING_SECONDS
    return left + scoring * (len(runs) - len(measured))

"""A study's work: estimated before, listed, and done, all of it here or one task of it for a scheduler."""

import time

from tfvae.command import UserError, duration
from tfvae.studies import estimate, runner, tasks

STATUS_SECONDS = 60.0


def overview(study, chosen, sizes, speed):
    """What is going to be done, and for how long, as text.

    Args:
        study: `plan.Study`. chosen: some of its experiments. sizes: of `sizes.of_experiments`. speed: FLOP/s assumed.
    """
    seconds = estimate.training_seconds(study, sizes, speed)
    width = max(len(one.name) for one in chosen)
    lines = [f"{'experiment':<{width}} {'images':>12} {'PFLOP':>10} {'training':>9}  state"]
    for one in chosen:
        seen = tasks.trained_images(study, one)
        state = "trained" if seen == one.total_images else f"at {seen:,} images" if seen else ""
        hours = duration(seconds[one.folder]) if one.folder in seconds else "?"
        flops = f"{sizes[one.folder]['flops'] / 1e15:,.2f}" if one.folder in sizes else "?"
        lines.append(f"{one.name:<{width}} {one.total_images:>12,} {flops:>10} {hours:>9}  {state}")
    left = estimate.seconds_left(study, chosen, sizes, speed)
    lines.append(
        f"{len(chosen)} experiments, {len({one.folder for one in chosen})} trainings, about {left / 3600:,.1f} hours left on one "
        f"machine: estimated at {speed / 1e12:g} TFLOP/s where nothing was measured yet (--assumed_tflops), without extractors"
    )
    return "\n".join(lines)


def listing(everything):
    """One line for each task, in an order that depends on the study's flags alone: name, "done" or "missing", what comes first.

    The three are separated by tabs; the third is "waits for: " and names separated by spaces, or "waits for: nothing".
    """
    lines = []
    for task in everything:
        state = "done" if task.is_done() else "missing"
        lines.append(f"{task.name}\t{state}\twaits for: {' '.join(task.needs) or 'nothing'}")
    return "\n".join(lines)


def task_named(study, everything, name):
    """The task of that name. Raises: ValueError: there is none."""
    for task in everything:
        if task.name == name:
            return task
    for one in study.experiments:
        if one.name == name:
            first = next(e.name for e in study.experiments if e.folder == one.folder)
            if any(task.name == first for task in everything):
                raise ValueError(
                    f"--work={name}: it has the settings, and so the run, of {first}: expected --work={first}."
                )
    raise ValueError(f"--work={name}: expected a name that --list prints: {', '.join(t.name for t in everything)}.")


def do(study, everything, seconds_left=None):
    """Does what is missing of some tasks, and reports progress.

    Args:
        study: `plan.Study`. everything: list of `runner.Task`. seconds_left: function without arguments that estimates them.

    Returns:
        {task's name: line} of those that failed.

    Raises:
        UserError: told to stop.
    """
    said = 0.0

    def say(number, task, step, seconds, line):
        nonlocal said
        now = time.monotonic()
        running = step is not None and seconds > 0
        if running and now - said < STATUS_SECONDS or line.startswith(runner.FAILED) and len(everything) == 1:
            return  # the failure of the only task is what the command ends with
        said = now
        parts = [task.name, *([step.name] if step else []), *([duration(seconds)] if running else []), line]
        left = f"  ({seconds_left() / 3600:,.1f} h left in all)" if seconds_left else ""
        print(f"[{number}/{len(everything)}] {': '.join(parts)}{left}", flush=True)

    doer = runner.Runner(study, say)
    with doer.listening():
        failed = doer.work_off(everything)
    if doer.stopping:
        raise UserError("stopped; what was running is saved. The same command goes on, --report_only reports so far.")
    return failed

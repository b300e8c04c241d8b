"""The figures of a report: curves, the map of fidelity against variety, and strips of pictures; small files on white ground.

White, so that they can be read on a light and on a dark page.
"""

import io
import textwrap

import matplotlib
import numpy as np
from PIL import Image

from tfvae.command import write_whole
from tfvae.data import images
from tfvae.training import build

matplotlib.use("Agg")
from matplotlib import pyplot, ticker  # noqa: E402 (the backend comes first: no window)

# Okabe and Ito's colours, told apart by most colour-blind readers, without its yellow.
COLOURS = ("#D55E00", "#0072B2", "#E69F00", "#56B4E9", "#CC79A7", "#009E73", "#000000", "#882255", "#44AA99", "#999933")
CALIBRATION_COLOUR = "#666666"
# Of the objectives, in the order of `build.OBJECTIVES`: (marker, its name, line, its name).
SYMBOLS = (
    ("o", "circles", "-", "solid"),
    ("s", "squares", "--", "broken"),
    ("^", "triangles", "-.", "dash-dotted"),
    ("D", "diamonds", ":", "dotted"),
)
PIXELS = 2  # of the figure for one of a picture
DPI = 100

STYLE = {"font.size": 9, "axes.grid": True, "grid.alpha": 0.3, "axes.spines.top": False, "axes.spines.right": False}


def symbols(objective):
    """One of `SYMBOLS` for an objective, by its name."""
    return SYMBOLS[list(build.OBJECTIVES).index(objective) % len(SYMBOLS)]


def legend(objectives, which):
    """What the symbols mean, such as "circles: GAN; squares: VAE".

    Args:
        objectives: names, in any order and number. which: "markers" or "lines".
    """
    place = {"markers": 1, "lines": 3}[which]
    present = [name for name in build.OBJECTIVES if name in set(objectives)]
    return "; ".join(f"{symbols(name)[place]}: {build.OBJECTIVES[name].title}" for name in present)


def _save(figure, file, lossy=False):
    """A PNG of few colours, or a JPEG where it holds pictures."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI, facecolor="white")
    pyplot.close(figure)
    picture = Image.open(stream).convert("RGB")
    if lossy:
        # Without subsampling: at 32 px a side, colour is worth as much as brightness. Not optimized: Pillow's buffer for that is
        # too small for noise.
        options = {"format": "JPEG", "quality": 85, "subsampling": 0}
    else:
        picture = picture.quantize(128, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        options = {"format": "PNG", "optimize": True}
    write_whole(file, lambda stream: picture.save(stream, **options))


def strips(file, rows):
    """Rows of pictures with a label before each.

    Args:
        file: JPEG to write. rows: list of (label, uint8 [n, R, R, 3]), each with one R and n for all.
    """
    columns = max(len(pictures) for _, pictures in rows)
    side = rows[0][1].shape[1] + images.SHEET_GAP
    blank = np.full([columns, *rows[0][1].shape[1:]], 255, np.uint8)
    filled = [np.concatenate([pictures, blank[len(pictures) :]]) for _, pictures in rows]
    sheet = images.sheet(np.concatenate(filled), columns)
    height, width = (PIXELS * size / DPI for size in sheet.shape[:2])
    left = 0.2 + 0.085 * max(len(label) for label, _ in rows)
    figure = pyplot.figure(figsize=(left + width + 0.05, height + 0.1))
    total_width, total_height = figure.get_size_inches()
    axes = figure.add_axes([left / total_width, 0.05 / total_height, width / total_width, height / total_height])
    axes.imshow(sheet, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    for i, (label, _) in enumerate(rows):
        axes.text(-4, (i + 0.5) * side - 1, label, ha="right", va="center", fontsize=9)
    _save(figure, file, lossy=True)


def curves(file, rows, panels):
    """Scores of a small sample along the training, one line per row of the study, against images seen.

    Args:
        file: PNG to write. rows: list of (label, objective, list of {"images", score: value}).
        panels: {score's name: title}.

    Returns:
        Whether there was anything to draw.
    """
    rows = [row for row in rows if len(row[2]) > 1]
    if not rows:
        return False
    with pyplot.rc_context(STYLE):
        figure, axes = pyplot.subplots(
            2, -(-len(panels) // 2), figsize=(9.0, 5.6 + 0.16 * len(rows)), squeeze=False, layout="constrained"
        )
        for ax, (name, title) in zip(axes.flat, panels.items()):
            for i, (label, objective, points) in enumerate(rows):
                known = [p for p in points if name in p]
                ax.plot(
                    [p["images"] / 1000 for p in known],
                    [p[name] for p in known],
                    color=COLOURS[i % len(COLOURS)],
                    marker=symbols(objective)[0],
                    linestyle=symbols(objective)[2],
                    markersize=3,
                    linewidth=1.3,
                    label=label,
                )
            ax.set_title(title, fontsize=9)
            ax.set_xlabel("thousand images seen")
            if name == "frechet":
                ax.set_yscale("log")
                for axis in (ax.yaxis.set_major_formatter, ax.yaxis.set_minor_formatter):
                    axis(ticker.LogFormatter(minor_thresholds=(2, 0.5)))
        for ax in axes.flat[len(panels) :]:
            ax.set_axis_off()
        handles, labels = axes.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
        _save(figure, file)
    return True


def fidelity_and_variety(file, datasets):
    """Every model by fidelity against variety: precision against recall, density against coverage.

    Args:
        file: PNG to write.
        datasets: {title: (list of (label, objective, {score: value}), list of (label, {score: value}) to calibrate)}.

    Returns:
        Whether there was anything to draw.
    """
    datasets = {title: parts for title, parts in datasets.items() if parts[0]}
    if not datasets:
        return False
    panels = (("precision", "recall"), ("density", "coverage"))
    heights = [max(3.2, 0.17 * len(rows) + 0.5) for rows, _ in datasets.values()]
    with pyplot.rc_context(STYLE):
        figure, axes = pyplot.subplots(
            len(datasets),
            3,
            figsize=(11.0, sum(heights)),
            squeeze=False,
            layout="constrained",
            gridspec_kw={"width_ratios": [1.0, 1.0, 0.9], "height_ratios": heights},
        )
        for line, height, (title, (rows, points)) in zip(axes, heights, datasets.items()):
            for ax, (x, y) in zip(line, panels):
                for i, (_, objective, values) in enumerate(rows):
                    if x in values and y in values:
                        colour = COLOURS[i % len(COLOURS)]
                        ax.scatter(values[x], values[y], color=colour, marker=symbols(objective)[0], s=36, zorder=3)
                        ax.annotate(
                            str(i + 1), (values[x], values[y]), xytext=(4, 3), textcoords="offset points", fontsize=8
                        )
                for label, values in points:
                    if x in values and y in values:
                        marker, offset, side = ("x", (6, 3), "left") if label == "noise" else ("*", (-4, -11), "right")
                        ax.scatter(values[x], values[y], color=CALIBRATION_COLOUR, marker=marker, s=70, zorder=2)
                        ax.annotate(
                            label,
                            (values[x], values[y]),
                            xytext=offset,
                            textcoords="offset points",
                            fontsize=8,
                            ha=side,
                            color=CALIBRATION_COLOUR,
                        )
                ax.set_xlabel(f"fidelity: {x}")
                ax.set_ylabel(f"variety: {y}")
                ax.set_xlim(-0.03, 1.08 * max(ax.get_xlim()[1], 0.1))
                ax.set_ylim(-0.03, 1.03)
                ax.set_title(title, fontsize=9)
            line[2].set_axis_off()
            for i, (label, objective, _) in enumerate(rows):
                y = 1.0 - (i + 0.5) * 0.17 / (height - 0.5)
                line[2].scatter(
                    0.02,
                    y,
                    color=COLOURS[i % len(COLOURS)],
                    marker=symbols(objective)[0],
                    s=30,
                    transform=line[2].transAxes,
                )
                line[2].text(0.06, y, f"{i + 1}  {label}", va="center", fontsize=8, transform=line[2].transAxes)
        _save(figure, file)
    return True


def calibration(file, rows, panels):
    """Scores of images that are spoilt in known ways, a bar for each.

    Args:
        file: PNG to write. rows: list of (label, {score: value}). panels: {score's name: title}.
    """
    with pyplot.rc_context(STYLE):
        lines = -(-len(panels) // 4)
        figure, axes = pyplot.subplots(
            lines, 4, figsize=(11.0, lines * (0.6 + 0.17 * len(rows))), squeeze=False, sharey=True, layout="constrained"
        )
        for ax, (name, title) in zip(axes.flat, panels.items()):
            ax.barh(range(len(rows)), [values.get(name, np.nan) for _, values in rows], color=COLOURS[1])
            ax.set_title(textwrap.fill(title, 24), fontsize=9)
            ax.margins(y=0.01)
            ax.set_yticks(range(len(rows)), [label for label, _ in rows], fontsize=8)
            ax.tick_params("y", length=0)
            ax.grid(False, axis="y")
        axes.flat[0].invert_yaxis()
        for ax in axes.flat[len(panels) :]:
            ax.set_axis_off()
        _save(figure, file)

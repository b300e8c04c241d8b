"""The report: Markdown with pictures beside it, and the same as one HTML page that holds its pictures."""

import base64
import html
import os
import pathlib
import re
import time

import markdown

from tfvae.command import replace_folder
from tfvae.studies import chapters, runner

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; }
h1, h2, h3 { line-height: 1.25; } h2 { margin-top: 2.2em; border-bottom: 1px solid var(--line); }
.table { overflow-x: auto; margin: 1em 0; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: .25em .7em; border-bottom: 1px solid var(--line); white-space: nowrap; }
td:last-child:not([style*="right"]) { white-space: normal; min-width: 12em; }
th { text-align: left; vertical-align: bottom; white-space: normal; background: var(--soft); }
img { max-width: 100%; height: auto; background: white; border-radius: 4px; }
code { background: var(--soft); padding: 0 .25em; border-radius: 3px; overflow-wrap: anywhere; }
"""


def write(study, found, command, notes):
    """Writes `report/` anew, beside, then renamed; waits for another process of this machine that is writing it.

    Args:
        study: `plan.Study`. found: `results.Found`. command: that made it, and notes: sentences, for the reader.

    Returns:
        The Markdown file.

    Raises:
        UserError: what is there is not a report alone.
    """
    while True:
        with runner.lock(study.output_dir, "report") as held:
            if held is not None:
                with replace_folder(study.report_dir, "output_dir", foreign) as beside:
                    text = chapters.write(study, found, command, notes, beside)
                    (beside / "report.md").write_text(text, encoding="utf-8")
                    (beside / "report.html").write_text(page(text, beside), encoding="utf-8")
                return study.report_dir / "report.md"
        time.sleep(runner.POLL_SECONDS)


def foreign(folder):
    """Names of what lies in a folder and is not of a report that `write` wrote: all of them where it holds none."""
    names = set(os.listdir(folder))
    try:
        text = (pathlib.Path(folder) / "report.md").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return names
    if not text.startswith(f"{chapters.TITLE}\n"):
        return names
    return names - {"report.md", "report.html", *re.findall(r"\]\(([^()]+)\)", text)}


def page(text, folder):
    """One HTML page of Markdown whose pictures lie in `folder`: they are put into it."""
    body = markdown.markdown(text, extensions=["tables", "toc", "sane_lists"])
    body = re.sub(r"(<table>.*?</table>)", r'<div class="table">\1</div>', body, flags=re.DOTALL)

    def inline(match):
        file = pathlib.Path(folder) / html.unescape(match[1])
        kind = "jpeg" if file.suffix == ".jpg" else file.suffix[1:]
        return f'src="data:image/{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"'

    body = re.sub(r'src="([^":]+)"', inline, body)
    title = html.escape(text.splitlines()[0].lstrip("# "))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>\n'
        f"<body>\n{body}\n</body></html>\n"
    )

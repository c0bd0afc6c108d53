"""One HTML page that needs nothing else: figures as data: URIs, styles inline, no script, nothing fetched."""
import base64
from html import escape

STYLE = """
:root { color-scheme: light dark; --line: #d0d0d0; --soft: #666; }
@media (prefers-color-scheme: dark) { :root { --line: #444; --soft: #aaa; } img { filter: brightness(0.88); } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
.soft, figcaption { color: var(--soft); } figure { margin: 0.5rem 0; }
img { max-width: 100%; height: auto; background: white; border-radius: 4px; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.15rem 0.9rem 0.15rem 0; text-align: left; border-bottom: 1px solid var(--line); }
th:last-child, td:last-child { padding-right: 0; }
@media (max-width: 30rem) { table { font-size: 0.88rem; } th, td { padding-right: 0.5rem; } }
td.n, th.n { text-align: right; } pre { overflow-x: auto; }
"""


def html(title, subtitle, sections):
    """A page: sections are (heading, list of blocks), each block HTML made by the functions below."""
    body = "".join(f"<section><h2>{escape(head)}</h2>{''.join(blocks)}</section>\n" for head, blocks in sections)
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body><h1>{escape(title)}</h1>"
            f'<p class="soft">{escape(subtitle)}</p>\n{body}</body></html>\n')


def picture(png, caption):
    """A figure from PNG bytes with its caption."""
    data = base64.b64encode(png).decode()
    return (f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{data}">'
            f"<figcaption>{escape(caption)}</figcaption></figure>")


def table(rows, header=None):
    """Rows of cells; numbers, and - for none, are set right. The last cell of a row may be a remark."""
    def cell(value, tag="td"):
        number = value == "-" or isinstance(value, int | float) and not isinstance(value, bool)
        text = f"{value:.2f}" if isinstance(value, float) else str(value)
        return f'<{tag}{" class=n" if number else ""}>{escape(text)}</{tag}>'
    numeric = [isinstance(v, int | float) for v in rows[0]]
    head = "" if header is None else "<tr>" + "".join(
        f'<th{" class=n" if n else ""}>{escape(h)}</th>' for h, n in zip(header, numeric)) + "</tr>"
    return (f'<div class="scroll"><table>{head}'
            + "".join("<tr>" + "".join(cell(v) for v in row) + "</tr>" for row in rows) + "</table></div>")


def pointer(text, target, command):
    """A line that leads to a page beside this one, or, where there is none (None), names the command that writes it."""
    end = f"<code>{escape(command)}</code>" if target is None else f'<a href="{escape(target)}">{escape(target)}</a>'
    return f'<p class="soft">{escape(text)}{end}</p>'


def folded(summary, text):
    """Text that opens on a click."""
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>"

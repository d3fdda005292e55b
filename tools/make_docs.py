"""Make the documentation: the pages of docs/ as HTML, and the reference from the docstrings. Usage: make_docs.py OUT"""

import os
import re
import sys
import warnings
from functools import partial
from pathlib import Path

import pdoc
from markdown2 import markdown

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "DESIGN.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES += [ROOT / "SECURITY.md", ROOT / "CHANGELOG.md"]
FRAME = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.55 system-ui; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }}
pre {{ overflow-x: auto; font-size: .8125rem; padding: .8rem; border: 1px solid #8884; border-radius: 8px; }}
table {{ border-collapse: collapse; }}
th, td {{ text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #8884; vertical-align: top; }}
nav a {{ margin-right: 1rem; }}
</style><nav>{links}</nav><main>{body}</main></html>"""


def name_of(page: Path) -> str:
    return "index.html" if page.name == "README.md" else page.with_suffix(".html").name


def title_of(page: Path) -> str:
    return page.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")


def lead(page: Path, link: re.Match[str]) -> str:
    """The same link from where the page is put: to another page, or to a file of the source tree."""
    path, hash_, part = link[1].partition("#")
    target = (page.parent / path).resolve()
    if not path or "://" in path:
        return link[0]
    if not target.exists():
        sys.exit(f"{page.relative_to(ROOT)} leads to {path}, which is not there")
    return f'href="{name_of(target) if target in PAGES else os.path.relpath(target, out)}{hash_}{part}"'


# What only type checkers know can't be evaluated; annotations are then shown as they are written, which is shorter.
warnings.filterwarnings("ignore", module=r"pdoc\.doc_types")
out = Path(sys.argv[1]).resolve()
pdoc.pdoc("portico", output_directory=out / "reference")
links = "".join(f'<a href="{name_of(page)}">{title_of(page)}</a>' for page in PAGES)
links += '<a href="reference/portico.html">Reference</a>'
for page in PAGES:
    body = markdown(page.read_text(encoding="utf-8"), extras=["tables", "fenced-code-blocks", "header-ids"])
    body = re.sub(r'href="([^"]+)"', partial(lead, page), body)
    (out / name_of(page)).write_text(FRAME.format(title=title_of(page), links=links, body=body), encoding="utf-8")
print(f"open {out / 'index.html'}")

"""Write the tables of trained figures in README and docs from the results in docs/experiments.

    python benchmarks/tables.py            # writes what differs, and says which pages
    python benchmarks/tables.py --check    # writes nothing; ends with 1 if a page differs

A table stands between `<!-- table: NAME -->` and `<!-- end -->`, and is written there only. Results are added by the
command that the page names, and go on from what is there.
"""

import re
import sys
from typing import Annotated

import typer
from environments import HERE
from page_tables import accuracy, hardware, lfp_paper, mdfa_paper, speed

ROOT = HERE.parent
TABLE = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->\n)", re.DOTALL)
PAGES = [ROOT / "README.md", ROOT / "hardware" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# each is written where a page has a place for it
TABLES = accuracy.TABLES | speed.TABLES | hardware.TABLES | lfp_paper.TABLES | mdfa_paper.TABLES


def written(text: str) -> str:
    """Return the text of a page with its tables made anew."""
    return TABLE.sub(lambda found: f"{found[1]}\n{TABLES[found[2]]()}{found[3]}", text)


def main(check: Annotated[bool, typer.Option(help="Write nothing; end with 1 if a page differs.")] = False) -> None:
    """Write all tables."""
    differ = False
    for page in PAGES:
        before = page.read_text()
        after = written(before)
        if after != before:
            differ = True
            print(page.relative_to(ROOT))
            if not check:
                page.write_text(after)
    sys.exit(int(check and differ))


if __name__ == "__main__":
    typer.run(main)

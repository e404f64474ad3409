"""Record conditional branches of programs for `run.py`; Linux on an x86-64 processor, with gcc.

python examples/branch_prediction/record.py                             this folder's traces, made anew
python examples/branch_prediction/record.py --name mine -- PROGRAM ...  one of your own, traces/mine.npz
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from traces import FOLDER, Trace, TraceError, save

COUNT = 200_000
TEXT = "/usr/share/common-licenses/GPL-3"
SOURCE = Path(__file__).with_name("stepper.c")
QUEENS = """
def place(row, columns, up, down):
    if row == 9:
        return 1
    found = 0
    for column in range(9):
        if column not in columns and row + column not in up and row - column not in down:
            found += place(row + 1, columns | {column}, up | {row + column}, down | {row - column})
    return found
open("/dev/null").close()
print(place(0, frozenset(), frozenset(), frozenset()))
"""
TABLES = """
create table t(a integer, b text);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 3000)
insert into t select i * 7919 % 3001, 'w' || (i * 31 % 97) from n;
create index u on t(b);
select b, count(*), sum(a) from t where a % 3 > 0 group by b order by 3 desc limit 9;
select count(*) from t x join t y on x.a = y.a + 1 where x.b < y.b;
"""
COUNT_WORDS = "{ for (i = 1; i <= NF; i++) n[tolower($i)]++ } END { for (w in n) if (n[w] > 3) print n[w], w }"
SWAP_WORDS = "while (<>) { s/(\\w+) (\\w+)/$2 $1/g; for (split /\\W+/) { $n{lc $_}++ if /^[a-m]/ } } END { print %n }"


class Recipe(NamedTuple):
    """What is run, the system calls before its own work begins, and what it reads."""

    command: list[str]
    skip: int = 0
    text: str = ""


# `words`, `source.c` and `cc1` are what `write_inputs` makes
RECIPES = {
    "awk": Recipe(["mawk", COUNT_WORDS, TEXT], 5),
    "bc": Recipe(["bc", "-l"], 4, "scale=300; 4*a(1)\n"),
    "cc1": Recipe(["./cc1", "-quiet", "-O2", "source.c", "-o", "/dev/null"], 130),
    "grep": Recipe(["grep", "-rcE", "(free|soft)[a-z]*.*(copy|right)", str(Path(TEXT).parent)], 15),
    "gzip": Recipe(["gzip", "-9", "-c", TEXT], 14),
    "perl": Recipe(["perl", "-e", SWAP_WORDS, TEXT], 52),
    "python": Recipe(["/usr/bin/python3", "-Sc", QUEENS], 175),
    "sort": Recipe(["sort", "words"], 42),
    "sqlite": Recipe(["sqlite3"], 28, TABLES),
    "xz": Recipe(["xz", "-c", TEXT], 42),
}


def build(folder: Path) -> Path:
    """Compile the stepper into a folder and return it.

    Raises:
        TraceError: if there is no gcc, or it fails.
    """
    stepper = folder / "stepper"
    try:
        subprocess.run(["gcc", "-O2", "-o", str(stepper), str(SOURCE)], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise TraceError(f"{SOURCE.name} does not compile, it needs gcc and x86-64 Linux: {error}") from error
    return stepper


def record(stepper: Path, recipe: Recipe, count: int = COUNT, folder: Path | None = None) -> Trace:
    """Run a program under the stepper, which ends it after `count` branches.

    Raises:
        TraceError: if there is no branch, or more different ones than a trace can hold.
    """
    with tempfile.TemporaryDirectory() as spare:
        out = Path(spare) / "branches"
        run = subprocess.run(
            [str(stepper), str(out), str(recipe.skip), str(count), *recipe.command],
            input=recipe.text.encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C", "PYTHONHASHSEED": "0"},
            cwd=folder,
        )
        words = np.fromfile(out, np.uint64) if out.exists() else np.zeros(0, np.uint64)
    program = recipe.command[0]
    if run.returncode or len(words) < 2:
        raise TraceError(f"no branch of {program} was recorded: {run.stderr.decode().strip() or 'it ended before'}")
    addresses, ids = np.unique(words[:-1] >> np.uint64(1), return_inverse=True)
    if len(addresses) > 1 << 16:
        raise TraceError(f"{program} has {len(addresses)} different branches, a trace can hold {1 << 16}")
    taken = (words[:-1] & np.uint64(1)).astype(np.bool_)
    return Trace(addresses, ids.astype(np.uint16), taken, int(words[-1]), " ".join(recipe.command))


def write_inputs(folder: Path) -> None:
    """Make what `RECIPES` need: the words of the text shuffled, a source of forty functions, a link to the compiler."""
    words = Path(TEXT).read_text().split()
    random.Random(0).shuffle(words)
    (folder / "words").write_text("\n".join(words))
    lines = [
        f"int f{i}(int *a, int n) {{ int s = {i}; for (int j = 0; j < n; j++) if (a[j] % {i + 2} == 0) s += a[j] * j; "
        f"else s ^= f{max(i - 1, 0)}(a, j); return s; }}\n"
        for i in range(40)
    ]
    (folder / "source.c").write_text("".join(lines))
    # gcc itself only starts other programs
    compiler = subprocess.run(["gcc", "-print-prog-name=cc1"], capture_output=True, text=True).stdout.strip()
    (folder / "cc1").symlink_to(compiler)


def main() -> None:
    """Record what the command line asks for."""
    parser = argparse.ArgumentParser(description="Record the conditional branches of programs.")
    parser.add_argument("--name", help="of a trace of your own; without it this folder's traces are made anew")
    parser.add_argument("--skip", type=int, default=0, help="system calls to pass before recording starts (default 0)")
    parser.add_argument("--count", type=int, default=COUNT, help=f"branches to record (default {COUNT})")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where traces are written (default traces/)")
    parser.add_argument("--only", nargs="+", choices=RECIPES, help="which of this folder's traces (default all)")
    parser.add_argument("command", nargs="*", help="program and arguments, after --")
    options = parser.parse_args()
    if bool(options.name) != bool(options.command):
        parser.error("a trace of your own needs both --name NAME and -- PROGRAM ARGUMENTS")
    with tempfile.TemporaryDirectory() as spare:
        stepper, inputs = build(Path(spare)), None
        recipes = {options.name: Recipe(options.command, options.skip)}
        if not options.name:
            inputs = Path(spare)
            write_inputs(inputs)
            recipes = {name: RECIPES[name] for name in options.only or RECIPES}
        for name, recipe in recipes.items():
            trace = record(stepper, recipe, options.count, inputs)
            save(options.folder / f"{name}.npz", trace)
            print(
                f"{name}: {len(trace.ids)} branches of {len(trace.addresses)} addresses in {trace.instructions} "
                f"instructions, {trace.taken.mean():.0%} taken",
                flush=True,
            )


if __name__ == "__main__":
    try:
        main()
    except (TraceError, OSError) as error:
        sys.exit(str(error))

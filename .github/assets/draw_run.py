"""Draws the README's picture of a run: `python .github/assets/draw_run.py` asks the README's question for real.

Reads the command from the README, so that picture and text cannot disagree. Extra arguments are passed on to the command.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text

ROOT = Path(__file__).resolve().parents[2]
WIDTH = 116


def main() -> None:
    """Ask, colour and write run.svg."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    command = re.search(r"^pip install \. && (lensgraph ask .*)$", readme, flags=re.MULTILINE)
    if command is None:
        sys.exit("README.md: no line 'pip install . && lensgraph ask ...'; write it back.")
    shown = command.group(1)
    run = [sys.executable, "-m", "lensgraph", *shlex.split(shown)[1:], *sys.argv[1:]]
    environment = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(WIDTH), "TERM": "xterm-256color"}
    done = subprocess.run(run, capture_output=True, text=True, cwd=ROOT, env=environment, check=True)
    console = Console(record=True, width=WIDTH, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
    console.print(Text.assemble(("$ ", "dim"), shown))
    console.print(Text.from_ansi(done.stdout.rstrip()))
    # The default template fetches a web font; a viewer's own monospace font needs no network.
    template = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    svg = console.export_svg(title="lensgraph", theme=SVG_EXPORT_THEME, code_format=template, unique_id="run")
    (Path(__file__).parent / "run.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()

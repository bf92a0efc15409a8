"""`ranktable`: write, merge, check and draw rank tables, on any host, without an inventory."""

from __future__ import annotations

import typer

from pdinfra.cli import ranktable_gen, ranktable_lint, ranktable_merge, ranktable_show
from pdinfra.cli.vendor_words import ListsCommand, ModeGroup

HELP = "Rank tables; takes the words of the vendor's pd_ranktable_tools.py, --mode too."

app = typer.Typer(help=HELP, no_args_is_help=True, cls=ModeGroup)
app.command(cls=ListsCommand)(ranktable_gen.gen)
app.command(cls=ListsCommand)(ranktable_merge.merge)
app.command(cls=ListsCommand)(ranktable_lint.lint)
app.command()(ranktable_show.show)

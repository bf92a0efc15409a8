"""All verbs together."""

from __future__ import annotations

import typer

from pdinfra.cli import bench, doctor, down, lab, logs, plan, ranktable, schema, status, up, verify

HELP = (
    "Deploy prefill/decode-disaggregated LLM inference on plain hosts. One inventory, one command."
)

app = typer.Typer(help=HELP, no_args_is_help=True, pretty_exceptions_enable=False)
app.command()(plan.plan)
app.command()(up.up)
app.command()(status.status)
app.command()(verify.verify)
app.command()(logs.logs)
app.command()(doctor.doctor)
app.command()(down.down)
app.command()(schema.schema)
app.add_typer(ranktable.app, name="ranktable")
app.add_typer(bench.app, name="bench")
app.add_typer(lab.app, name="lab")


def main() -> None:
    """Run the command line."""
    app(prog_name="python -m pdinfra")

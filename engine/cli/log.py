"""`bn log`: what an artifact's action printed when it ran last."""

from __future__ import annotations

import sys

import click

from engine.cli.options import json_option, open_store, print_json
from engine.cli.steps import past_steps
from store.errors import OK, InputError


@click.command()
@click.argument("names", nargs=-1, metavar="[SPEC] ARTIFACT")
@json_option
def command(names: tuple[str, ...], as_json: bool) -> int:
    """Show the whole log of an artifact's action, of the last one that ran, also if it failed."""
    with open_store() as store:
        steps = past_steps(store, names, "log")
        rows = []
        for step in steps:
            ran = next((past for past in step.history if past.log), None)
            if ran is None or ran.log is None:
                continue
            text = store.cas.get_bytes(ran.log)
            row = {"label": step.label, "build": ran.build, "failed": ran.failed}
            rows.append({**row, "log": text.decode(errors="replace")})
            if not as_json:
                if len(steps) > 1:
                    sys.stdout.write(f"== {step.label}\n")
                    sys.stdout.flush()
                sys.stdout.buffer.write(text)
                sys.stdout.buffer.flush()
        if not rows:
            raise InputError(f"{names[-1]}: it did not run here, so there is no log")
        if as_json:
            print_json(rows)
    return OK

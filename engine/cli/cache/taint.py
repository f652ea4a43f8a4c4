"""`bn cache taint`: all that was built from a bad entry."""

from __future__ import annotations

from typing import Any

import click
from attrs import asdict

from engine.cli.options import configured, json_option, note, open_store, out, print_json
from engine.taint import Tainted, drop, tainted
from store.descent import Because
from store.errors import OK, HostError


@click.command()
@click.argument("entry")
@click.option(
    "--drop",
    "dropping",
    is_flag=True,
    help="Forget these results here, so that they are built again, and refuse them.",
)
@click.option(
    "--remote",
    is_flag=True,
    help="Tell the remote caches to drop and refuse them (needs an admin's token).",
)
@json_option
def command(entry: str, dropping: bool, remote: bool, as_json: bool) -> int:
    """List everything that was built from ENTRY: the digest of an action, a result, a tree or a
    blob, or the name of an artifact or of a step.

    What has the same bytes is taken for the same, so the list is rather too long than too short.
    """
    with open_store() as store, store.lease("taint"):
        bad = tainted(store, entry)
        went = drop(store, bad) if dropping else 0
    told = _tell_remotes(bad) if remote else {}
    if as_json:
        print_json(document(bad) | {"dropped": went, "remotes": told})
    else:
        _show(bad)
        if dropping:
            note(f"{went} entries dropped; what is built here now takes their place")
        for url, answer in told.items():
            note(f"{url}: {answer}")
    if any(not isinstance(answer, int) for answer in told.values()):
        raise HostError("not every remote cache did as it was told")
    return OK


def document(bad: Tainted) -> dict[str, Any]:
    """Return the JSON form of what was found."""
    return {
        "entry": bad.entry,
        "kind": bad.kind,
        "actions": [asdict(one) for one in bad.actions],
        "results": list(bad.results),
        "realisations": list(bad.realisations),
        "artifacts": list(bad.artifacts),
        "links": list(bad.links),
        "builds": list(bad.builds),
        "strangers": bad.strangers,
        "unknown": list(bad.unknown),
    }


def _show(bad: Tainted) -> None:
    out(f"{bad.kind} {bad.entry}")
    for one in bad.actions:
        labels = ", ".join(one.labels) or "(no build here knows its name)"
        out(f"action   {one.action}  {labels}")
        if one.because is not None:
            out(f"         {_words(one.because)}")
    for result in bad.results:
        out(f"result   {result}")
    for artifact in bad.artifacts:
        out(f"artifact {artifact}")
    for link in bad.links:
        out(f"link     {link}")
    for build in bad.builds:
        out(f"build    {build}")
    note(
        f"{len(bad.actions)} actions, {len(bad.results)} results, "
        f"{len(bad.realisations)} realisations, {len(bad.builds)} builds"
    )
    if bad.strangers:
        note(
            f"{bad.strangers} results came from elsewhere without what they were made of: "
            "whether they are among them only shows where they were built"
        )
    if bad.unknown:
        note(f"of {len(bad.unknown)} trees it is not known here what is in them")


def _words(because: Because) -> str:
    origin = f"of action {because.action[:16]}" if because.action else "the entry"
    return f"because of {because.path} in its {because.where}: {because.content[:16]}, {origin}"


def _tell_remotes(bad: Tainted) -> dict[str, Any]:
    """Return what each remote said: how many entries it dropped, or what is wrong."""
    _, config = configured()
    if config.cache is None or not config.cache.remotes:
        raise HostError("no remote cache is configured", "see [[cache.remotes]]")
    from engine.remote.tainting import tell

    digests = [bad.entry, *bad.results, *bad.realisations]
    return {spec.base: tell(spec, digests) for spec in config.cache.remotes}

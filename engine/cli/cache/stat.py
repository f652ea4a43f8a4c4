"""`bn cache stat`: hit rates and saved time, of the builds here or of a server."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Final

import click
from attrs import asdict, define

from engine.cli.options import json_option, open_store, out, print_json
from engine.timeline.saved import Saved, saved
from engine.units import show_duration, show_size
from store.errors import OK, HostError, InputError

TOKEN: Final = "BN_CACHE_TOKEN"

_TIMEOUT: Final = 10.0
_COLUMNS: Final = ("name space", "protocol", "hits", "misses", "rate", "stored", "in", "out")
_COUNTERS: Final = {
    "bn_hits_total": "hits",
    "bn_misses_total": "misses",
    "bn_stored_total": "stored",
    "bn_received_bytes_total": "received",
    "bn_sent_bytes_total": "sent",
}
_HELD: Final = {
    "bn_entries": "entries",
    "bn_entries_bytes": "bytes",
    "bn_quota_bytes": "quota",
    "bn_evicted_entries_total": "evicted",
    "bn_saved_seconds_total": "saved",
}


@define
class Protocol:
    """What one protocol did in one name space: requests, and bytes on the wire."""

    hits: int = 0
    misses: int = 0
    stored: int = 0
    received: int = 0
    sent: int = 0

    @property
    def rate(self) -> float:
        """The share of the look-ups that were hits, 0 where there were none."""
        return self.hits / max(1, self.hits + self.misses)


@click.command()
@click.option("--remote", metavar="URL", help="Ask this server instead of the store here.")
@click.option("--last", metavar="N", type=click.IntRange(1), help="Look at the last N builds only.")
@click.option("--ca", metavar="FILE", help="Trust this certificate authority (with --remote).")
@json_option
def command(remote: str | None, last: int | None, ca: str | None, as_json: bool) -> int:
    """Show how often the cache had what was needed, and the time that this saved.

    For the store here: of the recorded builds, which do not hold those that found all up to date
    at once. A cached step saves what it took when it last ran, here or where a remote's result was
    built; what lies below it and was not even looked at is not counted. With --remote: what the
    server counted since it was started; where it asks for a token, BN_CACHE_TOKEN has it.
    """
    if remote is not None and last is not None:
        raise click.UsageError("--last counts builds here: it does not go with --remote")
    if remote is not None:
        return _remote(remote.rstrip("/"), ca, as_json)
    with open_store() as store:
        found = saved(store.root, store.index, last)
        root = store.root
    if as_json:
        print_json({"path": str(root), **asdict(found), "rate": round(found.rate, 4)})
        return OK
    for line in local_lines(str(root), found):
        out(line)
    return OK


def local_lines(path: str, found: Saved) -> Iterator[str]:
    """Yield what is shown of the builds here."""
    if not found.builds:
        yield f"{path}: no builds are recorded"
        return
    day = found.first
    plural = "s" if found.builds != 1 else ""
    yield f"{path}: {found.builds} build{plural} since {day[:4]}-{day[4:6]}-{day[6:8]}"
    steps = found.cached + found.ran
    failed = f", {found.failed} failed" if found.failed else ""
    where = f", {found.remote} of them by remote caches" if found.remote else ""
    share = f"{found.cached} cached ({found.rate:.1%}{where})"
    yield f"steps  {steps}: {share}, {found.ran} ran{failed}"
    unknown = found.cached - found.known
    note = f" (nobody knows what {unknown} took: not counted)" if unknown else ""
    whole = show_duration(found.saved + found.spent)
    where = f", {show_duration(found.saved_remote)} of it by remote caches" if found.remote else ""
    least = "at least " if found.cached else ""
    yield f"saved  {least}{show_duration(found.saved)} of {whole}{where}{note}"


def _remote(url: str, ca: str | None, as_json: bool) -> int:
    protocols, held, server = read_metrics(_fetched(f"{url}/metrics", ca))
    if as_json:
        print_json(
            {
                "url": url,
                **server,
                "protocols": [
                    {
                        "name_space": name_space,
                        "protocol": adapter,
                        **asdict(row),
                        "rate": round(row.rate, 4),
                    }
                    for (name_space, adapter), row in sorted(protocols.items())
                ],
                "name_spaces": {name: held[name] for name in sorted(held)},
            }
        )
        return OK
    up = show_duration(max(0.0, time.time() - server["started"]))
    out(f"{url}: bn {server['version']}, up {up}, {server['requests']} requests")
    rows = [
        (
            *(name_space, adapter, f"{row.hits}", f"{row.misses}", f"{row.rate:.1%}"),
            *(f"{row.stored}", show_size(row.received), show_size(row.sent)),
        )
        for (name_space, adapter), row in sorted(protocols.items())
        if row.hits or row.misses or row.stored
    ]
    for line in table([_COLUMNS, *rows] if rows else []):
        out(line)
    for name, values in sorted(held.items()):
        out(_held_line(name, values))
    return OK


def _held_line(name: str, values: dict[str, float]) -> str:
    text = f"{name}: {values.get('entries', 0):.0f} entries, {show_size(values.get('bytes', 0))}"
    if "quota" in values:
        text += f" of {show_size(values['quota'])}"
    if values.get("evicted"):
        text += f", {values['evicted']:.0f} evicted"
    if values.get("saved"):
        text += f", {show_duration(values['saved'])} saved"
    return text


def table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Yield rows with their columns aligned, the first two to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            f"{cell:<{width}}" if index < 2 else f"{cell:>{width}}"
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def read_metrics(
    text: str,
) -> tuple[dict[tuple[str, str], Protocol], dict[str, dict[str, float]], dict[str, Any]]:
    """Return what a server's `/metrics` says: by name space and protocol, by name space, of the
    server as a whole. Raises InputError where it is something else."""
    from prometheus_client.parser import text_string_to_metric_families

    protocols: defaultdict[tuple[str, str], Protocol] = defaultdict(Protocol)
    held: defaultdict[str, dict[str, float]] = defaultdict(dict)
    server: dict[str, Any] = {"version": "", "started": 0.0, "requests": 0}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = sample.labels
                if name := _COUNTERS.get(sample.name):
                    row = protocols[labels["name_space"], labels["adapter"]]
                    setattr(row, name, int(sample.value))
                elif name := _HELD.get(sample.name):
                    held[labels["name_space"]][name] = sample.value
                elif sample.name == "bn_requests_total":
                    server["requests"] += int(sample.value)
                elif sample.name == "bn_build_info":
                    server["version"] = labels["version"]
                elif sample.name == "bn_start_time_seconds":
                    server["started"] = sample.value
    except (ValueError, KeyError) as error:
        raise InputError(f"what came are no metrics: {error}") from error
    if not server["version"]:
        raise InputError("what came are not the metrics of a bn server", "give the server's URL")
    return dict(protocols), dict(held), server


def _fetched(url: str, ca: str | None) -> str:
    """Return what is at the URL. Raises HostError, InputError."""
    import ssl

    import httpx

    token = os.environ.get(TOKEN)
    headers = {"authorization": f"Bearer {token}"} if token else {}
    try:
        verify = ssl.create_default_context(cafile=ca) if ca else True
        answer = httpx.get(url, headers=headers, timeout=_TIMEOUT, verify=verify)
    except (httpx.HTTPError, OSError) as error:
        raise HostError(f"{url}: {error}", "is the server running there?") from error
    except (httpx.InvalidURL, ValueError) as error:
        raise InputError(f"{url}: {error}") from error
    if answer.status_code in (401, 403):
        raise InputError(f"{url}: {answer.text.strip()}", f"set {TOKEN} to a token that may read")
    if answer.status_code != 200:
        raise InputError(f"{url}: answers {answer.status_code}", "give the server's URL")
    return answer.text

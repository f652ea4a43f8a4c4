"""Nobody keeps others' results or signatures out by storing many of his own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
from hypothesis import given
from hypothesis import strategies as st

from engine.http.candidates import MOST, MOST_OF_ALL, shared_out, writer_of
from engine.http.hooks import Open
from engine.http.message import Identity, Scope
from store.store import Store
from tests.engine.http.serving import Sample, put, put_blobs, served, signature


class Named(Open):
    """Takes everybody for who he says he is."""

    def identify(self, headers: Mapping[str, str], certificate: object) -> Identity:
        return Identity(headers.get("x-name", ""), Scope.ADMIN)


def sample(number: int) -> Sample:
    """Return one of many results of the same action."""
    return Sample("one", log=f"log {number}")


def by(client: httpx.AsyncClient, name: str) -> httpx.AsyncClient:
    client.headers["x-name"] = name
    return client


async def results(client: httpx.AsyncClient) -> list[Any]:
    answer = await client.get(f"/bn/v1/actions/{sample(0).action}")
    assert answer.status_code == 200
    found: list[Any] = answer.json()["results"]
    return found


async def test_a_writer_has_eight_and_others_are_still_seen(store: Store) -> None:
    samples = [sample(number) for number in range(MOST + 2)]
    async with served(store, gate=Named()) as client:
        await put_blobs(by(client, "liar"), [blob for one in samples for blob in one.blobs])
        said = await put(client, "actions", *(one.candidate() for one in samples[: MOST + 1]))
        assert said["stored"] == MOST
        assert [one["digest"] for one in said["refused"]] == [samples[0].action]
        lies = await results(client)
        assert lies == [one.candidate() for one in samples[:MOST]]

        truth = samples[MOST + 1].candidate("ci")
        assert (await put(by(client, "ci"), "actions", truth))["stored"] == 1
        assert await results(client) == [*lies[:-1], truth], "the eighth of one made room"
        assert (await put(by(client, "liar"), "actions", truth))["stored"] == 1, "it is there"
        assert (await put(client, "actions", samples[MOST].candidate()))["stored"] == 0


async def test_realisations_are_shared_out_as_well(store: Store) -> None:
    async with served(store, gate=Named()) as client:
        samples = [Sample("one", {"file": b"%d" % number}) for number in range(MOST + 1)]
        await put_blobs(client, [blob for one in samples for blob in one.blobs])
        for one in samples[:MOST]:
            said = await put(by(client, "liar"), "realisations", one.realised())
            assert said["stored"] == 1, said
        truth = samples[MOST].realised()
        assert (await put(client, "realisations", truth))["refused"], "the liar's ninth"
        assert (await put(by(client, "ci"), "realisations", truth))["stored"] == 1
        answer = await client.get(f"/bn/v1/realisations/{samples[0].recipe}")
        assert truth in answer.json()["realisations"]


async def test_signatures_are_not_kept_out_by_rubbish(store: Store) -> None:
    one = sample(0)
    async with served(store, gate=Named()) as client:
        await put_blobs(by(client, "liar"), one.blobs)
        for some in range(4):
            keys = [f"rubbish-{some}-{number}" for number in range(MOST)]
            assert (await put(client, "actions", one.candidate(*keys)))["stored"] == 1
        rows = store.entries().find_under("default", "action", [one.action])[one.action]
        assert len(rows) == 1 + MOST
        assert (await put(by(client, "ci"), "actions", one.candidate("ci")))["stored"] == 1
        (found,) = await results(client)
        assert len(found["signatures"]) == MOST
        assert signature("ci") in found["signatures"]


async def test_all_together_have_a_bound(store: Store) -> None:
    samples = [sample(number) for number in range(MOST_OF_ALL + 1)]
    async with served(store, gate=Named()) as client:
        await put_blobs(client, [blob for one in samples for blob in one.blobs])
        for number, one in enumerate(samples):
            said = await put(by(client, f"writer {number}"), "actions", one.candidate())
            assert said["stored"] == (number < MOST_OF_ALL)
        assert len(await results(client)) == MOST


@given(st.lists(st.sampled_from([None, "a", "b", "c"])))
def test_sharing_out(writers: list[str | None]) -> None:
    rows = list(enumerate(writers))
    chosen = shared_out(rows, lambda row: row[1])
    assert chosen == sorted(chosen)
    assert len(chosen) == min(MOST, len(rows))
    for left in set(rows) - set(chosen):
        mine = sum(row[1] == left[1] for row in chosen)
        assert mine, "each writer has his first"
        others = [sum(row[1] == one for row in chosen) for one in set(writers)]
        assert max(others) <= mine + 1
        assert all(row < left for row in chosen if row[1] == left[1]), "the oldest of each"


def test_writers_without_a_name_are_told_apart_by_address() -> None:
    assert writer_of("", "192.0.2.1") != writer_of("", "192.0.2.2")
    assert writer_of("ci", "192.0.2.1") == writer_of("ci", "192.0.2.2")

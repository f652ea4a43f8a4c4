"""bn's own protocol over a real connection: results, realisations and closures."""

from __future__ import annotations

import json
import os
from typing import Any

import httpx
import pytest
import trio

from engine.http.bn.actions import ACTION_MOST, ALL_MOST
from engine.http.bn.rows import BLOB
from store.digest import digest_bytes
from store.encoding import encode
from store.objects import Action, ActionResult
from store.store import Store
from tests.engine.http.serving import (
    ABSENT,
    Sample,
    asked,
    framed,
    put,
    put_blobs,
    served,
    signature,
    stored,
)


async def test_a_result_comes_back(store: Store) -> None:
    one = Sample("one")
    path = f"/bn/v1/actions/{one.action}"
    async with served(store) as client:
        assert (await client.get(path)).status_code == 404
        await put_blobs(client, one.blobs)
        assert (await client.put(path, json=one.candidate("ci"))).json() == {"stored": 1}
        assert (await client.get(path)).json() == {"results": [one.candidate("ci")]}
        assert (await client.head(path)).status_code == 200
    async with served(store) as client:
        assert (await client.get(path)).json() == {"results": [one.candidate("ci")]}


async def test_a_realisation_comes_back_with_its_result(store: Store) -> None:
    one, two = Sample("one"), Sample("two")
    path = f"/bn/v1/realisations/{one.recipe}"
    async with served(store) as client:
        assert (await client.get(path)).status_code == 404
        await put_blobs(client, [*one.blobs, *two.blobs])
        assert (await client.put(path, json=one.realised("ci"))).json() == {"stored": 1}
        assert await put(client, "realisations", two.realised()) == {"stored": 1, "refused": []}
        assert (await client.get(path)).json() == {"realisations": [one.realised("ci")]}
        assert await asked(client, "realisations:get", ABSENT, one.recipe, two.recipe) == {
            "realisations": {one.recipe: [one.realised("ci")], two.recipe: [two.realised()]}
        }
        found = await asked(client, "actions:get", one.action)
        assert found == {"actions": {one.action: [one.candidate()]}}


async def test_many_results_take_one_request_each_way(store: Store) -> None:
    samples = [Sample(f"number {number}") for number in range(1001)]
    async with served(store) as client:
        await stored(client, *samples)
        found = await asked(client, "actions:get", ABSENT, *(one.action for one in samples))
        assert found == {"actions": {one.action: [one.candidate()] for one in samples}}
        closure = await asked(client, "closures:get", *(one.tree for one in samples))
        assert closure["missing"] == []
        assert len(closure["trees"]) == 2 * len(samples)
        wanted = {"digests": [digest for digest, _ in closure["blobs"]]}
        answer = await client.post("/bn/v1/blobs:get", json=wanted)
        blobs = framed(answer.content)
        assert {digest: len(blob) for digest, blob in blobs.items()} == dict(closure["blobs"])


async def test_a_result_needs_all_that_it_names(store: Store) -> None:
    one = Sample("one", {"a": b"a" * 10, "b": b"b" * 300_000}, log="said")
    path = f"/bn/v1/actions/{one.action}"
    async with served(store) as client:
        for number, blob in enumerate(one.blobs):
            others = [other for other in one.blobs if other != blob]
            base = f"/ns/space{number}"
            await put_blobs(client, others, base)
            answer = await client.put(f"{base}{path}", json=one.candidate())
            assert answer.status_code == 409
            assert answer.json()["missing"] == [digest_bytes(blob)]
            two = Sample("two")
            await put_blobs(client, two.blobs, base)
            said = await put(client, "actions", one.candidate(), two.candidate(), base=base)
            assert said["stored"] == 1
            assert said["refused"][0]["digest"] == one.action
            assert said["refused"][0]["missing"] == [digest_bytes(blob)]
            said = await put(client, "realisations", one.realised(), base=base)
            assert said["refused"][0]["missing"] == [digest_bytes(blob)]
            assert (await client.get(f"{base}{path}")).status_code == 404
            await put_blobs(client, [blob], base)
            assert (await client.put(f"{base}{path}", json=one.candidate())).status_code == 200


@pytest.mark.parametrize("hot_bytes", [0, 2**20])
async def test_a_result_is_a_miss_once_something_is_gone(store: Store, hot_bytes: int) -> None:
    one = Sample("one", {"a": b"a" * 10, "b": b"b" * 300_000}, log="said")
    async with served(store, hot_bytes=hot_bytes) as client:
        for blob in one.blobs:
            await stored(client, one)
            await put(client, "realisations", one.realised())
            assert (await asked(client, "actions:get", one.action))["actions"]
            row = store.entries().find("default", BLOB, digest_bytes(blob))
            assert row is not None
            store.entries().remove([row])
            assert not (await asked(client, "actions:get", one.action))["actions"]
            assert not (await asked(client, "realisations:get", one.recipe))["realisations"]
            found = await asked(client, "closures:get", one.tree)
            whole = digest_bytes(blob) == one.result.log
            assert (found["missing"] == []) is whole
            assert (one.tree in found["trees"]) is whole


async def test_a_lost_file_makes_a_miss(store: Store) -> None:
    one = Sample("one", {"b": b"b" * 300_000})
    async with served(store) as client:
        await stored(client, one)
        assert (await asked(client, "actions:get", one.action))["actions"]
        os.unlink(store.cas.path(digest_bytes(b"b" * 300_000)))
        assert not (await asked(client, "actions:get", one.action))["actions"]


async def test_a_hit_is_a_use_of_all_that_it_names(store: Store) -> None:
    one, two = Sample("one"), Sample("two")
    entries = store.entries()
    async with served(store) as client:
        await stored(client, one, two)
        size = entries.usage("default").bytes
        await trio.sleep(0.01)
        await asked(client, "actions:get", one.action)
        entries.evict("default", size // 2 + 100)
        assert (await asked(client, "actions:get", one.action))["actions"]
        assert not (await asked(client, "actions:get", two.action))["actions"]


async def test_what_a_result_took_comes_with_it(store: Store) -> None:
    one = Sample("one")
    async with served(store) as client:
        await put_blobs(client, one.blobs)
        for seconds in (2.5, 7):
            answer = await client.put(
                f"/bn/v1/actions/{one.action}", json=one.candidate("ci", seconds=seconds)
            )
            assert answer.status_code == 200
        answer = await client.put(f"/bn/v1/realisations/{one.recipe}", json=one.realised())
        assert answer.status_code == 200
        (found,) = (await client.get(f"/bn/v1/actions/{one.action}")).json()["results"]
        assert found["seconds"] == 2.5
        made = await asked(client, "realisations:get", one.recipe)
        (realised,) = made["realisations"][one.recipe]
        assert realised["results"] == [found]


async def test_an_action_comes_with_what_is_found_by_recipe(store: Store) -> None:
    action = Action(command=("sh", "-c", "ünïcode"), input_root=ABSENT, env={"A": "b"})
    one, odd = Sample("one", action=action), Sample("odd")
    async with served(store) as client:
        await put_blobs(client, [*one.blobs, *odd.blobs])
        said = await put(client, "realisations", one.realised(), odd.realised())
        assert said == {"stored": 2, "refused": []}

        async def results() -> list[Any]:
            found = (await asked(client, "realisations:get", one.recipe, odd.recipe))[
                "realisations"
            ]
            return [found[sample.recipe][0]["results"][0] for sample in (one, odd)]

        assert await results() == [one.candidate(), odd.candidate()]
        await put_blobs(client, [one.made_of, odd.made_of])
        assert await results() == [one.candidate(action=action.document()), odd.candidate()]
        answer = await client.get(f"/bn/v1/actions/{one.action}")
        assert answer.json() == {"results": [one.candidate()]}
        assert await asked(client, "realisations:get", one.recipe, base="/ns/other") == {
            "realisations": {}
        }


async def test_large_actions_stay_where_they_are(store: Store) -> None:
    samples = [
        Sample(f"{number}", action=Action(command=(f"{number}", "x" * size), input_root=ABSENT))
        for number, size in enumerate([ACTION_MOST, *[ACTION_MOST // 2] * 200])
    ]
    async with served(store) as client:
        for one in samples:
            await put_blobs(client, [*one.blobs, one.made_of])
        await put(client, "realisations", *(one.realised() for one in samples))
        found = await asked(client, "realisations:get", *(one.recipe for one in samples))
        results = [found["realisations"][one.recipe][0]["results"][0] for one in samples]
        brought = [len(one.made_of) for one in samples if "action" in results.pop(0)]
        assert len(brought) > 100
        assert max(brought) < ACTION_MOST
        assert sum(brought) <= ALL_MOST


@pytest.mark.parametrize("seconds", [-1, True, "1", None, 1e10, 10**400, [1]])
async def test_seconds_that_are_none_are_refused(store: Store, seconds: object) -> None:
    one = Sample("one")
    async with served(store) as client:
        await put_blobs(client, one.blobs)
        answer = await client.put(
            f"/bn/v1/actions/{one.action}", json=one.candidate(seconds=seconds)
        )
        assert answer.status_code == 400


async def test_other_results_stand_beside_the_first(store: Store) -> None:
    first = Sample("one")
    others = [Sample("one", {"out.txt": f"{number}".encode()}) for number in range(8)]
    path = f"/bn/v1/actions/{first.action}"
    async with served(store) as client:
        for one in [first, *others]:
            await put_blobs(client, one.blobs)
        for one in [first, *others[:7]]:
            assert (await client.put(path, json=one.candidate())).status_code == 200
        answer = await client.put(path, json=others[7].candidate())
        assert (answer.status_code, answer.json()["missing"]) == (409, [])
        said = await put(client, "actions", others[7].candidate(), first.candidate())
        assert (said["stored"], said["refused"][0]["missing"]) == (1, [])
        found = (await client.get(path)).json()["results"]
        assert found == [one.candidate() for one in [first, *others[:7]]]


async def test_signatures_come_together(store: Store) -> None:
    one = Sample("one")
    path = f"/bn/v1/actions/{one.action}"
    async with served(store) as client:
        await put_blobs(client, one.blobs)
        for keys in (["a"], [], ["b", "a"], ["c"]):
            assert (await client.put(path, json=one.candidate(*keys))).status_code == 200
        answer = await client.get(path)
        assert answer.json() == {"results": [one.candidate("a", "b", "c")]} or sorted(
            one["key"] for one in answer.json()["results"][0]["signatures"]
        ) == ["a", "b", "c"]


async def test_concurrent_clients_lose_nothing(store: Store) -> None:
    samples = [Sample("one", {"out.txt": f"{number}".encode()}) for number in range(4)]
    path = f"/bn/v1/actions/{samples[0].action}"
    async with served(store) as client:
        for one in samples:
            await put_blobs(client, one.blobs)

        async def send(one: Sample, key: str) -> None:
            assert (await client.put(path, json=one.candidate(key))).status_code == 200

        async with trio.open_nursery() as nursery:
            for one in samples:
                for key in ("a", "b", "c"):
                    nursery.start_soon(send, one, key)
        found = (await client.get(path)).json()["results"]
        assert len(found) == 4
        for candidate in found:
            assert sorted(one["key"] for one in candidate["signatures"]) == ["a", "b", "c"]


async def test_documents_may_be_spelled_in_other_ways(store: Store) -> None:
    one = Sample("one")
    spelled = json.dumps(dict(reversed(one.result.document().items())), indent=3)
    async with served(store) as client:
        await put_blobs(client, one.blobs)
        answer = await client.put(
            f"/bn/v1/actions/{one.action}", content=f'{{"result": {spelled}}}'.encode()
        )
        assert answer.status_code == 200
        text = (await client.get(f"/bn/v1/actions/{one.action}")).content
        assert one.result.encode() in text


WRONG: list[Any] = [
    None,
    [],
    {},
    {"result": None},
    {"result": {}},
    {"result": {"_": "result.1"}},
]


def wrong_candidates() -> list[Any]:
    """Return candidates that are no good, of the sample `one`."""
    good = Sample("one").candidate("a")
    document = good["result"]
    changed = [
        {**document, "_": "result.2"},
        {**document, "more": 1},
        {**document, "log": None},
        {**document, "log": "x"},
        {**document, "outputs": document["outputs"].upper()},
        {**document, "observed": "path"},
        {**document, "observed": [1]},
        {**document, "observed": [""]},
        {**document, "observed": ["\ud800"]},
        {name: value for name, value in document.items() if name != "observed"},
    ]
    signatures: list[Any] = [
        None,
        "x",
        [None],
        [{"key": "a"}],
        [{"key": "", "signature": signature("a")["signature"]}],
        [{"key": "a b", "signature": signature("a")["signature"]}],
        [{"key": "a", "signature": "x"}],
        [{**signature("a"), "more": 1}],
        [signature(str(number)) for number in range(9)],
    ]
    return [
        *WRONG,
        {**good, "more": 1},
        *({**good, "result": one} for one in changed),
        *({**good, "signatures": one} for one in signatures),
    ]


async def test_malformed_candidates_are_refused(store: Store) -> None:
    one, two = Sample("one"), Sample("two")
    async with served(store) as client:
        await put_blobs(client, [*one.blobs, *two.blobs])
        for wrong in wrong_candidates():
            await refused(client, one, two, wrong)
        assert (await asked(client, "actions:get", one.action, two.action)) == {"actions": {}}


async def refused(client: httpx.AsyncClient, one: Sample, two: Sample, wrong: Any) -> None:
    realised = {**one.realised(), "results": [wrong]}
    for method, path, body in (
        ("PUT", f"actions/{one.action}", wrong),
        ("POST", "actions:put", {"actions": [two.candidate(), wrong]}),
        ("PUT", f"realisations/{one.recipe}", realised),
        ("POST", "realisations:put", {"realisations": [two.realised(), realised]}),
    ):
        content = json.dumps(body).encode()
        answer = await client.request(method, f"/bn/v1/{path}", content=content)
        assert answer.status_code == 400, (path, answer.text)


async def test_a_document_belongs_under_its_own_key(store: Store) -> None:
    one, two = Sample("one"), Sample("two")
    async with served(store) as client:
        await put_blobs(client, [*one.blobs, *two.blobs])
        answer = await client.put(f"/bn/v1/actions/{two.action}", json=one.candidate())
        assert (answer.status_code, one.action in answer.json()["error"]) == (400, True)
        answer = await client.put(f"/bn/v1/realisations/{two.recipe}", json=one.realised())
        assert answer.status_code == 400
        mixed = {**one.realised(), "results": [two.candidate()]}
        answer = await client.put(f"/bn/v1/realisations/{one.recipe}", json=mixed)
        assert answer.status_code == 400


def forged(entries: dict[str, Any]) -> bytes:
    return encode({"_": "tree.1", "entries": entries})


FILE = {"file": digest_bytes(b"x"), "size": 1}


@pytest.mark.parametrize(
    "tree",
    [
        forged({"..": FILE}),
        forged({".": FILE}),
        forged({"": FILE}),
        forged({"a/b": FILE}),
        forged({"a\0": FILE}),
        forged({"a": {**FILE, "size": 2}}),
        forged({"a": {**FILE, "size": -1}}),
        forged({"a": {**FILE, "mode": 4095}}),
        forged({"a": {"tree": digest_bytes(b"x")}}),
        forged({"a": {"link": ""}}),
        json.dumps(json.loads(forged({"a": FILE})), indent=1).encode(),
        b"no tree",
        b"",
        b"[" * 100_000,
    ],
)
async def test_a_result_over_something_that_is_no_tree_is_refused(
    store: Store, tree: bytes
) -> None:
    action = digest_bytes(b"action")
    outputs, log = digest_bytes(tree), digest_bytes(b"x")
    result = ActionResult(action=action, outputs=outputs, log=log)
    async with served(store) as client:
        await put_blobs(client, [tree, b"x"])
        answer = await client.put(
            f"/bn/v1/actions/{action}", json={"result": result.document(), "signatures": []}
        )
        assert answer.status_code == 409
        assert (await client.get(f"/bn/v1/closures/{outputs}")).status_code == 404
        found = await asked(client, "closures:get", outputs)
        assert found == {"blobs": [], "trees": {}, "missing": [outputs]}

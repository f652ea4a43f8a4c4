"""Tests of bn's own protocol: closures, name spaces, results of the store's own builds, taint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from engine.http.bn.rows import BLOB
from engine.http.service import Service
from store.digest import Digest, digest_bytes
from store.encoding import encode
from store.objects import ActionResult, Directory, File, Realisation, Tree
from store.store import Store
from tests.engine.http.serving import ABSENT, Sample, asked, framed, put, put_blobs, served, stored


async def test_closures_hold_everything_once(store: Store) -> None:
    one = Sample("one", {"a": b"same", "b": b"same", "c": b"other"})
    empty = Tree()
    async with served(store) as client:
        await put_blobs(client, [*one.blobs, empty.encode()])
        found = (await client.get(f"/bn/v1/closures/{one.tree}")).json()
        assert {encode(document) for document in found["trees"].values()} == set(one.trees)
        assert all(digest_bytes(encode(doc)) == key for key, doc in found["trees"].items())
        assert sorted(found["blobs"]) == sorted(
            [digest_bytes(data), len(data)] for data in (b"same", b"other")
        )
        both = await asked(client, "closures:get", one.tree, ABSENT, empty.digest())
        assert both["missing"] == [ABSENT]
        assert set(both["trees"]) == {*found["trees"], empty.digest()}


async def test_a_tree_may_be_deep_and_wide_within_limits(store: Store) -> None:
    trees = [Tree()]
    for _ in range(300):
        child = Directory(trees[-1].digest())
        trees.append(Tree({f"n{number}": child for number in range(50)}))
    async with served(store) as client:
        await put_blobs(client, [tree.encode() for tree in trees])
        found = await asked(client, "closures:get", trees[-1].digest())
        assert len(found["trees"]) == 301
        more = [trees[-1]]
        for _ in range(800):
            more.append(Tree({"n": Directory(more[-1].digest())}))
        await put_blobs(client, [tree.encode() for tree in more[1:]])
        answer = await client.get(f"/bn/v1/closures/{more[-1].digest()}")
        assert answer.status_code == 413


async def test_name_spaces_share_no_results(store: Store) -> None:
    one = Sample("one")
    async with served(store) as client:
        await stored(client, one, base="/ns/mine")
        assert (await client.get(f"/ns/mine/bn/v1/actions/{one.action}")).status_code == 200
        assert (await client.get(f"/bn/v1/actions/{one.action}")).status_code == 404
        answer = await client.put(f"/bn/v1/actions/{one.action}", json=one.candidate())
        assert answer.status_code == 409


def built_here(store: Store, name: str) -> tuple[ActionResult, Realisation]:
    """Leave in a store what a build of its own would."""
    data = f"built {name}".encode()
    tree = store.cas.put_tree(Tree({"out": File(store.cas.put_bytes(data), len(data))}))
    log = store.cas.put_object(b"said")
    action, recipe = digest_bytes(f"a {name}".encode()), digest_bytes(f"r {name}".encode())
    result = ActionResult(action=action, outputs=tree, log=log)
    realisation = Realisation(recipe=recipe, action=action, outputs=tree)
    from store.index import Table

    reference = store.cas.put_object(result.encode()).encode()
    store.actions.also((Table.ACTION_CACHE, action, reference))
    store.actions.record_realisation(realisation)
    store.actions.commit()
    return result, realisation


async def test_results_of_the_stores_own_builds_are_found_in_the_default_name_space(
    store: Store,
) -> None:
    result, _ = built_here(store, "one")
    other, realisation = built_here(store, "two")
    async with served(store, share_local=True) as client:
        assert (await client.get(f"/ns/x/bn/v1/actions/{result.action}")).status_code == 404
        answer = await client.get(f"/bn/v1/actions/{result.action}")
        assert answer.json()["results"] == [{"result": result.document(), "signatures": []}]
        found = await asked(client, "realisations:get", realisation.recipe)
        (candidate,) = found["realisations"][realisation.recipe]
        assert candidate["realisation"] == realisation.document()
        assert candidate["results"][0]["result"] == other.document()
        closure = await asked(client, "closures:get", result.outputs, other.outputs)
        answer = await client.post(
            "/bn/v1/blobs:get", json={"digests": [digest for digest, _ in closure["blobs"]]}
        )
        assert sorted(framed(answer.content).values()) == [b"built one", b"built two"]
    async with served(store, share_local=False) as client:
        third, _ = built_here(store, "three")
        assert (await client.get(f"/bn/v1/actions/{third.action}")).status_code == 404


async def test_what_others_have_in_the_store_is_not_shared(store: Store) -> None:
    built_here(store, "one")
    async with served(store, share_local=True) as client:
        for data in (b"built one", b"said"):
            assert (await client.get(f"/bn/v1/blobs/{digest_bytes(data)}")).status_code == 404
            missing = await asked(client, "blobs:missing", digest_bytes(data))
            assert missing["missing"] == [digest_bytes(data)]


BAD: dict[str, Callable[[Sample], Digest]] = {
    "action": lambda one: one.action,
    "result": lambda one: one.result.digest(),
    "outputs": lambda one: one.tree,
    "tree": lambda one: digest_bytes(one.trees[1]),
    "blob": lambda one: digest_bytes(one.files[0]),
}


@pytest.mark.parametrize("what", BAD)
async def test_what_is_bad_is_removed_with_all_that_names_it(store: Store, what: str) -> None:
    one, two = Sample("one"), Sample("two")
    bad = BAD[what](one)
    async with served(store) as client:
        await stored(client, one, two)
        await put(client, "realisations", one.realised("ci"), two.realised())
        answer = await client.post("/bn/v1/taint", json={"digest": bad})
        removed = answer.json()["removed"]
        assert {"kind": "action", "key": one.action, "digest": one.result.digest()} in removed
        found = await asked(client, "actions:get", one.action, two.action)
        assert set(found["actions"]) == {two.action}
        found = await asked(client, "realisations:get", one.recipe, two.recipe)
        assert set(found["realisations"]) == {two.recipe}


@pytest.mark.parametrize("what", BAD)
async def test_what_is_bad_is_refused_from_then_on(store: Store, what: str) -> None:
    one, two = Sample("one"), Sample("two")
    async with served(store) as client:
        await stored(client, one)
        await client.post("/bn/v1/taint", json={"digests": [BAD[what](one)]})
    async with served(store) as client:
        await put_blobs(client, [*one.blobs, *two.blobs])
        for name, candidate in (("actions", one.candidate()), ("realisations", one.realised())):
            said = await put(client, name, candidate)
            assert said["stored"] == 0
            assert "bad" in said["refused"][0]["error"]
        await put_blobs(client, [b"another log"])
        document = {**one.result.document(), "log": digest_bytes(b"another log")}
        said = await put(client, "actions", {"result": document, "signatures": []})
        assert said["stored"] == 0
        assert (await put(client, "actions", two.candidate()))["stored"] == 1
        # elsewhere it may be what is wanted
        await stored(client, one, base="/ns/other")
        assert await asked(client, "actions:get", one.action) == {"actions": {}}


async def test_what_this_store_built_and_is_bad_is_not_shared(store: Store) -> None:
    result, realisation = built_here(store, "one")
    async with served(store, share_local=True) as client:
        await client.post("/bn/v1/taint", json={"digests": [digest_bytes(b"built one")]})
        assert await asked(client, "actions:get", result.action) == {"actions": {}}
        answer = await asked(client, "realisations:get", realisation.recipe)
        assert answer == {"realisations": {}}


async def test_only_good_requests_taint(store: Store) -> None:
    async with served(store) as client:
        bodies: list[Any] = [{"digests": [1]}, {"digests": ["x"]}, {"digests": ABSENT}]
        bodies += [{}, {"digest": 1}, {"digest": "x"}, {"digest": ABSENT, "more": 1}, []]
        for body in bodies:
            assert (await client.post("/bn/v1/taint", json=body)).status_code == 400
        assert (await client.post("/bn/v1/taint", json={"digest": ABSENT})).json() == {
            "removed": []
        }


async def test_the_service_is_asked_only_for_what_is_in_a_name_space(store: Store) -> None:
    service = Service(store)
    try:
        assert service.find("x", BLOB, ABSENT) is None
    finally:
        await service.aclose()

"""The OpenAPI description holds: whatever is sent, a real `bn serve` answers as it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, settings

from engine.http.adapters.bn import PREFIX, Bn, description
from store.digest import digest_bytes
from store.encoding import encode
from store.objects import File, Tree
from store.store import Store
from tests.clients.conftest import serving
from tests.engine.http.serving import frames, put_blobs, served

DOCUMENT: dict[str, Any] = json.loads(description())
EXAMPLES = 25
"""Requests to each operation, besides those at the edges of what is allowed."""

CHOOSY = (
    *("putBlob", "putBlobs", "putAction", "putRealisation", "putActions", "putRealisations"),
    "getBlob",
)
"""Operations whose bodies have to fit digests, and ranges a blob: no description can say so."""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that has the blobs of the description's examples."""
    with serving(tmp_path_factory.mktemp("fuzz"), "--workers", "1") as server:
        answer = httpx.post(f"{server.url}/bn/v1/blobs:put", content=frames(example_blobs()))
        assert answer.status_code == 200
        yield server.url


def example_blobs() -> list[bytes]:
    """Return what the results in the examples name."""
    blob = b"hello\n"
    return [blob, Tree({"hello.txt": File(digest_bytes(blob), len(blob))}).encode(), b""]


@schemathesis.serializer("application/x-bn-blobs")
def as_bytes(_context: Any, value: Any) -> bytes:
    """Return a body that is bytes as it is."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


schema = schemathesis.openapi.from_dict(DOCUMENT)


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
def test_answers_are_as_described(case: schemathesis.Case[Any], url: str) -> None:
    excluded: list[Any] = []
    if case.operation.definition.raw["operationId"] in CHOOSY:
        excluded.append(schemathesis.checks.CHECKS.get_one("positive_data_acceptance"))
    case.call_and_validate(base_url=url, excluded_checks=excluded)


def test_the_description_is_sound() -> None:
    """Every path is one that is served, with its methods, and every example fits its schema."""
    adapter = Bn()
    paths = {path for path in DOCUMENT["paths"] if path.startswith(PREFIX)}
    assert paths == {
        *(f"{PREFIX}{name}/{{digest}}" for name in adapter.by_digest),
        *(f"{PREFIX}{name}" for name in adapter.plain),
    }
    names = set()
    for path in paths:
        name, _, digest = path.removeprefix(PREFIX).partition("/")
        served = (adapter.by_digest if digest else adapter.plain)[name]
        told = {key.upper(): value for key, value in DOCUMENT["paths"][path].items()}
        told.pop("PARAMETERS", None)
        assert {*told, "HEAD"} == {*served, "HEAD"}
        for method, operation in told.items():
            names.add(operation["operationId"])
            scope = served[method][0].name.lower()
            assert operation["x-bn-scope"] == scope
            for content in contents(operation):
                jsonschema.Draft202012Validator(
                    {**content["schema"], "components": DOCUMENT["components"]}
                ).validate(content["example"])
    assert set(CHOOSY) <= names


def contents(operation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what has an example in an operation."""
    for place in (operation.get("requestBody", {}), *operation["responses"].values()):
        found = place
        while "$ref" in found:
            found = DOCUMENT["components"]["responses"][found["$ref"].rpartition("/")[2]]
        for media, content in found.get("content", {}).items():
            if media == "application/json" and "example" in content:
                yield content


def test_documents_in_the_examples_are_what_their_digests_say() -> None:
    for example in DOCUMENT["paths"]["/bn/v1/closures/{digest}"]["get"]["responses"]["200"][
        "content"
    ].values():
        for digest, document in example["example"]["trees"].items():
            assert digest_bytes(encode(document)) == digest


async def test_examples_are_answered_as_in_the_examples(store: Store) -> None:
    async with served(store) as client:
        await put_blobs(client, example_blobs())
        for path, methods in DOCUMENT["paths"].items():
            if not path.endswith(":put") or "blobs" in path:
                continue
            content = methods["post"]["requestBody"]["content"]["application/json"]
            answer = await client.post(path, json=content["example"])
            assert answer.json() == {"stored": 1, "refused": []}
        for what in ("actions", "realisations", "closures"):
            operation = DOCUMENT["paths"][f"/bn/v1/{what}/{{digest}}"]
            digest = operation["parameters"][0]["example"]
            told = operation["get"]["responses"]["200"]["content"]["application/json"]["example"]
            answer = await client.get(f"/bn/v1/{what}/{digest}")
            assert answer.json() == told

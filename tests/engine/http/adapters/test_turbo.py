"""Turborepo's protocol."""

from __future__ import annotations

import httpx

ARTIFACTS = "/v8/artifacts"
HASH = "f1975c8059e5115a"


async def test_the_cache_is_enabled(client: httpx.AsyncClient) -> None:
    got = await client.get(f"{ARTIFACTS}/status", params={"slug": "team"})
    assert got.json() == {"status": "enabled"}


async def test_what_was_said_of_an_artifact_comes_back(client: httpx.AsyncClient) -> None:
    said = {
        "x-artifact-duration": "1234",
        "x-artifact-tag": "Z2/0+a==",
        "x-artifact-sha": "0" * 40,
        "x-artifact-client-ci": "SOME",
    }
    url = f"{ARTIFACTS}/{HASH}"
    assert (await client.get(url)).status_code == 404
    put = await client.put(url, content=b"artifact", headers=said)
    assert (put.status_code, put.json()) == (200, {"urls": []})
    for answer in (await client.get(url), await client.head(url)):
        assert answer.status_code == 200
        for name in ("x-artifact-duration", "x-artifact-tag", "x-artifact-sha"):
            assert answer.headers[name] == said[name]
        assert "x-artifact-client-ci" not in answer.headers
    assert (await client.get(url)).content == b"artifact"


async def test_teams_have_artifacts_of_their_own(client: httpx.AsyncClient) -> None:
    url = f"{ARTIFACTS}/{HASH}"
    await client.put(url, params={"slug": "one"}, content=b"1")
    await client.put(url, params={"teamId": "team_2", "slug": "two"}, content=b"2")
    assert (await client.get(url)).status_code == 404
    assert (await client.get(url, params={"slug": "two"})).status_code == 404
    assert (await client.get(url, params={"slug": "one"})).content == b"1"
    assert (await client.get(url, params={"teamId": "team_2"})).content == b"2"
    assert (await client.get(url, params={"slug": "a/b"})).status_code == 400


async def test_a_question_about_many(client: httpx.AsyncClient) -> None:
    said = {"x-artifact-duration": "5", "x-artifact-tag": "t"}
    await client.put(f"{ARTIFACTS}/aa?slug=x", content=b"four", headers=said)
    await client.put(f"{ARTIFACTS}/bb?slug=x", content=b"")
    asked = await client.post(f"{ARTIFACTS}?slug=x", json={"hashes": ["aa", "bb", "cc", "../d"]})
    assert asked.status_code == 200
    assert asked.json() == {
        "aa": {"size": 4, "taskDurationMs": 5, "tag": "t"},
        "bb": {"size": 0, "taskDurationMs": 0},
        "cc": None,
        "../d": None,
    }


async def test_questions_of_another_form(client: httpx.AsyncClient) -> None:
    for body in (b"", b"[]", b'{"hashes": "aa"}', b'{"hashes": [1]}', b"{" * 5000):
        assert (await client.post(ARTIFACTS, content=body)).status_code == 400, body


async def test_events_are_taken(client: httpx.AsyncClient) -> None:
    event = [{"sessionId": "s", "source": "REMOTE", "event": "HIT", "hash": HASH, "duration": 1}]
    assert (await client.post(f"{ARTIFACTS}/events", json=event)).status_code == 200


async def test_a_preflight(client: httpx.AsyncClient) -> None:
    got = await client.options(f"{ARTIFACTS}/{HASH}")
    assert got.status_code == 200
    assert "Authorization" in got.headers["access-control-allow-headers"]


async def test_headers_that_are_refused(client: httpx.AsyncClient) -> None:
    for name, value in (("duration", "-1"), ("duration", "9" * 30), ("tag", "t" * 2000)):
        headers = {f"x-artifact-{name}": value}
        put = await client.put(f"{ARTIFACTS}/aa", content=b"", headers=headers)
        assert put.status_code == 400, value


async def test_what_is_not_served(client: httpx.AsyncClient) -> None:
    asked = (("PUT", "/status"), ("PUT", "/events"), ("DELETE", "/aa"), ("GET", ""), ("PUT", ""))
    for method, path in asked:
        answer = await client.request(method, f"{ARTIFACTS}{path}")
        assert answer.status_code == 405, (method, path)

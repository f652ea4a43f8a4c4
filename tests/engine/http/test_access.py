"""Access: tokens shown in every way that clients do, name spaces, files that change."""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from pathlib import Path

import pytest

from engine.http.access import PAGE, UNKNOWN, Access, Rules, is_local
from engine.http.message import ANYBODY, Failure, Identity, Scope
from engine.http.tokens import editing, make_token, read_tokens, token_id
from store.errors import HostError, InputError

FAR = "192.0.2.7"
NEAR = "127.0.0.1"


def add(path: Path, scope: str = "read", *spaces: str, name: str = "x", **more: float) -> str:
    """Add a token to the file and return its text."""
    text, row = make_token(name, scope, spaces, **more)
    with editing(path) as rows:
        rows[row.id] = row
    return text


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "serve" / "tokens.json"


def who(access: Access, shown: str) -> Identity:
    return access.identify({"authorization": shown})


def status(access: Access, identity: Identity, space: str, scope: Scope, peer: str = FAR) -> int:
    """Return 200 where it is allowed, else the status of the refusal."""
    try:
        access.allow(identity, space, scope, peer)
    except Failure as failure:
        challenged = "Basic" in failure.headers.get("www-authenticate", "")
        return failure.status if challenged is (failure.status == 401) else -1
    return 200


def test_a_token_is_known_in_every_way_that_clients_show_it(path: Path) -> None:
    text = add(path, "write", "team", name="ci")
    access = Access(Rules(tokens=path))
    expected = Identity("ci", Scope.WRITE, frozenset({"team"}))
    ways = [
        f"Bearer {text}",
        f"bearer {text}",
        basic("anybody", text),
        basic(text, ""),
        basic(text, "x"),
        text,
        f"token {text}",
    ]
    for shown in ways * 2:
        assert who(access, shown) == expected, shown


def test_what_is_nearly_a_token_is_none(path: Path) -> None:
    text = add(path)
    access = Access(Rules(tokens=path))
    assert who(access, f"Bearer {text}").scope is Scope.READ
    last = "A" if text[-2] != "A" else "B"
    other, _ = make_token("x", "admin")
    same_id = other[:3] + text[3:15] + other[15:]
    for wrong in (text[:-2] + last + text[-1], text[:-1], text + "A", other, same_id, "", "bn_"):
        for shown in (f"Bearer {wrong}", basic("u", wrong), wrong or " "):
            assert who(access, shown) is UNKNOWN, shown
    for broken in ("Basic", "Basic !!!", "Basic /w==", "Bearer \udcff", "Bearer " + "é" * 43):
        assert who(access, broken) is UNKNOWN


def test_a_file_of_tokens_holds_no_token(path: Path) -> None:
    text = add(path)
    stored = path.read_text()
    assert text not in stored
    assert text.split("_", 2)[2] not in stored
    assert text.partition("_")[2] not in stored
    assert path.stat().st_mode & 0o777 == 0o600
    number = token_id(text)
    assert number
    assert read_tokens(path)[number].proves(text)


def test_scopes_include_those_before_them_and_end_at_name_spaces(path: Path) -> None:
    reader = add(path, "read", "a")
    writer = add(path, "write", "a", "b")
    admin = add(path, "admin")
    access = Access(Rules(tokens=path))
    r, w, a = (who(access, f"Bearer {one}") for one in (reader, writer, admin))
    assert [status(access, r, "a", scope) for scope in Scope] == [200, 200, 403, 403]
    assert [status(access, w, "b", scope) for scope in Scope] == [200, 200, 200, 403]
    assert [status(access, a, "c", scope) for scope in Scope] == [200, 200, 200, 200]
    assert [status(access, r, "b", scope) for scope in Scope] == [200, 403, 403, 403]
    with pytest.raises(Failure) as refused:
        access.allow(r, "a", Scope.WRITE, FAR)
    assert "may not write in 'a'" in refused.value.message
    with pytest.raises(Failure) as refused:
        access.allow(r, "b", Scope.READ, FAR)
    assert "not for the name space 'b'" in refused.value.message


def test_name_spaces_let_in_whom_they_say(path: Path) -> None:
    text = add(path, "write", "mine")
    spaces = {"open": "write", "seen": "read", "shut": "none"}
    access = Access(Rules(tokens=path, public=spaces))
    mine, gone = who(access, text), who(access, "Bearer bn_gone")
    for identity in (ANYBODY, gone, mine):
        other = 403 if identity is mine else 401
        assert status(access, identity, "open", Scope.WRITE) == 200
        assert status(access, identity, "open", Scope.ADMIN) == other
        assert status(access, identity, "seen", Scope.READ) == 200
        assert status(access, identity, "seen", Scope.WRITE) == other
        assert status(access, identity, "shut", Scope.READ, NEAR) == other
        assert status(access, identity, "unsaid", Scope.READ, NEAR) == other


def test_a_star_is_all_other_name_spaces(path: Path) -> None:
    access = Access(Rules(tokens=path, public={"*": "read", "shut": "none"}, guarded=True))
    assert status(access, ANYBODY, "any", Scope.READ) == 200
    assert status(access, ANYBODY, "any", Scope.WRITE) == 401
    assert status(access, ANYBODY, "shut", Scope.READ) == 401


def test_without_a_file_this_machine_may_write_and_no_other(path: Path) -> None:
    access = Access(Rules(tokens=path, public={"shut": "none", "seen": "read"}))
    anybody = access.identify({})
    assert anybody is ANYBODY
    for peer in ("127.0.0.1", "::1", "::ffff:127.3.2.1", "unix"):
        assert is_local(peer)
        assert status(access, anybody, "default", Scope.WRITE, peer) == 200
        assert status(access, anybody, "default", Scope.ADMIN, peer) == 401
        assert status(access, anybody, "shut", Scope.READ, peer) == 401
        assert status(access, anybody, "seen", Scope.WRITE, peer) == 401
    for peer in (FAR, "::2", "::ffff:192.0.2.1", "", "10.127.0.1"):
        assert status(access, anybody, "default", Scope.READ, peer) == 401
    # many clients send what they have whether it is asked for or not
    shown = who(access, "Bearer whatever")
    assert status(access, shown, "default", Scope.WRITE, NEAR) == 200


def test_certificates_that_settle_it_guard_this_machine_as_well(path: Path) -> None:
    access = Access(Rules(tokens=path, guarded=True), lambda _: Identity("cert", Scope.WRITE))
    assert status(access, access.identify({}), "default", Scope.READ, NEAR) == 401
    shown = access.identify({}, {"subject": ()})
    assert status(access, shown, "default", Scope.WRITE, FAR) == 200


def test_a_token_goes_before_a_certificate(path: Path) -> None:
    text = add(path, name="token")
    access = Access(Rules(tokens=path), lambda _: Identity("cert", Scope.WRITE))
    assert access.identify({"authorization": text}, {"subject": ()}).name == "token"
    assert access.identify({"authorization": text[:-1]}, {"subject": ()}) is UNKNOWN
    assert access.identify({}, {"subject": ()}).name == "cert"


@pytest.mark.parametrize(
    "marks", [{"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}]
)
def test_a_web_page_cannot_write_to_an_open_server(path: Path, marks: dict[str, str]) -> None:
    access = Access(Rules(tokens=path))
    page = access.identify(marks)
    assert page is PAGE
    assert status(access, page, "default", Scope.READ, NEAR) == 200
    assert status(access, page, "default", Scope.WRITE, NEAR) == 403
    assert access.identify({"sec-fetch-site": "none"}) is ANYBODY


def test_tokens_come_and_go_while_the_server_runs(path: Path) -> None:
    access = Access(Rules(tokens=path))
    assert not access.has_tokens
    first = add(path)
    assert who(access, first).scope is Scope.READ
    assert status(access, access.identify({}), "default", Scope.READ, NEAR) == 401
    second = add(path, "write")
    assert who(access, second).scope is Scope.WRITE
    with editing(path) as rows:
        del rows[token_id(first) or ""]
    assert who(access, first) is UNKNOWN
    assert who(access, second).scope is Scope.WRITE
    with editing(path) as rows:
        rows.clear()
    assert who(access, second) is UNKNOWN
    path.unlink()
    # who had tokens does not become open to all when the file goes
    assert status(access, who(access, second), "default", Scope.READ, NEAR) == 401
    assert status(access, access.identify({}), "default", Scope.READ, NEAR) == 401


def test_a_token_expires_also_when_it_is_remembered(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = add(path, expires=time.time() + 1000)
    access = Access(Rules(tokens=path))
    assert who(access, text).scope is Scope.READ
    later = time.time() + 1001
    monkeypatch.setattr(time, "time", lambda: later)
    assert who(access, text) is UNKNOWN
    assert who(access, text) is UNKNOWN


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620])
def test_a_file_that_others_can_use_is_refused(path: Path, mode: int) -> None:
    text = add(path)
    access = Access(Rules(tokens=path))
    os.chmod(path, mode)
    assert who(access, text) is UNKNOWN
    assert "chmod 600" in access.look()
    with pytest.raises(HostError, match="lets others"):
        Access(Rules(tokens=path))
    assert who(Access(Rules(tokens=path), strict=False), text) is UNKNOWN
    with pytest.raises(HostError, match="lets others"):
        add(path)
    os.chmod(path, 0o600)
    assert who(access, text).scope is Scope.READ
    assert access.look() == ""


def test_a_file_that_is_something_else_lets_nobody_in(path: Path) -> None:
    text = add(path)
    access = Access(Rules(tokens=path))
    good = json.loads(path.read_text())
    row = good["tokens"][0]
    bad: list[object] = [
        [],
        {},
        {"version": 2, "tokens": []},
        {"version": 1, "tokens": [{"id": "a"}]},
        {"version": 1, "tokens": [row | {"scope": "root"}]},
        {"version": 1, "tokens": [row | {"salt": "00"}]},
        {"version": 1, "tokens": [row | {"expires": "never"}]},
        {"version": 1, "tokens": [row | {"more": 1}]},
    ]
    for document in [*map(json.dumps, bad), "", "{", "\xff"]:
        path.write_text(document)
        assert who(access, text) is UNKNOWN, document
        assert access.look()
        with pytest.raises(InputError):
            Access(Rules(tokens=path))
    path.write_text(json.dumps(good))
    assert who(access, text).scope is Scope.READ


def test_a_directory_or_a_pipe_is_no_file_of_tokens(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir(mode=0o700)
    os.mkfifo(tmp_path / "p", mode=0o600)
    for name in "dp":
        with pytest.raises(HostError, match="regular"):
            Access(Rules(tokens=tmp_path / name))


def test_strangers_do_not_fill_the_memory(path: Path) -> None:
    text = add(path)
    access = Access(Rules(tokens=path))
    for number in range(3000):
        assert who(access, f"Bearer {number}") is UNKNOWN
        assert who(access, basic(str(number), text)).scope is Scope.READ
    assert len(access._known) <= 1024


def test_many_who_add_tokens_at_once_lose_none(path: Path) -> None:
    texts: list[str] = []
    threads = [threading.Thread(target=lambda: texts.append(add(path))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = read_tokens(path)
    assert {token_id(text) for text in texts} == rows.keys()
    assert len(rows) == 12


@pytest.mark.parametrize("name", ["", ".x", "a/b", "a b", "x" * 65, "é", "?page"])
def test_names_are_plain(name: str) -> None:
    with pytest.raises(InputError):
        make_token(name, "read")
    with pytest.raises(InputError):
        make_token("x", "read", (name,))

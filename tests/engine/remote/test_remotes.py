"""Results shared between two stores by way of a remote, and what is known and fetched of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from engine.remote import fetch, uploads
from engine.timeline.events import TokenWithheld
from store.cas import MissingBlob
from store.gc import collect
from store.index import Table
from store.materialise import materialise, materialised
from store.objects import EMPTY_TREE, Directory, File
from store.upstream import UNKNOWN
from store.verify import verify
from tests.engine.remote.conftest import Machine, digest_of, recipe
from tests.engine.remote.fake import Fake, Handler

Machines = Callable[..., Machine]
FILES = {"bin/tool": b"tool", "doc/a": b"a" * 5000, "empty": b""}


def test_a_result_is_shared_and_its_files_come_when_they_are_needed(
    fake: Fake, machine: Machines, tmp_path: Path
) -> None:
    one, two = machine(fake), machine(fake)
    result = one.give("x", FILES)

    found = two.find("x", "y")

    assert list(found) == [recipe("x")]
    assert two.has(result)
    assert two.store.actions.result_of(digest_of("x")) == result
    realised = two.store.actions.realisation(recipe("x"))
    assert realised is not None
    assert realised.outputs == result.outputs
    assert not any(path.startswith("blobs") for path in fake.asked if path.endswith("get"))
    materialise(two.store.cas, result.outputs, str(tmp_path / "out"))
    assert (tmp_path / "out/doc/a").read_bytes() == FILES["doc/a"]
    assert two.store.cas.get_bytes(result.log) == b"done\n"


def test_all_that_is_missing_is_fetched_in_one_request(fake: Fake, machine: Machines) -> None:
    one, two = machine(fake), machine(fake)
    result = one.give("x", {f"file{number}": b"%d" % number for number in range(50)})
    two.find("x")

    materialised(two.store.cas, result.outputs)

    assert fake.count("blobs:get") == 1


def test_large_files_go_and_come_by_themselves(
    fake: Fake, machine: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "LARGE", 1000)
    monkeypatch.setattr(uploads, "LARGE", 1000)
    one, two = machine(fake), machine(fake)
    result = one.give("x", {"large": b"l" * 300_000, "small": b"s"})
    two.find("x")

    two.remotes.bring([Directory(result.outputs)])

    large = next(path for path in fake.asked if path.startswith("blobs/"))
    assert fake.count(large) == 2
    assert all(two.store.cas.is_here(file.digest) for file in files_of(two, result.outputs))


def test_a_file_is_read_of_which_only_the_digest_is_told(
    fake: Fake, machine: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "LARGE", 1000)
    monkeypatch.setattr(fetch, "LONGEST", 10_000)
    one, two = machine(fake), machine(fake)
    result = one.give("x", {"large": b"l" * 300_000})
    two.find("x")
    (file,) = files_of(two, result.outputs)

    handle = two.store.cas.open(file.digest)

    assert os.fstat(handle).st_size == 300_000
    os.close(handle)


def test_answers_may_be_packed(fake: Fake, machine: Machines) -> None:
    result = machine(fake).give("x", FILES)

    def packed(handler: Handler) -> bool:
        send = handler.send

        def pack(status: int, body: bytes, kind: str = "application/json", **more: str) -> None:
            body = zstandard.ZstdCompressor().compress(body)
            send(status, body, kind, content_encoding="zstd", **more)

        handler.send = pack  # type: ignore[method-assign]
        try:
            handler.answer()
        finally:
            del handler.send
        return True

    fake.fault = packed
    two = machine(fake)
    two.find("x")
    two.remotes.bring([Directory(result.outputs)])
    assert two.given_up() == []
    assert all(two.store.cas.is_here(file.digest) for file in files_of(two, result.outputs))


def test_what_is_known_outlives_the_process(fake: Fake, machine: Machines, tmp_path: Path) -> None:
    one, two = machine(fake), machine(fake)
    result = one.give("x", FILES)
    two.find("x")
    two.store.actions.commit()
    two.store.close()

    again = Machine(two.store.root, fake)

    assert again.has(result)
    assert verify(again.store).sound
    report = collect(again.store)
    assert report is not None
    again.store.close()
    bare = Machine(two.store.root)
    assert not bare.has(result)
    bare.store.close()


def test_collection_keeps_what_is_known_of_what_it_keeps(fake: Fake, machine: Machines) -> None:
    from store.roots import artifact_root

    one, two = machine(fake), machine(fake)
    kept, lost = one.give("kept", {"a": b"1"}), one.give("lost", {"b": b"2"})
    two.find("kept", "lost")
    two.store.actions.commit_with([artifact_root("p", "kept", kept.outputs)])
    digests = {name: digest_of(name) for name in ("kept", "lost")}
    rows = {key for key, _ in two.store.index.items(Table.REMOTE)}
    assert {file.digest for file in files_of(two, kept.outputs)} < rows

    collect(two.store)

    rows = {key for key, _ in two.store.index.items(Table.REMOTE)}
    assert {file.digest for file in files_of(two, kept.outputs)} <= rows
    assert digests["lost"] not in {key for key, _ in two.store.index.items(Table.ORIGINS)}
    assert two.has(kept)
    assert lost.outputs != kept.outputs


def test_remotes_are_asked_in_order_and_only_for_what_is_missing(
    fake: Fake, other: Fake, machine: Machines
) -> None:
    x = machine(fake).give("x", {"x": b"x"})
    y = machine(other).give("y", {"y": b"y"})
    both = machine(fake, other)
    other.asked.clear()

    assert set(both.find("x", "y")) == {recipe("x"), recipe("y")}
    both.remotes.bring([Directory(x.outputs), Directory(y.outputs)])

    assert other.count("realisations:get") == 1
    assert other.count("blobs:get") == 1
    assert fake.count("blobs:get") == 1


def test_a_file_that_one_remote_lost_comes_from_another(
    fake: Fake, other: Fake, machine: Machines
) -> None:
    machine(fake).give("x", {"x": b"x"})
    result = machine(other).give("x", {"x": b"x"})
    both = machine(fake, other)
    both.find("x")
    fake.blobs.clear()

    both.remotes.bring([Directory(result.outputs)])

    assert all(both.store.cas.is_here(file.digest) for file in files_of(both, result.outputs))


def test_a_file_that_is_gone_everywhere_makes_its_result_a_miss(
    fake: Fake, machine: Machines, tmp_path: Path
) -> None:
    one, two = machine(fake), machine(fake)
    result = one.give("x", FILES)
    two.find("x")
    two.store.actions.commit()
    fake.blobs = {digest: data for digest, data in fake.blobs.items() if data != b"tool"}

    with pytest.raises(MissingBlob):
        materialise(two.store.cas, result.outputs, str(tmp_path / "out"))

    assert not two.has(result)
    assert two.store.actions.realisation(recipe("x")) is None
    assert two.find("x") == {}
    assert not two.given_up()
    two.remotes.doubt(altogether=False)
    two.store.actions.commit()
    two.store.close()
    again = Machine(two.store.root, fake)
    assert not again.has(result)
    again.store.close()


def test_what_was_built_here_is_not_replaced(fake: Fake, machine: Machines) -> None:
    one, two = machine(fake), machine(fake)
    one.give("x", {"x": b"theirs"})
    mine = two.make("x", {"x": b"mine"})
    two.store.actions.take_over(mine)

    two.find("x")

    realised = two.store.actions.realisation(recipe("x"))
    assert realised is not None
    assert realised.outputs == mine.outputs
    assert two.store.actions.result_of(digest_of("x")) == mine


def test_where_a_result_came_from_is_noted(fake: Fake, machine: Machines) -> None:
    one, two = machine(fake), machine(fake)
    result = one.give("x", FILES, seconds=2.00049)
    one.give("y", FILES)
    two.find("x", "y")
    two.store.actions.commit()

    row = two.store.index.get_json(Table.ORIGINS, digest_of("x"))

    assert row["remote"] == fake.url
    assert row["result"] == result.digest()
    assert row["seconds"] == 2.0
    assert "seconds" not in two.store.index.get_json(Table.ORIGINS, digest_of("y"))


def test_an_action_without_outputs_is_shared_too(fake: Fake, machine: Machines) -> None:
    one, two = machine(fake), machine(fake)
    result = one.give("x", {}, log=b"")
    assert result.outputs == EMPTY_TREE.digest()

    assert list(two.find("x")) == [recipe("x")]
    assert two.store.actions.result_of(digest_of("x")) == result


def test_nothing_is_asked_that_is_not_configured(fake: Fake, machine: Machines) -> None:
    reader, writer = machine(fake, write=False), machine(fake, read=False)
    assert not reader.remotes.writable
    assert not writer.remotes.readable
    assert writer.find("x") == {}
    assert fake.asked == []


def test_a_blob_that_nobody_knows_of_is_not_asked_for(fake: Fake, machine: Machines) -> None:
    two = machine(fake)
    with pytest.raises(MissingBlob):
        two.store.cas.get_bytes(digest_of("nothing"))
    two.remotes.bring([File(digest_of("nothing"), UNKNOWN)])
    assert fake.asked == []


def test_uploads_send_only_what_is_missing(fake: Fake, machine: Machines) -> None:
    one = machine(fake)
    one.give("x", FILES)
    before = fake.count("blobs:put")
    one.give("y", FILES)
    assert fake.count("blobs:put") == before
    assert len(fake.actions) == 2


def test_tokens_are_sent(
    fake: Fake, machine: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("of-a-file\n")
    monkeypatch.setenv("BN_CACHE_TOKEN", "of-the-environment")
    machine(fake, token_file=str(tmp_path / "token")).find("x")
    machine(fake).find("x")
    assert fake.tokens == ["Bearer of-a-file", "Bearer of-the-environment"]


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        (None, False),
        ("", False),
        ("localhost", False),
        ("27.0.0.1", False),
        ("127.0.0.1:1", False),
        ("127.0.0.1", True),
        ("127.0.0.1:PORT", True),
    ],
)
def test_a_remote_that_only_a_project_names_is_not_shown_the_token(
    fake: Fake,
    machine: Machines,
    monkeypatch: pytest.MonkeyPatch,
    host: str | None,
    shown: bool,
) -> None:
    port = fake.url.rpartition(":")[2].strip("/")
    monkeypatch.setenv("BN_CACHE_TOKEN", "secret")
    if host is not None:
        monkeypatch.setenv("BN_CACHE_HOST", host.replace("PORT", port))
    one = machine(fake, own=False)
    one.find("x")
    one.find("y")
    assert fake.tokens == ["Bearer secret" if shown else None] * 2
    told = [event.reason for event in one.remotes.take_events() if isinstance(event, TokenWithheld)]
    allowed = f"BN_CACHE_HOST=127.0.0.1:{port} allows that"
    assert [reason.partition("; ")[2] for reason in told] == ([] if shown else [allowed])


def test_without_a_token_nothing_is_withheld(fake: Fake, machine: Machines) -> None:
    one = machine(fake, own=False)
    one.find("x")
    assert list(one.remotes.take_events()) == []


def test_a_file_that_is_no_token_is_not_sent(fake: Fake, machine: Machines, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("two\nlines\n")
    one = machine(fake, token_file=str(tmp_path / "secret"))
    assert one.find("x") == {}
    assert one.given_up() == [f"reading: {tmp_path / 'secret'} holds no token"]
    assert fake.asked == []


def test_a_name_space_stands_in_the_path(fake: Fake, machine: Machines) -> None:
    paths: list[str] = []

    def fault(handler: Handler) -> bool:
        paths.append(handler.path)
        return False

    fake.fault = fault
    machine(fake, name_space="team").find("x")
    assert paths == ["/ns/team/bn/v1/realisations:get"]


def files_of(machine: Machine, tree: str) -> list[File]:
    from store.digest import Digest
    from store.trees import walk

    return [entry for _, entry in walk(machine.store.cas, Digest(tree)) if isinstance(entry, File)]

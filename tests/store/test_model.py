"""The store against a model: CAS, action cache and collector do what plain dictionaries say."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from store.cas import MissingBlob
from store.digest import Digest, digest_bytes
from store.gc import collect
from store.index import Table
from store.policy import Policy
from store.rebuild import rebuild
from store.roots import artifact_root
from store.store import Store
from store.verify import verify
from tests.store.results import Made, blobs, claim, held_bytes, make, one_file


def parts(some: list[Made]) -> set[Digest]:
    """Return all that results consist of, as a store of their own has it."""
    if not some:
        return set()
    with tempfile.TemporaryDirectory() as directory, Store(Path(directory)) as store:
        for one in some:
            make(store, one.action.command[1], observed=one.action.depfile)
        store.actions.commit()
        return blobs(store)


class StoreModel(RuleBasedStateMachine):
    """`objects` and `trees` are what was put in and not collected; `results` what was committed."""

    contents = Bundle("contents")
    results = Bundle("results")

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.store = self.opened()
        self.objects: dict[Digest, bytes] = {}
        self.committed: dict[Digest, Made] = {}
        self.pending: dict[Digest, Made] = {}
        self.roots: dict[str, Digest] = {}
        self.damaged: set[Digest] = set()

    def opened(self) -> Store:
        return Store(self.directory / "store", policy=Policy(keep_days=0))

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.directory)

    @rule(target=contents, data=st.binary(max_size=200), executable=st.booleans())
    def put(self, data: bytes, executable: bool) -> bytes:
        digest = self.store.cas.put_bytes(data, executable)
        assert digest == digest_bytes(data)
        self.objects[digest] = data
        return data

    @rule(data=contents)
    def get(self, data: bytes) -> None:
        digest = digest_bytes(data)
        assert self.store.cas.has(digest) == (digest in self.objects)
        try:
            assert self.store.cas.get_bytes(digest) == self.objects[digest]
        except (KeyError, MissingBlob):
            assert digest not in self.objects

    @rule(target=results, name=st.integers(0, 20), observed=st.booleans())
    def record(self, name: int, observed: bool) -> Made:
        made = make(self.store, f"n{name} {observed}", observed=observed)
        self.pending[made.digest] = made
        return made

    @rule()
    def commit(self) -> None:
        self.store.actions.commit()
        self.committed |= self.pending
        self.pending.clear()

    @rule(name=st.sampled_from(["a", "b"]), data=contents)
    def pin(self, name: str, data: bytes) -> None:
        tree = one_file(self.store, "f", data)
        self.objects[digest_bytes(data)] = data
        self.store.index.write([artifact_root(name, name, tree)])
        self.roots[name] = tree

    @rule(name=st.sampled_from(["a", "b"]))
    def unpin(self, name: str) -> None:
        self.store.index.edit(Table.ROOTS, [f"artifact/{name}"], lambda key, value: None)
        self.roots.pop(name, None)

    @rule(kept=st.lists(results, max_size=4), leased=st.booleans())
    def gather(self, kept: list[Made], leased: bool) -> None:
        self.commit()
        if leased:
            with self.store.lease("build"):
                before = blobs(self.store)
                collect(self.store, [claim(kept)])
                assert blobs(self.store) == before, "all of it is young"
            return
        collect(self.store, [claim(kept)])
        alive = {made.digest for made in kept} & self.committed.keys()
        self.committed = {key: made for key, made in self.committed.items() if key in alive}
        pinned = {
            entry.digest
            for tree in self.roots.values()
            for entry in self.store.cas.get_tree(tree).entries.values()
            if hasattr(entry, "digest")
        }
        named = blobs(self.store)
        assert pinned <= named
        self.objects = {key: data for key, data in self.objects.items() if key in named}
        assert self.objects.keys() >= pinned & self.objects.keys()
        if not alive and not self.roots:
            assert named <= parts([made for made in kept if made.digest in self.damaged])

    @rule(made=consumes(results))
    def damage(self, made: Made) -> None:
        if made.digest in self.committed:
            Path(self.store.cas.path(made.result.log)).unlink(missing_ok=True)
            assert self.reopened().actions.result_of(made.digest) is None
            verify(self.store, repair=True)
            del self.committed[made.digest]
            self.damaged.add(made.digest)

    @rule()
    def lose_index(self) -> None:
        self.commit()
        self.store.close()
        rebuild(self.store.root, self.store.cas)
        self.store = self.opened()
        for name, tree in self.roots.items():
            self.store.index.write([artifact_root(name, name, tree)])

    @rule()
    def reopen(self) -> None:
        self.commit()
        self.reopened()

    def reopened(self) -> Store:
        self.commit()
        self.store.close()
        self.store = self.opened()
        return self.store

    @invariant()
    def results_are_found(self) -> None:
        for key, made in {**self.committed, **self.pending}.items():
            assert self.store.actions.result_of(key) == made.result

    @invariant()
    def counts_are_right(self) -> None:
        self.commit()
        added = self.store.cas.take_added()
        self.store.index.write([], {f"used/{name}": size for name, size in added.items()})
        used = held_bytes(self.store)
        assert (self.store.index.number("used/store") or 0) == used


TestStoreModel = StoreModel.TestCase
TestStoreModel.settings = settings(max_examples=25, stateful_step_count=20)


def test_of_a_damaged_result_that_is_kept_the_rest_may_stay() -> None:
    state = StoreModel()
    kept, damaged = (state.record(name=0, observed=False) for _ in range(2))
    state.counts_are_right()
    state.damage(made=damaged)
    state.gather(kept=[kept], leased=False)
    state.gather(kept=[], leased=False)
    state.teardown()

"""Copies in several tiers over their limit: the last durable one stays."""

from __future__ import annotations

from pathlib import Path

from store.gc import collect
from store.objects import File, Tree
from store.roots import artifact_root
from store.store import Store
from store.tiers import NVME, SSD, TierSpec


def test_a_needed_blob_is_not_removed_from_every_tier(tmp_path: Path) -> None:
    specs = [
        TierSpec(name="a", path=tmp_path / "a", level=NVME, max_size=100),
        TierSpec(name="b", path=tmp_path / "b", level=SSD, max_size=100),
    ]
    data = b"needed" * 1000
    with Store(tmp_path / "root", specs) as store:
        digest = store.cas.put_bytes(data)
        tree = store.cas.put_tree(Tree({"file": File(digest, len(data))}))
        for tier in store.cas.tiers[1:]:
            tier.write(digest, data, executable=False)
        store.index.write([artifact_root("p", "p", tree)])
        collect(store)
        assert store.cas.get_bytes(digest) == data

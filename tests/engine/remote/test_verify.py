"""Verification: which steps are looked at."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.remote.verify import Difference, Differing, RemoteDiffers, sample
from store.digest import digest_bytes

LABELS = st.lists(st.text("abc", min_size=1), unique=True, max_size=20)


@given(labels=LABELS, wanted=st.integers(1, 30))
def test_a_sample_has_so_many_in_order_and_is_the_same_each_time(
    labels: list[str], wanted: int
) -> None:
    chosen = sample("build", labels, wanted)
    assert len(chosen) == min(wanted, len(labels))
    assert chosen == [label for label in labels if label in chosen]
    assert set(sample("build", labels[::-1], wanted)) == set(chosen)
    assert set(chosen) <= set(sample("build", labels, wanted + 1))
    assert sample("build", labels, "all") == labels


def test_each_build_looks_at_others() -> None:
    labels = [f"step{number}" for number in range(100)]
    seen = {label for build in range(60) for label in sample(f"build{build}", labels, 10)}
    assert len(seen) > 90


def test_a_report_stays_readable() -> None:
    digest = digest_bytes(b"x")
    found = tuple(Difference(path=f"f{n}", remote=digest, here=None) for n in range(20))
    one = Differing(
        label="a",
        action=digest,
        remote="http://x",
        signed="ci",
        result=None,
        outputs=digest,
        here=digest,
        reproducible=True,
        reason="",
        differences=found,
    )
    error = RemoteDiffers([one], 3)
    assert error.exit_code == 6
    assert "and 12 more" in error.message
    assert "signed by ci" in error.message
    assert "here:   nothing" in error.message

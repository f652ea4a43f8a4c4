"""Actions that ran are found again by their digests, and no others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.finished import Finished
from store.digest import Digest

# few first bytes, so that many share a place
DIGESTS = st.tuples(st.sampled_from("012"), st.integers(0, 40)).map(
    lambda parts: Digest((parts[0] * 2).ljust(58, "0") + f"{parts[1]:06x}")
)


@given(st.dictionaries(DIGESTS, st.text()), st.sets(DIGESTS))
def test_what_ran_is_found(ran: dict[Digest, str], others: set[Digest]) -> None:
    finished = Finished(len(ran))
    for action, label in ran.items():
        assert finished.step(action) is None
        finished.note(action, label)
    assert all(finished.step(action) == label for action, label in ran.items())
    assert all(finished.step(action) is None for action in others - ran.keys())

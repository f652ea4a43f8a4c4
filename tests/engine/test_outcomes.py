"""Outcomes kept in few bytes: what comes out is what was put in, in the order in which it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.outcomes import Outcomes
from engine.remembered import Cached
from engine.result import Built, Cancelled, Ended, Failed, Skipped
from store.digest import digest_bytes

LABELS = [f"s{number}" for number in range(6)]

digests = st.binary(max_size=2).map(digest_bytes)
endings: st.SearchStrategy[Ended] = st.one_of(
    st.builds(Cached, digests, digests),
    st.builds(Built, digests, digests, st.floats(0, 1e6)),
    st.builds(Failed, st.text(max_size=3)),
    st.builds(Skipped, st.sampled_from(LABELS)),
    st.builds(Cancelled),
)


@given(st.dictionaries(st.sampled_from(LABELS), endings))
def test_they_are_a_mapping_in_the_order_of_ending(ended: dict[str, Ended]) -> None:
    outcomes = Outcomes(LABELS, {label: number for number, label in enumerate(LABELS)})
    for label, step in ended.items():
        outcomes.put(label, step)
    assert list(outcomes.items()) == list(ended.items())
    for label in LABELS:
        assert (label in outcomes) == (label in ended)
        found = ended.get(label)
        if isinstance(found, Cached | Built):
            assert outcomes.outputs(label) == found.outputs
        else:
            with pytest.raises(KeyError):
                outcomes.outputs(label)
    for kind in (Cached, Built, Failed, Skipped, Cancelled):
        assert outcomes.count(kind) == sum(isinstance(step, kind) for step in ended.values())

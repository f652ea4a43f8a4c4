"""Steps of a plan, packed, are what was put."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.remembered import Cached
from engine.steps import Blocked, Run, Step, Steps
from store.digest import Digest

BYTES = st.binary(min_size=32, max_size=32)
DIGESTS = BYTES.map(lambda data: Digest(data.hex()))
LABELS = [f"step {number}" for number in range(12)]
STEPS: st.SearchStrategy[Step] = st.one_of(
    st.builds(Cached, DIGESTS, DIGESTS),
    st.builds(Run, st.sampled_from(["new", "changed", ""]), st.none() | BYTES),
    st.builds(Blocked, st.lists(st.sampled_from([*LABELS, "none of these"])).map(tuple)),
)


@given(st.dictionaries(st.sampled_from(LABELS), STEPS))
def test_all_is_as_it_was_put(wanted: dict[str, Step]) -> None:
    steps = Steps()
    for label, step in wanted.items():
        steps.put(label, step)
    assert list(steps.items()) == list(wanted.items())
    roots = {label: one.input_root for label, one in steps.items() if isinstance(one, Run)}
    assert roots == {label: one.input_root for label, one in wanted.items() if isinstance(one, Run)}
    cached = [label for label, one in wanted.items() if isinstance(one, Cached)]
    assert [label for label in steps if steps.is_cached(label)] == cached
    assert steps.cached == len(cached)
    assert [steps.numbers[label] for label in steps.labels] == list(range(len(wanted)))
    with pytest.raises(KeyError):
        steps["none of these"]
    assert "none of these" not in steps

"""A build as one HTML page: what failed and why, the graph, the critical path, every step.

The page needs nothing but itself: no script, no font, no picture from elsewhere, which its content
security policy forbids as well. All that comes from a build is escaped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Final

from engine.timeline.autopsy import Autopsy, Failure
from engine.timeline.course import Course, Step
from engine.timeline.critical import BEGIN, NEED, Critical
from engine.timeline.drawing import draw
from engine.timeline.folding import ended, fold
from engine.units import show_duration, show_size

ROWS: Final = 300
"""Steps of an artifact, and of a table, that are listed."""

SHOWN: Final = 6
"""Changes behind all failures that are listed."""

LONGEST: Final = 12
"""Steps of the critical path that are shown by themselves in a folded graph."""

STYLE: Final = """
:root{color-scheme:light dark;--page:#fff;--text:#1c1f23;--less:#667080;--line:#d8dde3;
--card:#f6f8fa;
--built:#2e7d4f;--cached:#7b8794;--failed:#c62f2f;--skipped:#b07a1c;--running:#2b6cb0;--path:#6f42c1}
@media(prefers-color-scheme:dark){:root{--page:#14171a;--text:#e4e7eb;--less:#9aa5b1;--line:#333a42;
--card:#1d2126;--built:#5bbf86;--cached:#8a94a0;--failed:#ff7b72;--skipped:#dba642;--running:#6cb0f5;
--path:#b792f0}}
*{box-sizing:border-box}
body{margin:0 auto;padding:2rem 1.5rem 4rem;max-width:76rem;background:var(--page);
color:var(--text);font:15px/1.5 system-ui,sans-serif}
h1{font-size:1.4rem;margin:0}h2{font-size:1.1rem;margin:2.2rem 0 .6rem}
h3{font-size:1rem;margin:0 0 .3rem}
p{margin:.3rem 0}.less{color:var(--less)}
code,pre{font:13px/1.45 ui-monospace,monospace}
pre{margin:.4rem 0;padding:.5rem .7rem;overflow-x:auto;background:var(--page);
border:1px solid var(--line);border-radius:6px}
.card{margin:.8rem 0;padding:.9rem 1.1rem;background:var(--card);border:1px solid var(--line);
border-left:4px solid var(--failed);border-radius:6px}
.graph{overflow:auto;max-height:42rem;border:1px solid var(--line);border-radius:6px;
background:var(--card)}
table{border-collapse:collapse;width:100%}
th,td{padding:.25rem .6rem .25rem 0;text-align:left;vertical-align:top;
border-bottom:1px solid var(--line);overflow-wrap:anywhere}
th{color:var(--less);font-weight:500;white-space:nowrap}
.n{width:1%;text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}td.b{width:7rem}
.bar{display:inline-block;height:.55rem;min-width:1px;border-radius:2px;background:var(--path)}
.built{color:var(--built)}.cached{color:var(--cached)}.failed{color:var(--failed)}
.skipped{color:var(--skipped)}.running{color:var(--running)}
summary{cursor:pointer}details{margin:.3rem 0}
svg text{font:12px system-ui,sans-serif;fill:var(--text)}
svg text.less{font-size:11px;fill:var(--less)}
svg rect{fill:var(--page);stroke:currentColor;stroke-width:1.5}
svg .node.path rect{stroke-width:3;stroke:var(--path)}svg .node.failed rect{stroke:var(--failed)}
svg .edge{fill:none;stroke:var(--less);stroke-width:1;opacity:.5}
svg .edge.path{stroke:var(--path);stroke-width:2.5;opacity:1}
"""

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"


def page(course: Course, path: Critical, found: Autopsy | None) -> str:
    """Return the page of a build; `found` is its autopsy, None where none is wanted."""
    failures = found.failures if found is not None else ()
    anchors = {one.label: f"failure-{number}" for number, one in enumerate(failures)}
    body = [*_head(course)]
    if found is not None:
        body += _found(found, anchors)
    body += _graph(course, path, failures, anchors)
    body += _path(path)
    body += _steps(course)
    title = escape(f"{course.build} · bn")
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )


def _head(course: Course) -> Iterator[str]:
    status = course.status or "no end is known"
    mark = "built" if course.status == "ok" else "failed"
    counts = Counter(ended(step) for step in course.steps.values())
    shown = ", ".join(f'<span class="{kind}">{n} {kind}</span>' for kind, n in counts.items())
    yield f'<h1>{escape(course.build)} <span class="{mark}">{escape(status)}</span></h1>'
    yield f'<p class="less">{escape(course.spec)} · {show_duration(course.seconds)} · {shown}</p>'
    if course.command:
        yield f"<p><code>bn {escape(' '.join(course.command))}</code></p>"


def _found(found: Autopsy, anchors: dict[str, str]) -> Iterator[str]:
    if not found.failures:
        yield "<h2>Failures</h2><p>Nothing failed in this build.</p>"
    if found.roots:
        yield "<h2>Likely causes</h2>"
        yield from _table(
            ("likeness", "", "change", "may be behind"),
            (
                (f"{root.likeness:.0%}", root.likeness, str(root.change), _few(root.failed))
                for root in found.roots[:SHOWN]
            ),
            numbers=1,
        )
    if found.failures:
        yield "<h2>Failures</h2>"
        yield from (_failure(one, anchors[one.label]) for one in found.failures)
    if found.others:
        yield f"<p>{len(found.others)} more failed: {escape(_few(found.others))}</p>"
    for what, labels in (("Not tried", found.untried), ("Running when it ended", found.running)):
        if labels:
            yield f"<p>{what}: {escape(_few(labels))}</p>"


def _failure(one: Failure, anchor: str) -> str:
    parts = [f"<h3>{escape(one.label)}</h3><p class=failed>{escape(one.reason or one.status)}</p>"]
    if one.action:
        used = f"{show_duration(one.cpu_seconds)} of a processor, {show_size(one.peak_memory)}"
        text = f"after {show_duration(one.seconds)} ({used}); it ran because of: {one.why}"
        parts.append(f'<p class="less">{escape(text)}</p>')
    if one.lines:
        lines = "\n".join(f"{line.number:>5}  {line.text}" for line in one.lines)
        parts.append(f"<pre>{escape(lines)}</pre>")
    if one.candidates:
        rows = (
            (f"{c.likeness:.0%}", c.likeness, str(c), ", ".join(c.because)) for c in one.candidates
        )
        parts += _table(("likeness", "", "cause", "because"), rows, numbers=1)
    for attempt in one.attempts:
        took = (
            ""
            if attempt.ended is None
            else f" after {show_duration(attempt.ended - attempt.began)}"
        )
        text = f"tried on {attempt.node or 'local'}: {attempt.reason or attempt.status}{took}"
        parts.append(f'<p class="less">{escape(text)}</p>')
    if one.stopped:
        names = "".join(f"<li>{escape(label)}</li>" for label in one.stopped[:ROWS])
        rest = len(one.stopped) - ROWS
        names += f"<li>and {rest} more</li>" if rest > 0 else ""
        count = len(one.stopped)
        parts.append(
            f"<details><summary>{count} not built because of it</summary><ul>{names}</ul></details>"
        )
    parts += [f"<p>hint: {escape(hint)}</p>" for hint in one.hints]
    if one.reproduce:
        parts.append(f"<p>again, just as it was:</p><pre>{escape(one.reproduce)}</pre>")
    return f'<section class="card" id="{anchor}">{"".join(parts)}</section>'


def _graph(
    course: Course, path: Critical, failures: Sequence[Failure], anchors: dict[str, str]
) -> Iterator[str]:
    if not course.steps:
        return
    links = sorted(path.chain, key=lambda link: -link.seconds)[:LONGEST]
    between = [name for one in failures for c in one.candidates[:3] for name in c.between]
    important = [*(one.label for one in failures), *between, *(link.label for link in links)]
    on_path = {link.label for link in path.chain}
    graph = fold(course, dict.fromkeys(important), on_path)
    note = "" if len(graph.nodes) == len(course.steps) else ", folded"
    yield f"<h2>Graph</h2><p class=less>{len(course.steps)} steps{note}; "
    yield "the critical path is marked; what is needed stands to the left</p>"
    lines = [(link.after, link.label) for link in path.chain if link.waited_for == NEED]
    yield f'<div class="graph">{draw(graph, anchors, lines)}</div>'


def _path(path: Critical) -> Iterator[str]:
    if not path.chain:
        return
    whole = show_duration(path.makespan)
    yield f"<h2>Critical path</h2><p>{whole} on {path.processors} processors, "
    yield f"of which steps of the path took {show_duration(path.on_path)}; "
    yield f"the longest chain of needs {show_duration(path.longest)}</p>"
    links = path.chain[:ROWS]
    rows = (
        (
            show_duration(link.began),
            show_duration(link.seconds),
            link.share,
            link.label,
            "" if link.waited_for == BEGIN else f"{link.waited_for}: {link.after}",
        )
        for link in links
    )
    yield from _table(("began", "took", "share", "step", "had waited for"), rows)
    gains = [gain for gain in path.gains if gain.zero > 0][:ROWS]
    if gains:
        yield "<h2>What a faster step would gain</h2>"
        yield from _table(
            ("if half as long", "if no time", "step", ""),
            (
                (
                    show_duration(gain.half),
                    show_duration(gain.zero),
                    gain.label,
                    "" if gain.on_path else "beside the path",
                )
                for gain in gains
            ),
        )


def _steps(course: Course) -> Iterator[str]:
    """Yield all steps, by artifact, folded."""
    artifacts: dict[str, list[Step]] = {}
    for step in course.steps.values():
        artifacts.setdefault(step.artifact, []).append(step)
    if artifacts:
        yield "<h2>Steps</h2>"
    for name, steps in artifacts.items():
        counts = Counter(ended(step) for step in steps)
        shown = ", ".join(f'<span class="{kind}">{n} {kind}</span>' for kind, n in counts.items())
        took = show_duration(sum(step.seconds for step in steps))
        yield f"<details><summary>{escape(name)} <span class=less>{shown}, {took}</span></summary>"
        ordered = sorted(steps, key=lambda step: (-step.seconds, step.label))
        yield from _table(
            ("took", "memory", "step", "how it ended", "why"),
            (
                (
                    show_duration(step.seconds) if step.seconds else "",
                    show_size(step.peak_memory) if step.peak_memory else "",
                    step.label,
                    step.status,
                    step.reason or step.why,
                )
                for step in ordered[:ROWS]
            ),
        )
        if len(steps) > ROWS:
            yield f"<p class=less>and {len(steps) - ROWS} more</p>"
        yield "</details>"


def _table(
    heads: Iterable[str], rows: Iterable[Iterable[str | float]], numbers: int = 2
) -> Iterator[str]:
    """Yield a table whose first columns are `numbers`, as text; a number in a row is a share, shown
    as a bar."""
    named = "".join(
        f"<th{' class=n' if place < numbers else ''}>{escape(head)}</th>"
        for place, head in enumerate(heads)
    )
    yield f"<table><tr>{named}</tr>"
    for row in rows:
        cells = []
        for place, value in enumerate(row):
            if isinstance(value, str):
                mark = ' class="n"' if place < numbers else ""
                cells.append(f"<td{mark}>{escape(value)}</td>")
            else:
                width = round(6 * min(1.0, max(0.0, value)), 2)
                cells.append(
                    f'<td class="b"><span class="bar" style="width:{width}rem"></span></td>'
                )
        yield f"<tr>{''.join(cells)}</tr>"
    yield "</table>"


def _few(labels: Sequence[str], most: int = 8) -> str:
    more = f" and {len(labels) - most} more" if len(labels) > most else ""
    return f"{', '.join(labels[:most])}{more}"

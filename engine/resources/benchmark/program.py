"""The fixed TypeScript program that is compiled: the same bytes everywhere, made from its numbers.

Every module has an interface and a mapped type of it, a generic class, a union with the function
that tells its members apart, a conditional type that recurses, and functions that call those of
modules before it; so a compiler parses, resolves, infers, checks and emits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

MODULES: Final = 16
PARTS: Final = 6
"""Groups of declarations in a module; with them the size of the program. To change either, or a
template, makes another benchmark: the reference seconds do not hold then."""

CONFIG: Final = """{
  "compilerOptions": {
    "target": "es2022", "module": "es2022", "moduleResolution": "bundler", "lib": ["es2022"],
    "types": [], "strict": true, "declaration": true, "sourceMap": true, "skipLibCheck": true,
    "noUncheckedIndexedAccess": true, "exactOptionalPropertyTypes": true,
    "rootDir": "src", "outDir": "out"
  },
  "include": ["src"]
}
"""

_HEAD: Final = """// Module {m} of the program that bn compiles as a benchmark.
{imports}
export interface Node{m} {{ readonly id: number; name: string; kind: Kind{m}; next?: Node{m} }}
export type Kind{m} = {kinds};
export type Path{m}<T> = T extends object
  ? {{ [K in keyof T & string]: K | `${{K}}.${{Path{m}<NonNullable<T[K]>>}}` }}[keyof T & string]
  : never;
"""

_PART: Final = """
export interface Item{n} {{ a{n}: number; b{n}: string; c{n}: readonly string[]; d{n}?: Item{n} }}
export type Partial{n} = {{ [K in keyof Item{n} as `get_${{K & string}}`]: () => Item{n}[K] }};
export type Shape{n} =
  | {{ kind: "circle"; radius: number; tag: "t{n}" }}
  | {{ kind: "square"; side: number; tag: "t{n}" }}
  | {{ kind: "group"; parts: Shape{n}[]; label: string }};
export function area{n}(shape: Shape{n}): number {{
  switch (shape.kind) {{
    case "circle": return Math.PI * shape.radius ** 2;
    case "square": return shape.side * shape.side;
    case "group": return shape.parts.map(area{n}).reduce((sum, one) => sum + one, {p});
  }}
}}
export class Table{n}<K extends string | number, V extends {{ weight: number }}> {{
  private readonly rows = new Map<K, V>();
  constructor(private readonly fallback: V, entries: Iterable<readonly [K, V]> = []) {{
    for (const [key, value] of entries) this.rows.set(key, value);
  }}
  get(key: K): V {{ return this.rows.get(key) ?? this.fallback; }}
  map<R extends {{ weight: number }}>(change: (value: V, key: K) => R, none: R): Table{n}<K, R> {{
    const entries = [...this.rows].map(([key, value]) => [key, change(value, key)] as const);
    return new Table{n}<K, R>(none, entries);
  }}
  total(): number {{ return [...this.rows.values()].reduce((sum, row) => sum + row.weight, 0); }}
}}
export function make{n}(count: number): Item{n}[] {{
  return Array.from({{ length: count }}, (_, at) => ({{
    a{n}: at * {p} + {m}, b{n}: `item ${{at}}`, c{n}: at % 2 === 0 ? ["even"] : ["odd", "{m}"],
  }}));
}}
export function use{n}(items: readonly Item{n}[]): Record<string, number> {{
  const table = new Table{n}<string, {{ weight: number; from: string }}>(
    {{ weight: 0, from: "none" }},
    items.map((item) => [item.b{n}, {{ weight: item.a{n}, from: item.c{n}.join("+") }}] as const),
  );
  const doubled = table.map(
    ({{ weight, from }}) => ({{ weight: weight * 2, from, big: weight > 9 }}),
    {{ weight: 0, from: "", big: false }},
  );
  const result: Record<string, number> = {{ total: doubled.total(), first: items[0]?.a{n} ?? -1 }};
  for (const item of items) {{
    const {{ a{n}: value, b{n}: key, ...rest }} = item;
    result[key] = (result[key] ?? 0) + value + (rest.d{n}?.a{n} ?? rest.c{n}.length);
  }}
  return result;
}}
"""

_TAIL: Final = """
export function walk{m}(node: Node{m} | undefined): Kind{m}[] {{
  const found: Kind{m}[] = [];
  for (let at = node; at !== undefined; at = at.next) found.push(at.kind);
  return found;
}}
export type Paths{m} = Path{m}<{{ node: {{ left: {{ id: number }}; right: {{ id: string }} }}; at: {{ m{m}: boolean }} }}>;
export const run{m} = (size: number): number =>
  [{calls}].flatMap((one) => Object.values(one)).reduce((sum, one) => sum + one, 0){earlier};
"""  # noqa: E501 lines of another language


def module(number: int) -> str:
    """Return the text of a module; the program's first ones are imported by later ones."""
    before = sorted({number - 1, number // 2, number // 3} - {number, -1})[-2:]
    imports = "\n".join(f'import {{ run{one} }} from "./m{one}";' for one in before)
    kinds = " | ".join(f'"k{number}_{kind}"' for kind in range(12))
    parts = [number * PARTS + part for part in range(PARTS)]
    return "".join(
        (
            _HEAD.format(m=number, imports=imports, kinds=kinds),
            *(_PART.format(n=part, p=part % PARTS, m=number) for part in parts),
            _TAIL.format(
                m=number,
                calls=", ".join(f"use{part}(make{part}(size))" for part in parts),
                earlier="".join(f" + run{one}(size - 1)" for one in before),
            ),
        )
    )


def write_program(directory: Path, modules: int = MODULES) -> None:
    """Write the program and its configuration; raises OSError."""
    (directory / "src").mkdir(parents=True, exist_ok=True)
    (directory / "tsconfig.json").write_text(CONFIG)
    for number in range(modules):
        (directory / f"src/m{number}.ts").write_text(module(number))

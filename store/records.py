"""Records: `attrs.frozen` and its like for modules that every build loads.

attrs compiles several methods for every class when it is defined, and takes as long to load as
forty of these. Here `__init__` is compiled when a few instances were made, and all else are
closures. Only what is used of attrs is known: slots, `kw_only`, `eq`, and fields with `default`,
`factory`, `init`, `eq` and `repr`; base classes have methods only. To attrs such a class is one of
its own: `attrs.fields`, `asdict`, `evolve` and cattrs take it.
"""

from __future__ import annotations

import operator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from attrs import define as define
    from attrs import evolve as evolve
    from attrs import field as field
    from attrs import frozen as frozen

NOTHING = object()
"""The default of a field that has none."""

FEW = 8
"""Instances that are made of a class without code of its own: that takes as long as to compile."""


class _Field:
    """One field: what `field` was told, and its name."""

    __slots__ = ("default", "eq", "factory", "init", "name", "repr")

    def __init__(
        self,
        default: Any = NOTHING,
        factory: Any = None,
        init: bool = True,
        eq: bool = True,
        repr: bool = True,  # noqa: A002 as attrs calls it
    ) -> None:
        self.name = ""
        self.default = default
        self.factory = factory
        self.init = init
        self.eq = eq
        self.repr = repr

    @property
    def alias(self) -> str:
        """The name of the argument."""
        return self.name.lstrip("_")


def field_names(record: type) -> tuple[str, ...]:
    """Return the names of a record's fields, in order."""
    return tuple(one.name for one in record.__fields__)  # type: ignore[attr-defined]


def _record(cls: Any, frozen: bool, kw_only: bool, eq: bool) -> Any:
    """Return the class made anew, with slots and the methods of a record."""
    space = dict(cls.__dict__)
    fields = []
    for name, kind in space.get("__annotations__", {}).items():
        if not str(kind).startswith("ClassVar"):
            value = space.pop(name, NOTHING)
            one = value if isinstance(value, _Field) else _Field(value)
            one.name = name
            fields.append(one)
    for name in ("__dict__", "__weakref__"):
        space.pop(name, None)
    names = tuple(one.name for one in fields)
    space["__qualname__"] = cls.__qualname__
    space["__slots__"] = names
    space["__fields__"] = tuple(fields)
    space["__taken__"] = tuple((one.name, one.alias) for one in fields if one.init)
    space["__attrs_attrs__"] = _AsAttrs()
    given = () if kw_only else tuple(one.name for one in fields if one.init)
    space.setdefault("__match_args__", given)
    space.setdefault("__init__", _first_init(frozen, kw_only))
    space.setdefault("__repr__", _repr)
    if eq:
        _compare(space, [one.name for one in fields if one.eq], frozen)
    if frozen:
        space["__setattr__"] = space["__delattr__"] = _refuse
    return type(cls)(cls.__name__, cls.__bases__, space)


def _first_init(frozen: bool, kw_only: bool) -> Any:
    """Return the `__init__` of the first instances; where more are made, it compiles the real one,
    which takes its place."""
    made = 0

    def __init__(self: Any, *arguments: Any, **named: Any) -> None:  # noqa: N807
        nonlocal made
        made += 1
        cls = type(self)
        values = None if made > FEW else _values(cls, kw_only, arguments, named)
        if values is None:
            cls.__init__ = _compiled_init(cls, frozen, kw_only)
            cls.__init__(self, *arguments, **named)
            return
        for name, value in values:
            object.__setattr__(self, name, value)
        if hasattr(cls, "__attrs_post_init__"):
            self.__attrs_post_init__()

    return __init__


def _values(cls: Any, kw_only: bool, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """Return names and values of the fields of an instance; None where the arguments are wrong."""
    if arguments:
        expected = [one.alias for one in cls.__fields__ if one.init]
        if kw_only or len(arguments) > len(expected) or named.keys() & expected[: len(arguments)]:
            return None
        named = {**dict(zip(expected, arguments, strict=False)), **named}
    values, taken = [], 0
    for one in cls.__fields__:
        if one.init and one.alias in named:
            values.append((one.name, named[one.alias]))
            taken += 1
        elif one.factory is not None:
            values.append((one.name, one.factory()))
        elif one.default is not NOTHING:
            values.append((one.name, one.default))
        elif one.init:
            return None
    return values if taken == len(named) else None


def _compiled_init(cls: Any, frozen: bool, kw_only: bool) -> Any:
    space: dict[str, Any] = {"NOTHING": NOTHING}
    arguments, body = ["self", "*"] if kw_only else ["self"], []
    for one in cls.__fields__:
        value = name = one.alias
        if one.factory is not None:
            space[f"make_{name}"] = one.factory
            made, default = f"make_{name}()", "NOTHING"
            value = f"{made} if {name} is NOTHING else {name}" if one.init else made
        elif one.default is not NOTHING:
            space[f"default_{name}"] = one.default
            default = f"default_{name}"
            value = name if one.init else default
        else:
            default = ""
        if one.init:
            arguments.append(f"{name}={default}" if default else name)
        elif not default:
            continue
        if frozen:
            space[f"set_{name}"] = cls.__dict__[one.name].__set__
            body.append(f" set_{name}(self, {value})")
        else:
            body.append(f" self.{one.name} = {value}")
    if hasattr(cls, "__attrs_post_init__"):
        body.append(" self.__attrs_post_init__()")
    if arguments == ["self", "*"]:
        arguments.pop()
    exec(f"def __init__({', '.join(arguments)}):\n" + "\n".join(body or [" pass"]), space)
    made = space["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    return made


def _compare(space: dict[str, Any], names: list[str], frozen: bool) -> None:
    """Add comparison by the fields of these names."""
    values = operator.attrgetter(*names) if names else type

    def __eq__(self: Any, other: Any) -> Any:  # noqa: N807
        if other.__class__ is not self.__class__:
            return NotImplemented
        return values(self) == values(other)

    def __hash__(self: Any) -> int:  # noqa: N807
        return hash(values(self))

    space["__eq__"] = __eq__
    space["__hash__"] = __hash__ if frozen else None


def _repr(self: Any) -> str:
    shown = (one.name for one in self.__fields__ if one.repr)
    texts = ", ".join(f"{name}={getattr(self, name, NOTHING)!r}" for name in shown)
    return f"{type(self).__qualname__.rpartition('>.')[2]}({texts})"


def _refuse(self: Any, name: str, value: object = None) -> None:
    from attrs.exceptions import FrozenInstanceError

    raise FrozenInstanceError


class _AsAttrs:
    """What attrs looks for in a class, made when it does."""

    def __get__(self, _instance: object, cls: Any) -> Any:
        import attrs

        kinds = cls.__annotations__
        made = {}
        for one in cls.__fields__:
            default = attrs.NOTHING if one.default is NOTHING else one.default
            if one.factory is not None:
                default = attrs.Factory(one.factory)
            made[one.name] = attrs.field(
                default=default, init=one.init, eq=one.eq, repr=one.repr, type=kinds[one.name]
            )
        return attrs.fields(attrs.make_class(cls.__name__, made, kw_only=True))


if not TYPE_CHECKING:

    def field(**told: Any) -> Any:
        """Return a field with other than the plain behaviour; see `attrs.field`."""
        return _Field(**told)

    def frozen(cls: Any = None, *, kw_only: bool = False, eq: bool = True) -> Any:
        """Make a class a record that does not change; see `attrs.frozen`."""
        if cls is None:
            return lambda cls: _record(cls, True, kw_only, eq)
        return _record(cls, True, kw_only, eq)

    def define(cls: Any = None, *, kw_only: bool = False, eq: bool = True) -> Any:
        """Make a class a record that may change; see `attrs.define`."""
        if cls is None:
            return lambda cls: _record(cls, False, kw_only, eq)
        return _record(cls, False, kw_only, eq)

    def evolve(instance: Any, **changes: Any) -> Any:
        """Return a record that is like `instance` but for some fields; see `attrs.evolve`."""
        for name, alias in instance.__taken__:
            if alias not in changes:
                changes[alias] = getattr(instance, name)
        return type(instance)(**changes)

"""What new definitions leave out of those in force though something still asks for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from state.definition_set import DefinitionSet
from state.expressions import ExpressionError, parse
from state.offers import OfferSpec
from state.syntax import Arithmetic, Call, Comparison, Literal, Logic, Name, Node, Not


@dataclass(slots=True, frozen=True)
class LeftOut:
    """A definition that is missed.

    Attributes:
        what: is left out, in words.
        by: which conditions ask for it.
    """

    what: str
    by: tuple[str, ...]


def left_out(
    live: DefinitionSet, wanted: DefinitionSet, offers: Sequence[OfferSpec]
) -> list[LeftOut]:
    """What is in force, is not wanted and is asked for, by what is wanted or by offers.

    >>> from state.definitions import FamilySpec, SegmentSpec
    >>> live = DefinitionSet([SegmentSpec("keen", "intent > 4")], [
    ...     FamilySpec("size", [("big", "orders > 9"), ("small", "orders > 0")])])
    >>> offer = OfferSpec("gift", "size == 'big' and not member('keen')", 1)
    >>> for each in left_out(live, DefinitionSet(), [offer]):
    ...     print(each.what, each.by)
    the segment 'keen' ('offers.gift.when',)
    the family 'size' ('offers.gift.when',)
    """
    there = _names_of(wanted)
    gone = {name: what for name, what in _told(live, there).items() if name not in there}
    by: dict[str, list[str]] = {what: [] for what in gone.values()}
    for where, text in _conditions(wanted, offers):
        for what in dict.fromkeys(gone[name] for name in _asked(text) if name in gone):
            by[what].append(where)
    return [LeftOut(what, tuple(askers)) for what, askers in by.items() if askers]


def _names_of(definitions: DefinitionSet) -> set[str]:
    """What conditions may ask for: segments, families, labels, and ``family=label``."""
    names = {spec.name for spec in definitions.segments}
    for family in definitions.families:
        labels = [label for label, _ in family.members]
        names.update([family.name, *labels, *(f"{family.name}={label}" for label in labels)])
    return names


def _told(live: DefinitionSet, there: set[str]) -> dict[str, str]:
    """By the same names of what is in force: what must be put back where one is missed."""
    told = {spec.name: f"the segment {spec.name!r}" for spec in live.segments}
    for family in live.families:
        told[family.name] = whole = f"the family {family.name!r}"
        for label, _ in family.members:
            one = f"the label {label!r} of {whole}" if family.name in there else whole
            told[label] = told[f"{family.name}={label}"] = one
    return told


def _conditions(
    definitions: DefinitionSet, offers: Iterable[OfferSpec]
) -> Iterator[tuple[str, str]]:
    """Every condition that may ask for segments, with its path."""
    for spec in definitions.segments:
        yield f"segments.{spec.name}.enter", spec.enter
        if spec.exit is not None:
            yield f"segments.{spec.name}.exit", spec.exit
    for family in definitions.families:
        for label, text in family.members:
            yield f"families.{family.name}.labels.{label}", text
    for offer in offers:
        yield f"{offer.column}.when", offer.when


def _asked(text: str) -> Iterator[str]:
    """What a condition asks for, as ``_names_of`` has it; nothing where it is not one."""
    try:
        yield from _names(parse(text))
    except ExpressionError:
        return


def _names(node: Node) -> Iterator[str]:
    match node:
        case Name(name=name):
            yield name
        case Call(function="member", arguments=(Literal(value=str(name)),)):
            yield name
        case Call(arguments=parts) | Logic(parts=parts):
            for part in parts:
                yield from _names(part)
        case (
            Comparison(left=Name(name=name), right=Literal(value=str(label)))
            | Comparison(left=Literal(value=str(label)), right=Name(name=name))
        ):
            yield from (name, f"{name}={label}")
        case Comparison() | Arithmetic():
            yield from _names(node.left)
            yield from _names(node.right)
        case Not(part=part):
            yield from _names(part)

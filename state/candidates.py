"""The candidates of one user as a document: what stands where.

A MessagePack map::

    {v, as_of, valid_to, model, user_id, experiment: {name: arm},
     items: [{item_id, score, source, because}]}

``source`` says where a candidate comes from, ``because`` names the user's own item that it goes
with, null where there is none.
"""

from __future__ import annotations

from collections.abc import Sequence

from state.packing import Form, Many, Slot, map_head, pack

VERSION = 1


def candidates_form() -> Form:
    """The form; a slot's column is named by its path, those of ``items`` have one per candidate."""
    entries: dict[str, Sequence[bytes | Slot | Many]] = {
        "v": [pack(VERSION)],
        "as_of": [Slot("as_of")],
        "valid_to": [Slot("valid_to")],
        "model": [Slot("model")],
        "user_id": [Slot("user_id", "text")],
        "experiment": [Many("experiment", "map", _arm())],
        "items": [Many("items", "list", _candidate())],
    }
    parts: list[bytes | Slot | Many] = [map_head(len(entries))]
    for name, value in entries.items():
        parts += [pack(name), *value]
    return Form(parts)


def _arm() -> list[bytes | Slot]:
    return [Slot("experiment.name", "text"), Slot("experiment.arm", "text")]


def _candidate() -> list[bytes | Slot]:
    return [
        map_head(4),
        *(pack("item_id"), Slot("items.item_id", "text")),
        *(pack("score"), Slot("items.score", "float")),
        *(pack("source"), Slot("items.source", "text")),
        *(pack("because"), Slot("items.because", "text")),
    ]

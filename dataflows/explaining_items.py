"""Why an item is in a user's stored list, in words."""

from __future__ import annotations

import time
from typing import Any, Final

WHY: Final = {
    "covisits": "seen together with {because}",
    "reminders": "the customer's own earlier item",
    "together": "bought together with {because}",
    "similar": "described like {because}",
    "category": "popular in the category of {because}",
    "popular": "popular",
    "trending": "popular lately",
    "segment": "popular with customers of the same label",
    "sessions": "came in sessions like this one, with {because}",
    "cosine": "had by those who had {because}",
    "pinned": "put there by a rule",
}
"""Sources of candidates in words; ``because`` is the user's own item that one goes with."""


def explain_item(document: dict[str, Any], item: str) -> str:
    """Why an item is in a list, or that it is not.

    >>> explain_item({"user_id": "ann", "as_of": 0, "model": 9, "experiment": {}, "items": [
    ...     {"item_id": "cup", "score": 0.5, "source": "popular", "because": None}]}, "cup")
    'cup is number 1 of 1 for ann: popular (source popular, score 0.500, as of \
1970-01-01 00:00:00 UTC, after 9 interactions).'
    """
    user, items = document["user_id"], document["items"]
    for place, each in enumerate(items, 1):
        if each["item_id"] == item:
            why = WHY[each["source"]].format(because=each["because"])
            arms = ", ".join(f"{name} = {arm}" for name, arm in document["experiment"].items())
            tried = f" Experiments: {arms}." if arms else ""
            return (
                f"{item} is number {place} of {len(items)} for {user}: {why} (source "
                f"{each['source']}, score {each['score']:.3f}, as of {utc(document['as_of'])}, "
                f"after {document['model']:,} interactions).{tried}"
            )
    return (
        f"{item} is not among the {len(items)} items for {user}: no source ranks it high enough "
        "(recommend.sources), or it was just seen, lately bought, is unavailable or excluded"
    )


def utc(ms: int) -> str:
    """A time as people read it."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(ms / 1000))

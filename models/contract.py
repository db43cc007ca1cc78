"""What every model keeps to, whatever it learns.

- It has River's API: ``learn_one``, ``predict_one`` or ``predict_proba_one`` on dicts, and beside
  them ``learn_many`` and ``predict_many`` or ``predict_proba_many`` on whole arrays float64[n, k],
  whose columns are its ``features`` in their order.
- It predicts before it has learned, and predicting changes nothing.
- It is seeded: the same rows in the same order give the same model.
- Its memory is bounded.
- NaN and infinity are refused before they reach a weight: one would make a mean NaN for ever.
- ``to_state`` gives plain data for JSON or MessagePack, with the format, the version of the library
  that defines the model, and the list of features; ``from_state`` takes it back, bit for bit, and
  refuses in words what was written for others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled

F64 = NDArray[np.float64]
State = dict[str, Any]

LARGEST: Final = 1e100
"""Features beyond this are refused: their squares would overflow a variance."""


class ModelMismatch(Exception):
    """A saved model does not fit the program or the settings that want to use it."""


def refuse_mismatch(what: str, saved: object, wanted: object) -> None:
    """Raise ``ModelMismatch`` unless what was saved is what is in use."""
    if saved != wanted:
        raise ModelMismatch(
            f"the saved model's {what} is {saved!r}, but {wanted!r} is in use: go back to that, "
            "or delete the saved model and let a new one learn from the stream"
        )


def refuse_unfit(X: F64, features: Sequence[str]) -> None:
    """Raise ``ValueError`` unless ``X`` is float64[n, k] of finite numbers within ``LARGEST``.

    >>> refuse_unfit(np.array([[1.0, np.nan]]), ["orders", "days"])
    Traceback (most recent call last):
    ValueError: features must be finite and within ±1e+100, but row 0 has days = nan: fill in or \
drop such rows before
    """
    k = len(features)
    if X.ndim != 2 or X.shape[1] != k:
        raise ValueError(f"X must have the shape (n, {k}), but {X.shape} came")
    if not _fits(X):
        i, j = np.argwhere(~(np.abs(X) <= LARGEST))[0].tolist()
        raise ValueError(
            f"features must be finite and within ±{LARGEST:g}, but row {i} has "
            f"{features[j]} = {X[i, j]}: fill in or drop such rows before"
        )


@compiled
def _fits(X: F64) -> bool:
    fits = True
    for i in range(X.shape[0]):
        for j in range(X.shape[1]):
            fits &= abs(X[i, j]) <= LARGEST  # NaN is not
    return fits


def refuse_names(features: Sequence[str]) -> None:
    """Raise ``ValueError`` unless there are names and none comes twice."""
    if not features or len(set(features)) != len(features):
        raise ValueError(
            f"a model needs features with different names, but {list(features)!r} came"
        )

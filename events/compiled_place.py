"""Where compiled loops are kept.

numba looks only at the file of a loop to see whether what it has kept is still true, and not at the
steps that the loop takes from other files. So loops are kept in a folder that is named by the
contents of all files that may hold such steps, and in no other.

That folder lies in ``.compiled``, or in ``NUMBA_CACHE_DIR``. Who may not write there, as in a
container whose files are read-only, works with a copy among the temporary files of that user. Where
none can be made either, loops are compiled at every start.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).parent.parent
_LAYERS: Final = ("events", "state", "models")
_NAME_LENGTH: Final = 16


def kept_in() -> Path:
    """The folder of what is compiled from the sources as they are; it need not be there yet."""
    base, name = _base(), _name()
    return base / name if _is_writable(base) else _copy(base / name) or base / name


def is_kept() -> bool:
    """Whether what is compiled now will be there at the next start."""
    return _is_writable(kept_in().parent)


def is_filled() -> bool:
    """Whether anything has been compiled yet."""
    return any(kept_in().glob("*/*.nbi"))


def outdated() -> list[Path]:
    """Folders of what was compiled from other sources."""
    here = kept_in()
    return [
        other
        for other in here.parent.glob("*")
        if other != here and len(other.name) == _NAME_LENGTH
    ]


def _base() -> Path:
    return Path(os.environ.get("NUMBA_CACHE_DIR") or _ROOT / ".compiled")


def _name() -> str:
    found = hashlib.sha256()
    for layer in _LAYERS:
        for file in sorted((_ROOT / layer).glob("*.py")):
            found.update(file.read_bytes())
    return found.hexdigest()[:_NAME_LENGTH]


def _is_writable(folder: Path) -> bool:
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return os.access(folder, os.W_OK | os.X_OK)


def _copy(origin: Path) -> Path | None:
    """The copy of a folder that cannot be written to; None if there is no place for one.

    It is shared by all processes of this user, and nobody else may have put anything into it.
    """
    try:
        home = Path(tempfile.gettempdir()) / f"afterglow-{os.getuid()}"
        home.mkdir(mode=0o700, exist_ok=True)
        held = home.lstat()
        if held.st_uid != os.getuid() or stat.S_IMODE(held.st_mode) != 0o700:
            return None
        copy = home / origin.name
        if origin.is_dir() and not copy.exists():
            with tempfile.TemporaryDirectory(dir=home) as name:
                part = Path(name) / "all"
                for file in origin.glob("*/*"):
                    (part / file.parent.name).mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(file, part / file.parent.name / file.name)
                with suppress(OSError):  # another process was faster
                    part.rename(copy)
    except OSError:
        return None
    return copy

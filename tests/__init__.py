"""Tests, mirroring the tree."""

from pathlib import Path

import pytest

# what helpers assert says what came, too
pytest.register_assert_rewrite(*(f"tests.{path.stem}" for path in Path(__file__).parent.iterdir()))

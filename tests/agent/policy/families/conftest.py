"""The families are trained here as well as served."""

import pytest

pytest.importorskip("trl", reason="training needs lensgraph[train]")

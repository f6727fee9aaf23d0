"""setuptools' build backend, which forgets an earlier build first.

setuptools copies modules into `build/lib` and packs what lies there: a module that was renamed since would be packed as well.
"""

import shutil
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403


def build_wheel(*arguments: Any, **named: Any) -> str:
    """Build the wheel of the files that are there now, in the current folder."""
    shutil.rmtree("build/lib", ignore_errors=True)  # only there: a strict editable install lives in `build`, too
    return build_meta.build_wheel(*arguments, **named)

"""Imported before the package is asked for anything: a benchmark leaves nothing in the user's cache, nor elsewhere."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

os.environ["RELA_ZOO_HOME"] = tempfile.mkdtemp(prefix="rela-zoo-bench-")
atexit.register(shutil.rmtree, os.environ["RELA_ZOO_HOME"], ignore_errors=True)

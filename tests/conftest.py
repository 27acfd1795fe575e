"""Settings for every test."""

import os

# Tests work on tiny tensors and start processes of their own: more threads would only wait for each other. Set before
# torch is imported, and inherited by those processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

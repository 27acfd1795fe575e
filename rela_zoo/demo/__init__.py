"""`rela-zoo demo`: the whole way, from a prior's name to a table of accuracies, on data that scikit-learn carries."""

from rela_zoo._io.environment import environment
from rela_zoo.demo._digits import write_digits
from rela_zoo.demo._run import run_demo
from rela_zoo.demo._student import read_held_out, score

__all__ = ["environment", "read_held_out", "run_demo", "score", "write_digits"]

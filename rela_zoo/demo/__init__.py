"""`rela-zoo demo`: the whole way, from a prior's name to a table of accuracies, on data that scikit-learn carries."""

from rela_zoo.demo._run import run_demo

__all__ = ["run_demo"]

"""Experiments: what it costs to reach the accuracy of full-data training, on one machine, with one command.

`run.py` trains a grid, `report.py` draws it, `throughput.py` times the steps. Of the package only what needs torch,
NumPy and safetensors is imported, so that a GPU machine without the package index can run all of it from a checkout.
"""

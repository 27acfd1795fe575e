"""Where Hydra finds this package's plugin. There must be no `__init__.py` one folder up: Hydra's plugins share it."""

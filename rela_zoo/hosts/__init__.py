"""The training frameworks this package works inside."""

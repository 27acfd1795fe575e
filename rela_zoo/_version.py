"""The version, alone in a file: every room writes it into its artefacts, and none may import the package's face."""

__version__ = "0.1.0"

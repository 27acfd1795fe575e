"""Priors: frozen networks with their own preprocessing attached."""

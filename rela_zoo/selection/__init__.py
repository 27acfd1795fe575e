"""Which samples an epoch draws, by where they lie in the prior's space."""

"""What embeddings and networks are worth: similarity of spaces, comparison and choice of priors, probes of features."""

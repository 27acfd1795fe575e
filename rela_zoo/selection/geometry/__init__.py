"""Where the samples of a data set lie in the prior's space: clusters, centres, near-duplicates."""

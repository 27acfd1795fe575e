"""Files, locks, digests, progress and places on this machine: what every room stands on. Knows nothing of priors."""

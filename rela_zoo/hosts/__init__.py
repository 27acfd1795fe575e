"""Training programs that the method wrapper works in: solo-learn, and the built-in host for a fresh machine."""

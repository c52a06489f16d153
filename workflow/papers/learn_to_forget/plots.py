"""The results of Learn to Forget: one function per key, draw(table, reference) -> Figure."""

"""The figures of A Closer Look at Memorization: one function per key, draw(table, reference) -> Figure."""

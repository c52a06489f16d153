"""The figures of A Closer Look at Memorization in Deep Networks: one function per key, draw(table, reference) -> Figure."""

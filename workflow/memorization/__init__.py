"""Reference replication of four works on unintended memorisation in neural networks.

Importing this package imports neither torch nor tensorflow: back ends are loaded by name (`backends.load`).
"""

NUMERICS_VERSION = 1
"""Part of every run id. Raise it when a change of the code would change a trained model's numbers."""

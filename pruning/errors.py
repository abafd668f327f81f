"""What pruning raises when it is asked for something that cannot be."""


class PruningError(ValueError):
    """A method, a sparsity or a network that cannot be served; the message says what, where and what to do."""

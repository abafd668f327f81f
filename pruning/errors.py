"""What pruning raises when it is asked for something that cannot be."""

from prunectl.errors import Error


class PruningError(Error):
    """A method, a sparsity or a network that cannot be served; the message says what, where and what to do."""

"""What prunectl raises for everything that its user can put right."""


class Error(ValueError):
    """One line: what is wrong, where, and what to do. Any other exception is a fault of prunectl, or of the system."""

"""What prunectl raises for everything that its user can put right."""

#: Set, it lets an error that nobody foresaw through as it is, with its traceback.
DEBUG = "PRUNECTL_DEBUG"


class Error(ValueError):
    """One line: what is wrong, where, and what to do. Any other exception is a fault of prunectl, or of the system."""


class ControllerError(Error):
    """A checkpoint or a controller that cannot be used as asked; the message says what, where and what to do."""

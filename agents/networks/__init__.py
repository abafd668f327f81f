"""Controllers of anybody's own networks: plain modules, and functions that show how data passes through them."""

"""A store's figures, tables and page."""

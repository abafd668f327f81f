"""A sweep: what is asked, the cells of it, carrying them out, the store."""

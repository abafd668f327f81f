"""Controllers from scratch, and how their importances drift on the way."""

"""Taking a controller out: exports, how fast they decide, and the study of both."""

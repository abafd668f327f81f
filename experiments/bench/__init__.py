"""The speed table: what `prunectl bench` measures, each entry against its rival in one run."""

"""``python -m prunectl``: the command line."""

from prunectl.experiments.cli import main

if __name__ == "__main__":
    main()

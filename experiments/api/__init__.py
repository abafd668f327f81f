"""What `import prunectl` offers, and what the commands call: on models in memory and on checkpoints alike."""

"""The benchmark suite: fixed tasks, controllers, sparsities, seeds and budgets, on which pruning methods meet."""

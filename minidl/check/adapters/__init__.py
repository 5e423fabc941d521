"""Ready adapters: examples to copy, loaded by name, each importing its framework and nothing else."""

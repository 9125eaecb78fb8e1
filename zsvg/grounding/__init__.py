"""From a sentence to moments: a model in its folder, its answers, their order and files."""

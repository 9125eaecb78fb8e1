"""Tuning of prompts and a head: recipes, examples, the network, the loop, and a whole run."""

"""From a relevance curve to moments without training: transforms, scorers, and their options."""

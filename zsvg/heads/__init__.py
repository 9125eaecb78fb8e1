"""Trained heads: from frame and query features to moments, one file for each kind."""

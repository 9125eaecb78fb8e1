"""Whole runs that are measured: a grid of tuning runs, and the quickstart on a rendered domain."""

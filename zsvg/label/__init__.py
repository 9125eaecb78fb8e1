"""Pseudo labels of videos that nobody annotated: what is said of each event, for many videos."""

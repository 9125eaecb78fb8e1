"""microworld: rendered, labelled little videos. The offline playground and benchmark.

`script` decides what happens, `language` says it in words, `render` draws it, `domains` holds the
looks, and `world` writes a split to disk.
"""

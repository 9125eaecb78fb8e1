"""Where files lie: paths on a disk, and URLs that are listed, read and written through fsspec."""

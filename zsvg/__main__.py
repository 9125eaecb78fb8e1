"""`python -m zsvg` is `zsvg`."""

from zsvg.cli import main

if __name__ == "__main__":
    main()

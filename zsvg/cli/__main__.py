"""`python -m zsvg.cli` is `zsvg`."""

from zsvg.cli.app import main

if __name__ == "__main__":
    main()

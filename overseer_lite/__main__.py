"""`python -m overseer_lite`: the same as `overseer-lite`."""

from overseer_lite.cli.main import main

if __name__ == "__main__":
    main()

"""`python -m multidrift`, which torchrun can start, too."""

from multidrift.cli.app import main

if __name__ == "__main__":
    main()

"""`python -m rela_zoo`: the command line where `rela-zoo` is not on the path."""

from rela_zoo.cli import main

if __name__ == "__main__":
    main()

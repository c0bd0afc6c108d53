"""python -m npdvae COMMAND ..., the same as npdvae COMMAND ...."""
import sys

from npdvae.cli import main

if __name__ == "__main__":
    sys.exit(main())

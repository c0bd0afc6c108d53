"""python -m npdvae COMMAND ..., the same as npdvae COMMAND ...."""
import sys

from npdvae.cli import main
from npdvae.process import over

if __name__ == "__main__":
    sys.exit(over(main()))

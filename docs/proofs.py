"""python docs/proofs.py: writes the latents' table of docs/verification.md anew, half a minute of one core."""
import pathlib

from npdvae import latents
from npdvae.verify.__main__ import latent_head, latent_line
from npdvae.verify.latents import proofs

PAGE = pathlib.Path(__file__).resolve().parent / "verification.md"
BEGIN, END = "<!-- python docs/proofs.py -->\n```text\n", "```\n<!-- end of proofs -->"


def table():
    """The lines of the table, as the page shows them."""
    head, rest = PAGE.read_text().split(BEGIN)
    return rest.split(END)[0].splitlines()


def main():
    lines = [latent_head(), *(latent_line(row) for name in latents.names() for row in proofs(name))]
    head, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(head + BEGIN + "".join(f"{line}\n" for line in lines) + END + rest.split(END)[1])


if __name__ == "__main__":
    main()

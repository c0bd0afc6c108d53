"""python -m tests.oldest: write constraints-oldest.txt, the lower bounds of pyproject.toml as exact versions."""
import pathlib
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILE = ROOT / "constraints-oldest.txt"


def oldest():
    """The text of the file: what the package and its tests need, each at its lower bound."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    return "".join(line.replace(">=", "==") + "\n" for line in needed)


if __name__ == "__main__":
    FILE.write_text(oldest())

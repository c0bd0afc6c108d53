"""python docs/chapter.py [N ...]: run chapters of the guide without Sphinx; figures go to runs/guide (default: all).

Prints what the chapter prints. --out FOLDER puts the figures elsewhere.
"""
import argparse
import os
import pathlib
import re
import sys

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")      # small products: threads would only wait
GUIDE = pathlib.Path(__file__).resolve().parent / "guide"
CELL = re.compile(r"^```\{code-cell\} ipython3\n(?:---\n.*?^---\n)?((?::[^\n]*\n)*)(.*?)^```", re.M | re.S)


def chapters():
    """Path of each chapter by its number."""
    return {int(path.name[:2]): path for path in sorted(GUIDE.glob("[0-9][0-9]_*.md"))}


def run(path, out):
    """Run the cells of a chapter as one program, from its folder; the figures written, in order."""
    import matplotlib.pyplot as plt
    names, written = {"__name__": "__main__"}, []
    for match in CELL.finditer(path.read_text()):
        first = path.read_text()[:match.start(2)].count("\n")       # so that errors give the line of the page
        exec(compile("\n" * first + match[2], str(path), "exec"), names)
        for number in plt.get_fignums():
            written.append(out / f"{path.stem}-{len(written) + 1}.png")
            plt.figure(number).savefig(written[-1], facecolor="white")
        plt.close("all")
    return written


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description="Run chapters of the guide; their figures become files.")
    parser.add_argument("chapters", nargs="*", type=int, choices=[[], *chapters()], metavar="N")
    parser.add_argument("--out", default="runs/guide", metavar="FOLDER")
    args = parser.parse_args()
    out = pathlib.Path(args.out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    os.chdir(GUIDE)
    sys.path.insert(0, str(GUIDE))
    for number in args.chapters or chapters():
        print(f"== {chapters()[number].stem}")
        for path in run(chapters()[number], out):
            print(path)


if __name__ == "__main__":
    main()

"""python tests/victim.py WHERE NTH ARGUMENTS...: train, and die by SIGKILL at the NTH passage of WHERE (or "never")."""
import os
import pathlib
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from npdvae import files, train  # noqa: E402

# Instants within a save: half of the bytes written, then before or after each call that makes them durable.
PLACES = ("half-written", "before-fsync", "after-fsync", "before-rename", "after-rename", "before-folder-fsync",
          "after-folder-fsync", "before-removal", "after-removal")
where, nth, times = "never", 1, 0


def passing(place):
    """Count a passage, and die at the chosen one."""
    global times
    times += place == where
    if place == where and times == nth:
        os.kill(os.getpid(), signal.SIGKILL)


def around(module, name, place, only=lambda *_: True):
    """Let a function report before and after each call."""
    function = getattr(module, name)

    def reporting(*args, **options):
        reports = only(*args)
        if reports:
            passing("before-" + place)
        result = function(*args, **options)
        if reports:
            passing("after-" + place)
        return result

    setattr(module, name, reporting)


class Halving:
    """An open file that reports when half of its data are on their way to the disk."""

    def __init__(self, *args):
        self.file = open(*args)

    def write(self, data):
        self.file.write(data[:len(data) // 2])
        self.file.flush()
        passing("half-written")
        self.file.write(data[len(data) // 2:])

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()


if __name__ == "__main__":
    where, nth, arguments = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    files.open = Halving
    around(files.os, "fsync", "fsync")
    around(files, "sync_folder", "folder-fsync")
    around(files.os, "replace", "rename")
    around(files.os, "unlink", "removal")
    sys.exit(train.main(arguments))

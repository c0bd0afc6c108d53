"""The reviewed list of mutants that no test can tell from the code, and whether its lines still read as reviewed."""
import json
import pathlib
import tomllib
from typing import NamedTuple

LIST = pathlib.Path(__file__).with_name("equivalents.toml")


class Equivalent(NamedTuple):
    """What the list says of one mutant."""

    text: str                                   # the line as it read when it was reviewed
    replay: bool                                # whether recorded calls may be compared one by one


def equivalents(path=LIST):
    """key: Equivalent, of the whole list."""
    with open(path, "rb") as file:
        groups = tomllib.load(file).get("equivalent", [])
    return {key: Equivalent(text, group.get("replay", True)) for group in groups for key, text in group["mutants"]}


def look_again(known, mutants):
    """(key, line as reviewed, line as it is) of the listed mutants whose line has changed since."""
    return [(m.key, known[m.key].text, m.text) for m in mutants if m.key in known and known[m.key].text != m.text]


def accept(changed, path=LIST):
    """Write the lines as they are into the list: what `look_again` gave has been looked at."""
    content = path.read_text()
    for key, before, now in changed:
        content = content.replace(entry(key, before), entry(key, now))
    path.write_text(content)


def entry(key, text):
    """One mutant as it stands in the list."""
    return f"[{json.dumps(key, ensure_ascii=False)}, {json.dumps(text, ensure_ascii=False)}]"

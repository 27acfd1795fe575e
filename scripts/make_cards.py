"""Write model_cards/ from the registry, the hand-written notes and the measured numbers.

python scripts/make_cards.py            writes what changed, removes cards of priors that are gone
python scripts/make_cards.py --check    writes nothing; exits 1 and names the cards that are stale
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rela_zoo.hub.cards import make_cards, read_measured
from rela_zoo.registry import read_folder

PROJECT = Path(__file__).resolve().parent.parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a card is stale")
    parser.add_argument("--project", type=Path, default=PROJECT, help="folder with registry/ and model_cards/")
    arguments = parser.parse_args()
    folder: Path = arguments.project / "model_cards"
    specs, problems = read_folder(arguments.project / "registry")
    if problems:
        print(*(f"{file}: {field}: {message}" for file, field, message in problems), sep="\n", file=sys.stderr)
        return 2
    wanted = make_cards(specs, folder, read_measured(folder / "measured.yaml", arguments.project))
    there = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.md")}
    stale = sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))
    if arguments.check:
        print(*(f"stale: model_cards/{name}" for name in stale), sep="\n", end="\n" if stale else "")
        return 1 if stale else 0
    for name in stale:
        if name in wanted:
            (folder / name).write_text(wanted[name], encoding="utf-8")
        else:
            (folder / name).unlink()
    print(f"{len(wanted)} files, {len(stale)} changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())

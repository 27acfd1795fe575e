"""Write model_cards/ from the registry, the hand-written notes and the measured numbers.

What `rela-zoo zoo build` has measured, in registry/zoo, becomes the last part of measured.yaml here.

python scripts/make_cards.py            writes what changed, removes cards of priors that are gone
python scripts/make_cards.py --check    writes nothing; exits 1 and names the cards that are stale
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import yaml

from rela_zoo.hub.cards import make_cards, measurements, read_measured
from rela_zoo.registry import read_folder, read_results

PROJECT = Path(__file__).resolve().parent.parent
MARK = "# Below: from registry/zoo, by scripts/make_cards.py; not to be edited.\n"


def measured_text(folder: Path, project: Path) -> str:
    """measured.yaml as it should be: the part that is written by hand, and what the zoo's results say."""
    by_hand = (folder / "measured.yaml").read_text(encoding="utf-8").partition(MARK)[0]
    place = project / "registry" / "zoo"
    made = [one for path in sorted(place.glob("*.json")) for one in
            measurements(read_results(path), path.relative_to(project).as_posix())]  # fmt: skip
    listed = [{**one.model_dump(exclude={"value", "key"}, exclude_defaults=True), "key": list(one.key)} for one in made]
    if not listed:
        return by_hand
    return by_hand + MARK + yaml.safe_dump(listed, sort_keys=False, allow_unicode=True, width=120)


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
    measured = measured_text(folder, arguments.project)
    with tempfile.TemporaryDirectory() as nowhere:
        new = Path(nowhere) / "measured.yaml"
        new.write_text(measured, encoding="utf-8")
        wanted = make_cards(specs, folder, read_measured(new, arguments.project))
    wanted["measured.yaml"] = measured
    files = [*folder.glob("*.md"), folder / "measured.yaml"]
    there = {path.name: path.read_text(encoding="utf-8") for path in files}
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

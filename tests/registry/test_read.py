from __future__ import annotations

import pytest

from rela_zoo.registry import EntryError, read_entry, read_folder
from rela_zoo.registry._read import MAX_BYTES


def problems(path) -> dict[str, str]:
    with pytest.raises(EntryError) as error:
        read_entry(path)
    return {field: message for _, field, message in error.value.problems}


def test_every_problem_of_a_file_is_reported_with_its_field(entry, write):
    del entry["title"]
    found = problems(
        write({**entry, "revision": "main", "colour": "red", "preprocessing": {**entry["preprocessing"], "std": -1}})
    )
    assert set(found) == {"title", "revision", "colour", "preprocessing.std"}
    assert "main" in found["revision"]
    assert found["colour"] == "expected a known key, got 'red'"


def test_cross_field_problems_have_field_paths(entry, write):
    found = problems(write({**entry, "pin": "none", "licence": "other"}))
    assert set(found) == {"pin", "licence_link"}


def test_the_id_is_the_name_of_the_file(entry, write):
    found = problems(write(entry, name="other.yaml"))
    assert "'other', the name of the file, got 'my-prior'" in found["id"]


def test_duplicate_keys_are_errors(write):
    found = problems(write("id: a\ntitle: one\ntitle: two\n", name="a.yaml"))
    assert "duplicate key 'title'" in found[""]
    assert "line 3" in found[""]


def test_nested_duplicate_keys_are_errors(write):
    assert "duplicate key 'x'" in problems(write("a: {x: 1, x: 2}\n", name="a.yaml"))[""]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x [1]\nb: *x\n", "no YAML aliases"),
        ("a: !!python/object/apply:os.system ['true']\n", "could not determine a constructor"),
        ("a: [1, 2\n", "not valid YAML"),
        ("- 1\n- 2\n", "expected a mapping of fields, got list"),
        ("1: x\n", "expected a mapping of fields"),
        ("", "expected a mapping of fields, got NoneType"),
        ("[" * 5000, "not valid YAML"),
        ("a: " + "x" * MAX_BYTES, "at most"),
    ],
)
def test_yaml_that_is_not_an_entry(write, text, message):
    assert message in problems(write(text, name="a.yaml"))[""]


def test_not_text(home):
    path = home / "a.yaml"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in problems(path)[""]


def test_a_number_where_a_string_belongs_says_to_quote_it(entry, write):
    text = write({**entry, "arxiv": ["2405.14669"]}).read_text().replace("'2405.14669'", "2405.14669")
    assert "in quotes" in problems(write(text, name="my-prior.yaml"))["arxiv.0"]


def test_a_folder_reports_all_files_and_names_taken_twice(entry, write, home):
    write(entry)
    write({**entry, "id": "second", "aliases": ["my-prior", "nick"]})
    write({**entry, "id": "third", "aliases": ["nick"]})
    write({**entry, "id": "broken", "dim": -1})
    write("x", name="readme.txt")
    write("x", name=".hidden.yaml")
    specs, found = read_folder(home / "registry")
    assert [spec.id for spec in specs] == ["my-prior", "second", "third"]
    assert {(path.stem, field) for path, field, _ in found} == {
        ("broken", "dim"),
        ("second", "aliases"),
        ("third", "aliases"),
    }


def test_a_missing_folder_is_empty(home):
    assert read_folder(home / "nowhere") == ([], [])

"""`rela-zoo completion`: a script for the shell that completes commands, options and choices, and runs nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

import typer


@dataclass(frozen=True)
class Node:
    """A command, or a group of them, as a shell has to know it.

    Attributes:
        path: the words after `rela-zoo`.
        commands: names of the commands in it, with a line of help.
        options: names of its options, with a line of help.
        values: option → what it takes, where that is a list.
        words: what may stand for its arguments; keys of configurations end in `=`.
    """

    path: tuple[str, ...]
    commands: dict[str, str]
    options: dict[str, str]
    values: dict[str, list[str]]
    words: list[str]


def register(app: typer.Typer) -> None:
    """Add the command."""

    def completion(
        shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(help="Your shell.", show_default=False)],
    ) -> None:
        """Print a script that completes commands, options, priors and keys of configurations.

        bash: put  source <(rela-zoo completion bash)  into ~/.bashrc. zsh: the same with zsh, into ~/.zshrc, after
        compinit. fish: rela-zoo completion fish > ~/.config/fish/completions/rela-zoo.fish
        """
        nodes = list(_walk(typer.main.get_command(app)))
        typer.echo(_WRITERS[shell](nodes), nl=False)

    app.command("completion")(completion)


def _walk(command: Any, path: tuple[str, ...] = ()) -> Iterator[Node]:
    """The tree, from the root on."""
    commands = {name: _line(one.get_short_help_str(80)) for name, one in getattr(command, "commands", {}).items()}
    options: dict[str, str] = {"--help": "Show the help, and stop."}
    values: dict[str, list[str]] = {}
    for parameter in command.params:
        # Arguments have no names that begin with a dash.
        names = [one for one in (*parameter.opts, *parameter.secondary_opts) if one.startswith("-")]
        if getattr(parameter, "hidden", False):
            continue
        choices = _choices(parameter)
        for name in names:
            options[name] = _line(getattr(parameter, "help", None) or "")
            if choices:
                values[name] = choices
        if not names and choices:
            values[""] = choices
    if "--config-name" in options:
        from rela_zoo.hosts.builtin.compose import packaged_names

        values["--config-name"] = values["-cn"] = packaged_names()
    yield Node(path, commands, options, values, [*values.pop("", []), *_words(path)])
    for name, one in getattr(command, "commands", {}).items():
        if not one.hidden:
            yield from _walk(one, (*path, name))


def _choices(parameter: Any) -> list[str]:
    """What a parameter takes, where that is a list: in typer of click's types, or of the annotation."""
    found = getattr(getattr(parameter, "type", None), "choices", None)
    if found is None:
        annotation = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
        literal = [one for one in (annotation, *get_args(annotation)) if get_origin(one) is Literal]
        found = get_args(literal[0]) if literal else ()
    return [str(one) for one in found]


def _words(path: tuple[str, ...]) -> list[str]:
    if path in (("pretrain",), ("config",)):
        return _keys()
    return _priors() if path in (("show",), ("embed",), ("pull",)) else []


def _priors() -> list[str]:
    from rela_zoo.registry import list_priors

    return sorted(spec.id for spec in list_priors())


def _keys() -> list[str]:
    """`optimizer.lr=`, `rela.data_ratio=`, …, and `rela=PRIOR` for every prior."""
    from rela_zoo._io.paths import rela_defaults
    from rela_zoo.hosts.builtin.schema import HostConfig, section_defaults

    sections = section_defaults()
    top = [key for key in HostConfig.model_fields if key not in sections]
    inner = [f"{section}.{key}" for section in sections for key in _fields(HostConfig, section)]
    keys = sorted(f"{key}=" for key in [*top, *inner, *(f"rela.{key}" for key in rela_defaults())])
    return [*keys, *(f"rela={name}" for name in _priors())]


def _fields(model: Any, section: str) -> list[str]:
    return list(model.model_fields[section].annotation.model_fields)


def _line(text: str) -> str:
    return re.sub(r"[^\w ,.;()/=<>\-…’]", "", " ".join(text.split()))[:70]


def _join(path: tuple[str, ...]) -> str:
    return " ".join(path)


def _bash(nodes: list[Node]) -> str:
    """One function: finds the command, then offers what fits."""
    cases, groups = [], []
    for node in nodes:
        offered = " ".join([*node.commands, *node.words, *node.options])
        choices = "".join(f"\n        {name}) words='{' '.join(some)}' ;;" for name, some in node.values.items())
        inner = f'\n      case "$previous" in{choices}\n      esac' if choices else ""
        cases.append(f"    '{_join(node.path)}')\n      words='{offered}'{inner} ;;")
        groups += [f"'{_join((*node.path, name))}'" for name in node.commands]
    known = "|".join(groups)
    body = "\n".join(cases)
    return f"""# bash completion of rela-zoo
_rela_zoo() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}" path='' word next words='' i
  # Signs at which bash breaks words, as in key=value, are part of the word here.
  if declare -F _get_comp_words_by_ref >/dev/null; then
    _get_comp_words_by_ref -n =: -c current -p previous
  fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="${{COMP_WORDS[i]}}"
    next="${{path:+$path }}$word"
    case "$next" in
      {known}) path="$next" ;;
    esac
  done
  case "$path" in
{body}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  if [ ${{#COMPREPLY[@]}} -eq 0 ]; then
    compopt -o default 2>/dev/null
  elif [[ ${{COMPREPLY[0]}} == *= ]]; then
    compopt -o nospace 2>/dev/null
  fi
  if declare -F __ltrim_colon_completions >/dev/null; then
    __ltrim_colon_completions "$current"
  fi
}}
complete -F _rela_zoo rela-zoo
"""


def _zsh(nodes: list[Node]) -> str:
    """The same with zsh's own functions."""
    cases, groups = [], []
    for node in nodes:
        lines = [
            f"'{name}:{text}'" for name, text in (*node.commands.items(), *node.options.items()) if ":" not in name
        ]
        choices = "".join(
            f"\n      {name}) compadd -- {' '.join(some)}; return ;;" for name, some in node.values.items()
        )
        inner = f'\n      case "$previous" in{choices}\n      esac' if choices else ""
        words = f"\n      compadd -S '' -- {' '.join(node.words)}" if node.words else ""
        described = f"\n      offered=({' '.join(lines)})\n      _describe 'rela-zoo' offered"
        cases.append(f"    '{_join(node.path)}'){inner}{described}{words} ;;")
        groups += [f"'{_join((*node.path, name))}'" for name in node.commands]
    known, body = "|".join(groups), "\n".join(cases)
    return f"""#compdef rela-zoo
_rela_zoo() {{
  local previous="${{words[CURRENT-1]}}" path_='' next i
  local -a offered
  for ((i = 2; i < CURRENT; i++)); do
    next="${{path_:+$path_ }}${{words[i]}}"
    case "$next" in
      {known}) path_="$next" ;;
    esac
  done
  case "$path_" in
{body}
  esac
  _files
}}
compdef _rela_zoo rela-zoo
"""


def _fish(nodes: list[Node]) -> str:
    """A line for each thing that may stand somewhere."""
    lines = ["# fish completion of rela-zoo"]
    for node in nodes:
        seen = " ".join(f"__fish_seen_subcommand_from {word};" for word in node.path).replace("; _", "; and _")
        inside = " ".join(node.commands)
        condition = f"{seen.rstrip(';')}" if node.path else "__fish_use_subcommand"
        if node.path and inside:
            condition = f"{condition}; and not __fish_seen_subcommand_from {inside}"
        start = f"complete -c rela-zoo -n '{condition}'"
        lines += [f"{start} -f -a {name} -d '{text}'" for name, text in node.commands.items()]
        for name, text in node.options.items():
            flag = f"-l {name[2:]}" if name.startswith("--") else f"-{'s' if len(name) == 2 else 'o'} {name[1:]}"
            choices = f" -x -a '{' '.join(node.values[name])}'" if name in node.values else ""
            lines.append(f"{start} {flag}{choices} -d '{text}'")
        if node.words:
            lines.append(f"{start} -a '{' '.join(node.words)}'")
    return "\n".join(lines) + "\n"


_WRITERS: dict[str, Callable[[list[Node]], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}

"""A line that is written over, wherever that can be done."""

import io
import sys
import types

from rela_zoo._io.status_line import StatusLine, place


def test_place(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert place() == "none"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert place() == "terminal"
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    assert place() == "notebook"
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: None))
    assert place() == "terminal"


def test_a_notebook_line_covers_the_one_before(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    line = StatusLine("notebook")
    line.show(0.25, "a long text")
    line.show(0.5, "short")
    line.close()
    line.close()
    first, second = sys.stderr.getvalue().split("\r")[1:]
    assert first == " 25% · a long text"
    assert second == " 50% · short".ljust(len(first)) + "\n"


def test_a_terminal_line_shows_bar_and_text(monkeypatch):
    stream = io.StringIO()
    stream.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    line = StatusLine("terminal")
    line.show(0.5, "epoch 1/2 · [loss] 0.5")
    print("a message")
    line.close()
    assert "50%" in stream.getvalue()
    assert "epoch 1/2 · [loss] 0.5" in stream.getvalue()


def test_nothing_is_written_elsewhere(capsys):
    line = StatusLine("none")
    line.show(0.5, "x")
    line.close()
    assert capsys.readouterr() == ("", "")

"""The reader of Markdown finds what it shall and nothing else."""

from __future__ import annotations

import pytest
from markdown_text import anchors, blocks, commands, links

TEXT = """# A `title`, with commas

See [this](other.md#part) and ![picture](a.svg).

```console
$ first --flag
output, not a command
$ second 'text
>   that goes on'
```

```python
$ not a command
[not](a-link.md)
```

## Roll back by hand
"""


def test_commands_come_from_console_blocks_alone() -> None:
    assert commands(TEXT) == [(6, "first --flag"), (8, "second 'text\n  that goes on'")]


def test_links_outside_blocks() -> None:
    assert links(TEXT) == ["other.md#part", "a.svg"]


def test_anchors_as_github_makes_them() -> None:
    assert anchors(TEXT) == {"a-title-with-commas", "roll-back-by-hand"}


def test_a_block_that_never_ends_is_an_error() -> None:
    with pytest.raises(ValueError, match="never ends"):
        blocks("```console\n$ one\n")

"""Text of unknown origin can be written to any file and any terminal."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caviar.control_chars import escaped_output, replace_control_chars


@given(st.text(st.characters()))
def test_replaced_text_can_be_encoded_and_moves_no_cursor(text: str) -> None:
    safe = replace_control_chars(text)
    safe.encode()
    assert not set(safe) & {chr(code) for code in (*range(9), *range(11, 32), *range(127, 160))}
    assert replace_control_chars(safe) == safe


@pytest.mark.parametrize("text", ["naïve größe", "שלום", "one\ttwo\nthree", "👩\u200d💻", ""])
def test_readable_text_stays_as_it_is(text: str) -> None:
    assert replace_control_chars(text) == text


def test_streams_escape_what_their_encoding_lacks() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with escaped_output(stream):
        stream.write("größe \udce9")
    assert stream.errors == "strict"
    stream.seek(0)
    assert stream.read() == r"gr\xf6\xdfe \udce9"
    with escaped_output(io.StringIO()):
        pass

"""VLAN secrets as one line to paste."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peertap.errors import DecodeError
from peertap.identity.secret import VlanSecret, is_label

labels = st.from_regex(r"[a-z0-9][a-z0-9-]{0,31}", fullmatch=True)
secrets = st.builds(VlanSecret, labels, st.binary(min_size=32, max_size=32))


@given(secrets)
def test_parse_undoes_emit(secret: VlanSecret) -> None:
    assert VlanSecret.parse(secret.emit()) == secret
    assert VlanSecret.parse(f"  {secret.emit()}\r\n") == secret


def test_the_format_does_not_change() -> None:
    line = VlanSecret("lab", bytes(range(32))).emit()
    assert line == "ptvlan1-lab-aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dyprylmhnq"


@given(secrets)
def test_repr_and_str_hide_the_secret(secret: VlanSecret) -> None:
    assert repr(secret) == str(secret) == f"VlanSecret(label={secret.label!r})"


@given(secrets, st.data())
def test_a_changed_character_is_noticed_and_nothing_is_repeated(secret: VlanSecret, data: st.DataObject) -> None:
    line = secret.emit()
    place = data.draw(st.integers(0, len(line) - 1))
    other = data.draw(
        st.sampled_from("abcdefghijklmnopqrstuvwxyz234567-089é!").filter(lambda char: char != line[place])
    )
    damaged = line[:place] + other + line[place + 1 :]
    with pytest.raises(DecodeError) as caught:
        VlanSecret.parse(damaged)
    assert damaged[-58:] not in str(caught.value)
    assert line[-58:] not in str(caught.value)


@given(st.text(max_size=300))
def test_random_text_raises_decode_error(text: str) -> None:
    for candidate in (text, f"ptvlan1-{text}", f"ptvlan1-lab-{text}"):
        with pytest.raises(DecodeError):
            VlanSecret.parse(candidate)


@pytest.mark.parametrize("cut", [1, 10, 58, 60, 69])
def test_a_line_cut_short_is_refused_with_a_hint(cut: int) -> None:
    with pytest.raises(DecodeError) as caught:
        VlanSecret.parse(VlanSecret("lab", bytes(32)).emit()[:-cut])
    assert caught.value.hint


@pytest.mark.parametrize("label", ["", "-a", "A", "a" * 33, "a b", "é", "a\n"])
def test_a_label_that_is_none_is_refused(label: str) -> None:
    assert not is_label(label)
    with pytest.raises(DecodeError):
        VlanSecret(label, bytes(32))

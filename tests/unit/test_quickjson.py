import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare import quickjson

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES, st.sampled_from([None, 1]))
def test_what_json_writes_is_read(value, indent):
    text = json.dumps(value, indent=indent)
    assert quickjson.loads(text) == json.loads(text) == value


@given(st.text(alphabet='{}[]",:0123456789.-eE \n\ttruefalsnNIity\\u\x00'))
def test_any_other_text_is_taken_or_refused_as_json_does(text):
    try:
        expected = json.loads(text)
    except ValueError as error:
        with pytest.raises(type(error)) as caught:
            quickjson.loads(text)
        assert str(caught.value) == str(error)
    else:
        assert repr(quickjson.loads(text)) == repr(expected)


@pytest.mark.parametrize("text", ["", " ", "[1] x", '{"a":1}{', '{"a"', "[NaN, Infinity, -Infinity]", " [1]\n"])
def test_the_edges(text):
    test_any_other_text_is_taken_or_refused_as_json_does.hypothesis.inner_test(text)


def test_a_python_without_the_accelerator(monkeypatch):
    monkeypatch.setattr(quickjson, "make_scanner", None)
    assert quickjson.loads(' {"a": [1, null]}') == {"a": [1, None]}

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


@given(st.recursive(VALUES | st.floats(), st.lists))
def test_what_is_written_is_what_json_writes(value):
    assert quickjson.dumps(value) == json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def test_what_json_cannot_write_is_refused_alike():
    circle = []
    circle.append(circle)
    for value in (object(), {"a": [b"bytes"]}, {(1, 2): 3}, circle):
        with pytest.raises((TypeError, ValueError)) as expected:
            json.dumps(value)
        with pytest.raises(type(expected.value)) as caught:
            quickjson.dumps(value)
        assert str(caught.value) == str(expected.value)


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
    monkeypatch.setattr(quickjson, "make_encoder", None)
    assert quickjson.dumps({"a": [1, None, "é"]}) == '{"a":[1,null,"é"]}'
    assert quickjson.loads(' {"a": [1, null]}') == {"a": [1, None]}

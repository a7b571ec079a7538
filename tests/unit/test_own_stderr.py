import os
import sys

import pytest

from cli.own_stderr import own_stderr


def test_only_what_python_writes_reaches_standard_error(capfd: pytest.CaptureFixture[str]):
    with own_stderr():
        os.write(2, b"of a library\n")
        sys.stderr.write("ours\n")
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "ours\nafterwards\n"


def test_standard_error_is_back_after_an_error(capfd: pytest.CaptureFixture[str]):
    with pytest.raises(ValueError, match="x"), own_stderr():
        raise ValueError("x")
    sys.stderr.write("back\n")
    os.write(2, b"too\n")
    assert sorted(capfd.readouterr().err.split()) == ["back", "too"]

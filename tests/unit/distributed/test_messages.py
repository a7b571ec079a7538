import os

import pytest

from pii_finetune.distributed.messages import tell, understand


@pytest.mark.parametrize("content", [[1, 8, {"loss": 0.5}], "zwei\nZeilen", 3, None])
def test_a_message_is_understood_as_it_was_told_whatever_is_printed_around_it(capfd, content):
    os.write(1, b"a bar without an end")
    tell("update", content)
    os.write(1, b"another library\n")
    lines = capfd.readouterr().out.splitlines(keepends=True)
    assert [understood for line in lines if (understood := understand(line))] == [("update", content)]


def test_what_is_not_finite_arrives_too(capfd):
    tell("update", [float("inf")])
    (message,) = filter(None, map(understand, capfd.readouterr().out.splitlines(keepends=True)))
    assert message == ("update", [float("inf")])

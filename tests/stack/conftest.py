import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # pytest imports test files without their folder
from compose import Stack, find_engine

from make_data.workbook import write_workbook


@pytest.fixture(scope="session")
def stack(tmp_path_factory, small_rows):
    """The whole stack, built, up and ready; gone with its volumes afterwards."""
    found = find_engine()
    if found is None:
        pytest.skip("no container engine answers here: docker with its compose plugin, or podman with podman-compose")
    folder = tmp_path_factory.mktemp("stack")
    workbooks = folder / "workbooks"
    workbooks.mkdir()
    write_workbook(small_rows, workbooks / "labels.xlsx")
    for path in (folder, workbooks, workbooks / "labels.xlsx", folder.parent):
        path.chmod(0o755)  # the worker is another user
    made = Stack(*found, folder, workbooks)
    try:
        made.build()
        made.up()
        yield made
    finally:
        made.down("--volumes")

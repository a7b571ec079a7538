"""Inside the image, after MLflow's database was restored: its schema and its administrator's password as they are now.

`deploy` sets the passwords of the other users, and Prefect's server migrates its database when it starts.
"""

import os
import subprocess
import sys

from mlflow.server.auth.config import read_auth_config
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore


def settle() -> None:
    """Migrate, and set the password."""
    backend = os.environ["MLFLOW_BACKEND_STORE_URI"]
    subprocess.run([sys.executable, "-m", "mlflow", "db", "upgrade", backend], check=True)
    store = SqlAlchemyStore()
    store.init_db(read_auth_config().database_uri)  # migrates the tables of the users
    name, password = os.environ["MLFLOW_AUTH_ADMIN_USERNAME"], os.environ["MLFLOW_AUTH_ADMIN_PASSWORD"]
    if store.has_user(name):  # if not, the server makes it
        store.update_user(name, password=password)


if __name__ == "__main__":
    settle()

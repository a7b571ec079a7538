"""Whether the Prefect server is there, lets us in, and is of our version: asked in seconds, where its client takes minutes."""

from email.utils import parsedate_to_datetime

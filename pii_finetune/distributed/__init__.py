"""Training in several processes, on one machine or several, started by torch's elastic launcher."""

"""The recipe of TRL's trainers without what they compute twice, pad, or wait for (docs/adr/0008)."""

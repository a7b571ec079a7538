"""Prefect tasks: each makes one call into pii_finetune, shows its progress and leaves its artifacts."""

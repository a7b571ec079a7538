"""The command line `pii-finetune`."""

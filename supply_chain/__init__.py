"""What is installed, down to the byte, and what is known about it: docs/supply-chain.md."""

"""What overseer_lite costs, measured beside what others cost: `python -m bench`."""

"""Plans of training runs for hardware that is not present."""

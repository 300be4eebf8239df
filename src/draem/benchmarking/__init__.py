"""Many categories, presets and seeds, trained and tested one after the other, and their tables."""

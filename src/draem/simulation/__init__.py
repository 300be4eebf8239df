"""Simulated anomalies: Perlin masks, augmented textures, opacity. Batched, on any device."""

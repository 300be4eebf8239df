"""Pixels in and out: the only decoder, resizing, colours, contact sheets and encoding."""

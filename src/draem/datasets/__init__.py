"""Folders of images as samples, and images decoded once for training."""

"""Published data sets as they are on the disk, one module a family."""

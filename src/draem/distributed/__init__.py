"""Work that one machine is too small for, on a Ray cluster."""

from draem.distributed.inspection import Counts, image_files, inspect, inspect_to_parquet

__all__ = ["Counts", "image_files", "inspect", "inspect_to_parquet"]

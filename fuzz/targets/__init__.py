"""One module per kind of file; every function in them marked `target` is fuzzed."""

"""Fuzzing: what draem reads from files, fed with damaged and made-up bytes."""

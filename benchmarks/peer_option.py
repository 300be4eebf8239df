"""The option `--peer NAME=PLACE` of the benchmarks."""

from __future__ import annotations

import argparse
from collections.abc import Mapping


def add_peers(parser: argparse.ArgumentParser, places: Mapping[str, str]) -> None:
    """Let a benchmark be given peers, as pairs of name and place, any number of times.

    Args:
        parser: Of the benchmark.
        places: What is given of each peer that takes part, such as PYTHON or PYTHON,CHECKOUT.
    """
    some_are_pairs = any("," in given for given in places.values())

    def peer(text: str) -> tuple[str, str]:
        name, _, place = text.partition("=")
        fits = name in places and bool(place)
        if fits and some_are_pairs:
            fits = ("," in place) == ("," in places[name])
        if not fits:
            asked = " or ".join(f"{known}={given}" for known, given in places.items())
            raise argparse.ArgumentTypeError(f"give {asked}")
        return name, place

    parser.add_argument("--peer", type=peer, action="append", default=[])

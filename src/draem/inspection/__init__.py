"""From an image to its score, map, decision and regions. No torch but in the torch files."""

"""Random products: surfaces, and parts of random outline before a background."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from draem.demo.camera import cast_shadow, slopes
from surfaces import GREY_SHARE, Floats, Studio, random_color

SURFACE_SHARE = 0.5
_STREAM = 77


def render(studio: Studio, number: int) -> NDArray[np.uint8]:
    """One picture of a made-up product.

    Args:
        studio: Where it is taken.
        number: Decides everything random.

    Returns:
        (side, side, 3) uint8 RGB.
    """
    rng = np.random.default_rng([_STREAM, number])
    grey = bool(rng.random() < GREY_SHARE)
    if rng.random() < SURFACE_SHARE:
        picture = studio.surface(rng, grey=grey)
    else:
        picture = _background(studio, rng, grey=grey)
        for _ in range(1 if rng.random() < 0.6 else rng.integers(2, 5)):
            picture = _with_part(studio, rng, picture, grey=grey)
    picture = _photographed(rng, studio.lit(rng, picture), grey=grey)
    return np.asarray((np.clip(picture, 0, 1) * 255).round(), np.uint8)


def _background(studio: Studio, rng: np.random.Generator, *, grey: bool) -> Floats:
    if rng.random() < 0.35:
        return studio.surface(rng, grey=grey)
    plain = np.broadcast_to(random_color(rng, grey=grey), (studio.side, studio.side, 3))
    unevenness = np.float32(rng.uniform(0, 0.01)) * studio.canvas(rng).blurred(0.005, 0.005)
    return np.asarray(plain + unevenness[:, :, None], np.float32)


def _with_part(studio: Studio, rng: np.random.Generator, picture: Floats, *, grey: bool) -> Floats:
    outline, part = _outline(rng, studio.side), studio.surface(rng, grey=grey)
    if rng.random() < 0.7:
        inside = cv2.distanceTransform((outline > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
        rim = np.exp(-inside / np.float32(studio.side * rng.uniform(0.005, 0.05)))
        part = part + np.float32(rng.uniform(-0.4, 0.4)) * rim[:, :, None]
    if rng.random() < 0.5:
        part = part + _relief(rng, outline)[:, :, None]
    if rng.random() < 0.4:
        engraving = cv2.GaussianBlur(_outline(rng, studio.side), (0, 0), float(rng.uniform(0.5, 3)))
        part = part + np.float32(rng.uniform(-0.35, 0.35)) * engraving[:, :, None]
    if rng.random() < 0.5:
        picture = cast_shadow(
            picture, outline, softness=rng.uniform(3, 14), strength=rng.uniform(0.05, 0.5)
        )
    share = outline[:, :, None]
    return np.asarray(picture * (1 - share) + part * share, np.float32)


def _relief(rng: np.random.Generator, outline: Floats) -> Floats:
    """Light and shade on rounded edges."""
    height = cv2.GaussianBlur(outline, (0, 0), float(rng.uniform(1, 8)))
    turn, strength = rng.uniform(0, 2 * math.pi), np.float32(4 * rng.uniform(1, 6))
    right, down = slopes(height)
    towards = right * np.float32(math.cos(turn)) + down * np.float32(math.sin(turn))
    return np.asarray(strength * towards, np.float32)


def _photographed(rng: np.random.Generator, picture: Floats, *, grey: bool) -> Floats:
    """A little out of focus, and noisy."""
    if rng.random() < 0.5:
        picture = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.3, 1.2)))
    if rng.random() < 0.8:
        channels = 1 if grey or rng.random() < 0.5 else 3
        noise = rng.standard_normal((*picture.shape[:2], channels), np.float32)
        noise = cv2.GaussianBlur(noise, (0, 0), float(rng.uniform(0.3, 0.8)))
        strength = np.float32(rng.uniform(0, 0.05))
        picture = picture + strength * noise.reshape(*picture.shape[:2], channels)
    return np.asarray(picture, np.float32)


def _outline(rng: np.random.Generator, side: int) -> Floats:
    """A random shape with smooth edges, (side, side) in [0, 1]."""
    large = 2 * side
    mask = np.zeros((large, large), np.uint8)
    centre = rng.uniform(0.35, 0.65, 2) * large
    shape = (_ellipse, _box, _polygon, _gear, _rod, _bars)[rng.integers(6)]
    shape(rng, mask, centre)
    small = cv2.resize(mask, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32) / 255


def _ellipse(rng: np.random.Generator, mask: NDArray[np.uint8], centre: Floats) -> None:
    axes = (rng.uniform(0.1, 0.45, 2) * len(mask)).astype(int)
    place = (int(centre[0]), int(centre[1]))
    cv2.ellipse(mask, place, (int(axes[0]), int(axes[1])), rng.uniform(0, 180), 0, 360, 255, -1)


def _box(rng: np.random.Generator, mask: NDArray[np.uint8], centre: Floats) -> None:
    sides = rng.uniform(0.15, 0.9) * len(mask), rng.uniform(0.1, 0.5) * len(mask)
    place = (float(centre[0]), float(centre[1]))
    corners = cv2.boxPoints((place, sides, float(rng.uniform(0, 180))))
    cv2.fillPoly(mask, [corners.astype(np.int32)], 255)


def _polygon(rng: np.random.Generator, mask: NDArray[np.uint8], centre: Floats) -> None:
    corners = rng.integers(3, 10)
    turns = np.sort(rng.uniform(0, 2 * math.pi, corners))
    _fill_polar(mask, centre, turns, rng.uniform(0.15, 0.45, corners) * len(mask))


def _gear(rng: np.random.Generator, mask: NDArray[np.uint8], centre: Floats) -> None:
    turns = np.linspace(0, 2 * math.pi, 720)
    teeth = np.tanh(rng.uniform(1, 6) * np.sin(rng.integers(5, 40) * turns))
    radius = len(mask) * rng.uniform(0.15, 0.42) * (1 + rng.uniform(0.03, 0.2) * teeth)
    _fill_polar(mask, centre, turns, radius)
    if rng.random() < 0.5:
        hole = int(len(mask) * rng.uniform(0.03, 0.12))
        cv2.circle(mask, (int(centre[0]), int(centre[1])), hole, 0, -1)


def _rod(rng: np.random.Generator, mask: NDArray[np.uint8], centre: Floats) -> None:
    """A turned part seen from the side, threaded perhaps."""
    place = np.linspace(0, 1, 400)
    swell = np.tanh(4 * np.sin(2 * math.pi * rng.uniform(0.5, 2) * place + rng.uniform(0, 6)))
    width = len(mask) * rng.uniform(0.03, 0.12) * (1 + 0.5 * swell)
    thread = np.sin(2 * math.pi * rng.integers(0, 25) * place) * (place > rng.uniform(0, 0.6))
    width = width * (1 + rng.uniform(0, 0.35) * thread)
    along = (place - 0.5) * len(mask) * rng.uniform(0.5, 0.95)
    outline = np.concatenate(
        (np.stack((along, width), 1), np.stack((along[::-1], -width[::-1]), 1))
    )
    turn = rng.uniform(0, 2 * math.pi)
    cosine, sine = math.cos(turn), math.sin(turn)
    outline = outline @ np.array([[cosine, sine], [-sine, cosine]]) + centre
    cv2.fillPoly(mask, [outline.astype(np.int32)], 255)


def _bars(rng: np.random.Generator, mask: NDArray[np.uint8], centre: Floats) -> None:
    del centre  # bars are anywhere
    for _ in range(rng.integers(2, 7)):
        x1, y1, x2, y2 = (int(v) for v in rng.uniform(0, len(mask), 4))
        cv2.line(mask, (x1, y1), (x2, y2), 255, int(rng.uniform(0.02, 0.1) * len(mask)))


def _fill_polar(
    mask: NDArray[np.uint8], centre: Floats, turns: NDArray[np.float64], radius: NDArray[np.float64]
) -> None:
    x, y = centre[0] + radius * np.cos(turns), centre[1] + radius * np.sin(turns)
    cv2.fillPoly(mask, [np.stack((x, y), 1).astype(np.int32)], 255)

"""The Accept header (RFC 9110, section 12.5.1)."""

from collections.abc import Sequence

from starlette.requests import Request


def accept_of(request: Request) -> str | None:
    """The header, its lines joined to the one list that they are (RFC 9110, 5.3); None without one."""
    return ", ".join(request.headers.getlist("accept")) or None


def choose(accept: str | None, offered: Sequence[str]) -> str | None:
    """The offered media type the client likes best; the first offered wins a tie. None: it accepts none.

    Args:
        accept: the header, or None; malformed parts of it are skipped.
        offered: media types, the server's favourite first.
    """
    if accept is None or not accept.strip():
        return offered[0]
    ranges = [parsed for part in accept.split(",") if (parsed := _parse(part)) is not None]
    if not ranges:
        return offered[0]
    best, best_q = None, 0.0
    for media_type in offered:
        quality = _quality(media_type, ranges)
        if quality > best_q:
            best, best_q = media_type, quality
    return best


def _parse(part: str) -> tuple[str, str, float] | None:
    name, *parameters = (piece.strip().lower() for piece in part.split(";"))
    main, slash, sub = name.partition("/")
    if not slash or not main or not sub:
        return None
    quality = 1.0
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                quality = min(1.0, max(0.0, float(value)))
            except ValueError:
                return None
    return main, sub, quality


def _quality(media_type: str, ranges: Sequence[tuple[str, str, float]]) -> float:
    """The q of the most specific range that matches."""
    main, _, sub = media_type.partition("/")
    specific = -1
    quality = 0.0
    for range_main, range_sub, range_q in ranges:
        if (range_main, range_sub) == (main, sub):
            rank = 2
        elif (range_main, range_sub) == (main, "*"):
            rank = 1
        elif (range_main, range_sub) == ("*", "*"):
            rank = 0
        else:
            continue
        if rank > specific:
            specific, quality = rank, range_q
    return quality

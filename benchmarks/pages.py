"""Tables into the pages that show them."""

from pathlib import Path


def write_between(page: Path, name: str, text: str) -> None:
    """Replace what stands between a page's marks `<!-- name -->` and `<!-- /name -->`.

    Raises:
        ValueError: the page lacks them.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    head, mark, rest = page.read_text(encoding="utf-8").partition(begin)
    _, closing, tail = rest.partition(end)
    if not mark or not closing:
        raise ValueError(f"{page} has no {begin} ... {end}")
    page.write_text(f"{head}{begin}\n{text}\n{end}{tail}", encoding="utf-8")

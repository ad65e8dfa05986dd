"""The page at /docs: the OpenAPI document for eyes. No script, nothing fetched: it works offline."""

from html import escape
from typing import Any

_STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8882}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
code,pre{font:14px/1.45 ui-monospace,monospace}pre{background:var(--soft);padding:.8rem;overflow-x:auto}
table{border-collapse:collapse;width:100%;margin:.5rem 0}
td,th{border-bottom:1px solid var(--line);padding:.3rem .6rem;text-align:left;vertical-align:top}
details{border:1px solid var(--line);border-radius:.4rem;margin:.8rem 0;padding:.4rem .9rem}
summary{cursor:pointer;font-weight:600}.method{display:inline-block;width:3.5rem;color:#0a7}
"""

_EXAMPLES = {
    "/v1/classify": "curl --data-binary @cat.jpg '{base}/v1/classify?tier=fast'",
    "/v1/super-resolve": "curl --data-binary @cat.jpg '{base}/v1/super-resolve?tier=fast' -o cat_x4.png",
}


def render(document: dict[str, Any], base: str) -> str:
    """The whole page.

    Args:
        document: the OpenAPI document.
        base: the service's own URL, for the examples.
    """
    operations = "".join(
        _operation(path, method, operation, base)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    )
    title = escape(f"{document['info']['title']} {document['info']['version']}")
    intro = "".join(f"<p>{escape(part)}</p>" for part in document["info"]["description"].split("\n\n"))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
        f"<h1>{title}</h1>{intro}"
        f'<p>For programs: <a href="openapi.json">openapi.json</a>.</p>{operations}</html>'
    )


def _operation(path: str, method: str, operation: dict[str, Any], base: str) -> str:
    plain = "curl '{base}" + path + "'" if method == "get" else ""
    example = _EXAMPLES.get(path, plain).replace("{base}", base)
    parts = [
        f"<p>{escape(operation.get('description', ''))}</p>",
        f"<pre>{escape(example)}</pre>" if example else "",
        _parameters(operation.get("parameters", [])),
        _responses(operation["responses"]),
    ]
    head = f'<span class="method">{method.upper()}</span><code>{escape(path)}</code> — '
    return f"<details open><summary>{head}{escape(operation['summary'])}</summary>{''.join(parts)}</details>"


def _parameters(parameters: list[dict[str, Any]]) -> str:
    if not parameters:
        return ""
    rows = "".join(
        f"<tr><td><code>{escape(one['name'])}</code><td>{one['in']}<td>{escape(_kind(one['schema']))}"
        f"<td>{escape(one.get('description') or one['schema'].get('description') or '')}"
        for one in parameters
    )
    return f"<table><tr><th>parameter<th>in<th>type<th>meaning{rows}</table>"


def _kind(schema: dict[str, Any]) -> str:
    options = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    texts = []
    for one in options:
        values = one.get("enum") or ([one["const"]] if "const" in one else [])
        bounds = [str(one[key]) for key in ("minimum", "maximum") if key in one]
        limits = f" {'..'.join(bounds)}" if bounds else ""
        texts.append(" | ".join(map(str, values)) or str(one.get("type", "")) + limits)
    return ", ".join(texts)


def _responses(responses: dict[str, Any]) -> str:
    rows = []
    for status, response in responses.items():
        content = response.get("content", {})
        types = [kind for body in content.values() for kind in body.get("examples", {})] or list(content)
        shown = ", ".join(f"<code>{escape(kind)}</code>" for kind in types)
        rows.append(f"<tr><td>{status}<td>{escape(response['description'])}<td>{shown}")
    return f"<table><tr><th>status<th>meaning<th>problem types, or media types{''.join(rows)}</table>"

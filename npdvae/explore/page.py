"""The page as text: assets of this folder in one file, the run as JSON; nothing it names can become markup."""
from __future__ import annotations

import base64
import hashlib
import json
import pathlib
from html import escape
from typing import Any

from npdvae.explore.wat import assemble

ASSETS = pathlib.Path(__file__).resolve().parent / "assets"
SCRIPTS = ("bytes", "products", "mlp", "latents", "encoders", "likelihood", "posterior", "pictures", "state", "drawing",
           "codes", "sliders", "bounds", "samples", "console", "main")


def asset(name: str) -> str:
    """One of this package's own files."""
    return (ASSETS / name).read_text(encoding="utf-8")


def kernel() -> bytes:
    """The WebAssembly module."""
    return assemble(asset("linear.wat"))


def as_json(contents: Any) -> str:
    """JSON that holds no <, > or &, so that no string of the run ends the element it stands in."""
    text = json.dumps(contents, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def fingerprint(text: str) -> str:
    """The source of a content security policy that lets in this text alone."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def html(contents: dict[str, Any]) -> str:
    """One page that needs nothing else and may ask for nothing else."""
    style, script = asset("page.css"), "".join(asset(f"{name}.js") for name in SCRIPTS)
    policy = (f"default-src 'none'; style-src {fingerprint(style)}; script-src {fingerprint(script)} "
              "'wasm-unsafe-eval'; base-uri 'none'; form-action 'none'")
    parts = {"title": escape(contents["title"]), "policy": escape(policy), "style": style, "script": script,
             "run": as_json({**contents, "kernel": {"type": "u1", "data": base64.b64encode(kernel()).decode()}})}
    before, *rest = asset("page.html").split("{{")
    for piece in rest:                                              # one pass: no string of the run is read again
        name, _, after = piece.partition("}}")
        before += parts[name] + after
    return before

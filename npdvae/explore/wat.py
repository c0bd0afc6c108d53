"""An assembler for the part of WebAssembly's text format that the kernel uses: text -> module bytes.

Folded instructions only, (op immediates... operands...), one imported memory, functions without results.
"""
from __future__ import annotations

import re
import struct
from typing import Any

TYPES = {"i32": 0x7F, "f32": 0x7D, "v128": 0x7B}
PLAIN = {"i32.lt_u": b"\x49", "i32.add": b"\x6a", "i32.shl": b"\x74", "f32x4.splat": b"\xfd\x13",
         "f32x4.add": b"\xfd\xe4\x01", "f32x4.mul": b"\xfd\xe6\x01", "f32x4.max": b"\xfd\xe9\x01"}
LOCAL = {"local.get": b"\x20", "local.set": b"\x21", "local.tee": b"\x22"}
ACCESS = {"v128.load": (b"\xfd\x00", 4), "v128.load32_splat": (b"\xfd\x09", 2), "v128.store": (b"\xfd\x0b", 4)}
LOOP, BRANCH_IF, CONSTANT, END, NOTHING = b"\x03", b"\x0d", b"\x41", b"\x0b", b"\x40"
TOKEN = re.compile(r';;[^\n]*|\s+|([()]|"[^"]*"|[^\s();"]+)')


def unsigned(n: int) -> bytes:
    """LEB128 of a number that is not negative."""
    more = n >> 7
    return bytes([n & 0x7F | (0x80 if more else 0)]) + (unsigned(more) if more else b"")


def signed(n: int) -> bytes:
    """LEB128 in two's complement."""
    more, low = n >> 7, n & 0x7F
    last = more == (-1 if low & 0x40 else 0)
    return bytes([low | (0 if last else 0x80)]) + (b"" if last else signed(more))


def vector(items: list[bytes]) -> bytes:
    """A count and the items."""
    return unsigned(len(items)) + b"".join(items)


def sized(content: bytes) -> bytes:
    """A length and the bytes."""
    return unsigned(len(content)) + content


def parse(text: str) -> list[Any]:
    """The one expression of a text as nested lists of words. ValueError where brackets do not close."""
    stack: list[list[Any]] = [[]]
    for word in filter(None, TOKEN.findall(text)):
        if word == "(":
            stack.append([])
        elif word == ")" and len(stack) > 1:
            stack[-2].append(stack.pop())
        else:
            stack[-1].append(word)
    if len(stack) != 1 or len(stack[0]) != 1 or not isinstance(stack[0][0], list):
        raise ValueError("WebAssembly text: expected one expression in brackets")
    return stack[0][0]


class Function:
    """One (func ...): its type, its name outside, its code."""

    def __init__(self, parts: list[Any]):
        self.export = next(p[1].strip('"') for p in parts if p[0] == "export")
        named = [p for p in parts if p[0] in ("param", "local")]
        self.locals = {name: i for i, (_, name, _) in enumerate(named)}
        self.type = b"\x60" + vector([bytes([TYPES[t]]) for kind, _, t in named if kind == "param"]) + vector([])
        own = [b"\x01" + bytes([TYPES[t]]) for kind, _, t in named if kind == "local"]
        body = [p for p in parts if p[0] not in ("param", "local", "export")]
        self.code = sized(vector(own) + b"".join(self.assemble(p, []) for p in body) + END)

    def assemble(self, expression: list[Any], labels: list[str]) -> bytes:
        """Operands first, then the instruction; labels are those of the loops around, innermost last."""
        op, words = expression[0], [w for w in expression[1:] if isinstance(w, str)]
        nested = labels + words if op == "loop" else labels
        operands = b"".join(self.assemble(e, nested) for e in expression[1:] if isinstance(e, list))
        if op == "loop":
            return LOOP + NOTHING + operands + END
        if op == "br_if":
            return operands + BRANCH_IF + unsigned(labels[::-1].index(words[0]))
        if op in LOCAL:
            return operands + LOCAL[op] + unsigned(self.locals[words[0]])
        if op == "i32.const":
            return CONSTANT + signed(int(words[0]))
        if op in ACCESS:
            code, align = ACCESS[op]
            return operands + code + unsigned(align) + unsigned(int(words[0].removeprefix("offset=")) if words else 0)
        if op not in PLAIN or words:
            raise ValueError(f"WebAssembly text: {op} {' '.join(words)} is not known here")
        return operands + PLAIN[op]


def assemble(text: str) -> bytes:
    """The module of a text (module (import ...) (func ...)...). ValueError for what is not known here."""
    head, (_, place, name, (_, pages)), *functions = parse(text)
    if head != "module":
        raise ValueError(f"WebAssembly text: expected (module ...), got ({head} ...)")
    memory = b"".join(sized(s.strip('"').encode()) for s in (place, name)) + b"\x02\x00" + unsigned(int(pages))
    made = [Function(parts) for _, *parts in functions]
    sections = {1: [f.type for f in made], 2: [memory], 3: [unsigned(i) for i in range(len(made))],
                7: [sized(f.export.encode()) + b"\x00" + unsigned(i) for i, f in enumerate(made)],
                10: [f.code for f in made]}
    return b"\0asm" + struct.pack("<I", 1) + b"".join(bytes([k]) + sized(vector(v)) for k, v in sections.items())

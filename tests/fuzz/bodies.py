"""Bodies from a seed: made by a grammar of what requests are made of, or by changing one of the kept bodies."""

from __future__ import annotations

import random
from collections.abc import Sequence

from readers import Body, Kind


def _words(text: str) -> list[bytes]:
    return [word.encode("latin-1") for word in text.split("~~")]


NAMES = _words(
    "amount~~currency~~Amount~~AMOUNT~~%61mount~~%63urrency~~amounT~~x.y~~amount_to_capture~~quantity~~unit_amount"
)
TAILS = _words("[00]~~[0][amount]~~[][amount]~~%5B%5D~~[x][]~~[~~]~~[]x~~[ ]~~[[x]]~~%00~~%20~~+")
VALUES = _words("299~~900~~USD~~eur~~0299~~+299~~-1~~299.0~~1e3~~0x10~~~~%32%39%39~~null~~true~~1_000~~2%399~~%ff")
VALUES += _words("a%26amount%3D1~~%D9%A9~~12345678~~123456789")
BETWEEN = _words(";~~&&~~& ~~&amp;~~%26~~\n~~&+")
BYTES = _words(
    "%00~~+~~%20~~ ~~[~~]~~=~~&~~;~~%5B~~%5D~~%26~~%3D~~%2B~~\x00~~\xff~~\xc3\xa9~~%~~%u0031~~\r\n~~\t~~.~~0~~9"
)
BYTES += _words("amount~~amount=1~~%E2%80%83~~%c2%a0~~#~~?")
# What is fine in most places.
FREE_NAMES = _words("a~~b~~customer~~description~~items~~metadata~~%61~~A_b")
FREE_TAILS = _words("~~~~~~[]~~[0]~~[1]~~[x]~~[x][y]~~[x][0]~~%5Bz%5D~~[a b]~~[a+b]~~[%C3%A9]~~[amount]")
FREE_VALUES = _words("1~~usd~~x+y~~%C3%A9~~a=b~~%26~~%25~~~~a%3Bb~~%0A~~!*()'~~\xc3\xa9~~%E2%80%83")

JSON_NAMES = _words(
    "amount~~currency~~Amount~~\\u0061mount~~amount\\u0000~~ amount~~a[b]~~\\u0063urrency~~~~amount\\t~~quantity"
)
JSON_VALUES = _words('299~~"usd"~~"USD"~~299.0~~1e3~~-0~~0299~~+1~~NaN~~Infinity~~"299"~~9007199254740993~~1E400')
JSON_VALUES += _words('"\\u0075sd"~~"\\ud800"~~"a\\nb"~~12345678~~0.10')
JSON_BYTES = _words(
    "{~~}~~[~~]~~:~~,~~\"~~\\~~/*x*/~~//x\n~~ ~~\n~~\x00~~\xff~~\xef\xbb\xbf~~\\u0000~~\\u0061~~e1~~.0~~0~~-~~'"
)
JSON_BYTES += _words('"amount":1,~~,"amount":2~~\x0c~~\xa0~~\xe2\x80\x83')
JSON_FREE_NAMES = _words("a~~b~~customer~~metadata~~\\u0061b~~\\u00e9~~a b~~a.b~~x1~~x2~~x3~~__proto__")
JSON_FREE_VALUES = _words('1~~0~~-1~~1.5~~"x"~~""~~"\\u00e9"~~"\\ud83d\\ude00"~~true~~null~~{}~~[]~~"a=b&c"~~-0.5')


def body(dice: random.Random, kept: Sequence[Body]) -> Body:
    """One body."""
    if kept and dice.random() < 0.5:
        return changed(dice, dice.choice(kept), kept)
    kind: Kind = "form" if dice.random() < 0.6 else "json"
    return Body(kind, form(dice) if kind == "form" else document(dice))


def form(dice: random.Random) -> bytes:
    """A charge whose pairs are mostly as they should be."""
    pairs = [b"amount=" + (b"299" if dice.random() < 0.8 else dice.choice(VALUES)), b"currency=usd"]
    for _ in range(dice.randrange(5)):
        name = dice.choice(NAMES if dice.random() < 0.1 else FREE_NAMES)
        tail = dice.choice(TAILS if dice.random() < 0.15 else FREE_TAILS)
        pairs.append(name + tail + b"=" + dice.choice(VALUES if dice.random() < 0.3 else FREE_VALUES))
    dice.shuffle(pairs)
    made = pairs[0]
    for pair in pairs[1:]:
        made += (dice.choice(BETWEEN) if dice.random() < 0.1 else b"&") + pair
    return made


def document(dice: random.Random) -> bytes:
    """The same as JSON."""
    members = [b'"amount":' + (b"299" if dice.random() < 0.8 else dice.choice(JSON_VALUES)), b'"currency":"usd"']
    for _ in range(dice.randrange(5)):
        name = dice.choice(JSON_NAMES if dice.random() < 0.1 else JSON_FREE_NAMES)
        members.append(b'"%s":%s' % (name, value(dice, 0)))
    dice.shuffle(members)
    between = b"," if dice.random() < 0.95 else dice.choice([b" , ", b",\n", b",,", b";", b"\t,"])
    return b"{" + between.join(members) + b"}"


def value(dice: random.Random, depth: int) -> bytes:
    """A JSON value."""
    chosen = dice.random()
    if depth > 3 or chosen < 0.6:
        return dice.choice(JSON_VALUES if dice.random() < 0.1 else JSON_FREE_VALUES)
    inner = [value(dice, depth + 1) for _ in range(dice.randrange(3))]
    if chosen < 0.75:
        return b"[" + b",".join(inner) + b"]"
    return b"{" + b",".join(b'"%s":%s' % (dice.choice(JSON_FREE_NAMES), one) for one in inner) + b"}"


def changed(dice: random.Random, base: Body, kept: Sequence[Body]) -> Body:
    """A body with one to three changes of a few bytes, or with pieces of another."""
    content = base.content
    for _ in range(dice.choice([1, 1, 1, 2, 3])):
        at = dice.randrange(len(content) + 1)
        end = min(len(content), at + dice.randrange(1, 9))
        choice = dice.randrange(6)
        if choice == 0:
            content = content[:at] + content[end:]
        elif choice == 1:
            content = content[:at] + content[at:end] * 2 + content[end:]
        elif choice == 2:
            other = dice.choice(kept).content
            start = dice.randrange(len(other) + 1)
            content = content[:at] + other[start : start + dice.randrange(1, 30)] + content[at:]
        elif choice == 3 and base.kind == "form" and at < len(content):
            content = content[:at] + b"%%%02X" % content[at] + content[at + 1 :]
        elif choice == 4:
            content = content[:at] + bytes([dice.randrange(256)]) + content[end:]
        else:
            content = content[:at] + dice.choice(BYTES if base.kind == "form" else JSON_BYTES) + content[at:]
    return Body(base.kind, content[:4096])

"""Protobuf by field numbers: a message is a dict from field number to value: int, str, bytes, dict (a message) or list (a
repeated field)."""


def varint(number):
    out = bytearray()
    while True:
        out.append(number & 0x7F | (0x80 if number > 0x7F else 0))
        number >>= 7
        if not number:
            return bytes(out)


def encode(message):
    out = b""
    for field, value in message.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, int):
                out += varint(field << 3) + varint(one)
                continue
            data = encode(one) if isinstance(one, dict) else one
            data = data.encode() if isinstance(data, str) else data
            out += varint(field << 3 | 2) + varint(len(data)) + data
    return out


def decode(data):
    """A message as a dict from field number to the list of its values, messages as bytes."""
    message, at = {}, 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = number()
        kind = key & 7
        if kind == 0:
            value = number()
        else:
            length = {1: 8, 5: 4}.get(kind) or number()
            value = data[at : at + length]
            at += length
        message.setdefault(key >> 3, []).append(value)
    return message

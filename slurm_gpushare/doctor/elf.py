"""One number of a shared object, read without loading it: what it was compiled for."""

import struct

_DYNSYM = 11  # elf(5): sh_type of the table of dynamic symbols


def read_number(data: bytes, symbol: str) -> int:
    """Return the 32-bit value of the data symbol ``symbol`` of an ELF file of 64 bits, little-endian.

    Raises ValueError where it is no such file, or has no such symbol.
    """
    if data[:6] != b"\x7fELF\x02\x01":
        raise ValueError("not an ELF file of 64 bits, little-endian")
    try:
        offset, size, count = *struct.unpack_from("<Q", data, 0x28), *struct.unpack_from("<HH", data, 0x3A)
        # name, type, flags, address, offset, size, link, info, alignment, size of an entry
        sections = [struct.unpack_from("<IIQQQQIIQQ", data, offset + number * size) for number in range(count)]
        for table in (each for each in sections if each[1] == _DYNSYM):
            names = sections[table[6]]
            for place in range(table[4], table[4] + table[5], 24):
                name, _, _, index, value, _ = struct.unpack_from("<IBBHQQ", data, place)
                start = names[4] + name
                if data[start : data.index(b"\0", start)] == symbol.encode() and 0 < index < count:
                    section = sections[index]
                    return struct.unpack_from("<I", data, section[4] + value - section[3])[0]
    except (struct.error, IndexError) as error:
        raise ValueError(f"damaged ELF file: {error}") from None
    raise ValueError(f"has no symbol {symbol}")

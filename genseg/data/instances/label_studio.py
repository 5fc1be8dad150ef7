"""Label Studio's own run-length code of a mask: a string of bits, over the bytes of an RGBA
picture.

After a head (32 bits number of bytes, 5 bits word size less one, four times 4 bits of a length's
size less one) come
runs: one bit that says whether the bytes are equal, 2 bits which of the four sizes the length has,
the length less one, and the byte, or the bytes. It is what Label Studio's brush writes and reads
(label-studio-sdk, converter/brush.py).
"""

import numpy as np

from genseg.data.instances.instance import Instance

SIZES = (3, 4, 8, 16)  # bits of a length
WORD = 8  # bits of a value


def encode_brush(instance: Instance, height: int, width: int) -> list[int]:
    """The code of a mask in an image of that size, as the numbers of its bytes. Inside, all four
    channels are 255.

    What lies outside the window of the mask costs no time.
    """
    turns = np.diff(instance.mask, axis=1, prepend=False, append=False)
    y, x = np.nonzero(turns)
    edges = (y + instance.top) * width + x + instance.left
    values, counts = np.unique(edges, return_counts=True)
    edges = values[counts == 1]  # a row that ends where the next begins has no edge there
    lengths = np.diff(edges, prepend=0, append=height * width) * 4
    parts = [f"{4 * height * width:032b}", f"{WORD - 1:05b}", *(f"{s - 1:04b}" for s in SIZES)]
    for n, length in enumerate(lengths.tolist()):
        value = f"{255 * (n % 2):0{WORD}b}"
        while length:
            part = min(length, 1 << SIZES[-1])
            which = next(n for n, size in enumerate(SIZES) if part <= 1 << size)
            parts.append(f"1{which:02b}{part - 1:0{SIZES[which]}b}{value}")
            length -= part
    bits = "".join(parts)
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]

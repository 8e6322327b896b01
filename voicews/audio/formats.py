"""What a piece of data is that claims to be audio: told by its first bytes, to name it.

Sources: ISO/IEC 11172-3 and 14496-3 for the frame headers of MPEG audio, RFC 3533 (Ogg), RFC 9639
(FLAC), RFC 8794 (WebM), RFC 4867 (AMR), ISO/IEC 14496-12 (MP4).
"""

from __future__ import annotations

from typing import Final

from voicews.exceptions import AudioFormatError

#: Enough to tell what data is: three frames of any MP3.
LONGEST_MAGIC_BYTES: Final = 3 * 1441 + 4
#: Text is told from PCM by so many bytes in a row that are all text.
_TEXT_BYTES: Final = 64
_SHORTEST_TEXT_BYTES: Final = 8

_MAGIC: Final = (
    (b"ID3", "MP3"),
    (b"fLaC", "FLAC"),
    (b"#!AMR", "AMR"),
    (b"\x1aE\xdf\xa3", "WebM"),
    (b"caff", "CAF"),
    (b".snd", "AU"),
    (b"ADIF", "AAC"),
    (b"MThd", "MIDI"),
    (b"wvpk", "WavPack"),
    (b"MAC ", "Monkey's Audio"),
    (b"0&\xb2u\x8ef\xcf\x11", "WMA"),
    (b"riff\x2e\x91\xcf\x11", "Wave64"),
    (b"\x1f\x8b\x08", "gzip"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"%PDF", "a PDF"),
)
_TEXTS: Final = ("JSON", "HTML or XML", "text")
_OGG_CODECS: Final = (
    (b"OpusHead", "Ogg Opus"),
    (b"\x01vorbis", "Ogg Vorbis"),
    (b"\x7fFLAC", "Ogg FLAC"),
    (b"Speex", "Ogg Speex"),
)

_MP3_KBITS: Final = {
    # By MPEG-1 or not, and layer: kbit/s for the 14 codes from 1 on.
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MP3_RATES: Final = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


def audio_format(data: bytes) -> str | None:
    """The name of what `data` begins as, such as `MP3` or `JSON`; None: raw PCM may look so.

    Looks at no more than its first `LONGEST_MAGIC_BYTES`. WAV is named too.
    """
    for magic, name in _MAGIC:
        if data.startswith(magic):
            return name
    if data.startswith(b"OggS"):
        head = data[:128]
        return next((name for magic, name in _OGG_CODECS if magic in head), "Ogg")
    if data[:4] in (b"RIFF", b"RF64", b"BW64"):
        return "WAV" if data[8:12] == b"WAVE" else "a RIFF file without WAVE"
    if data.startswith(b"FORM") and data[8:12] in (b"AIFF", b"AIFC"):
        return "AIFF"
    if data[4:8] == b"ftyp" and data[:2] == b"\0\0":
        return "MP4"
    return _mpeg_audio(data) or _text(data)


def _mpeg_audio(data: bytes) -> str | None:
    # Two bytes of a loud sample may look like the start of a frame: three frames in a row do not.
    name: str | None = None
    position = 0
    for _ in range(3):
        if position == len(data) and position:
            break
        frame = _mpeg_frame(data[position : position + 6])
        if frame is None or name not in (None, frame[0]):
            # The end of data that was cut off between two frames.
            return name if 0 < len(data) - position < 6 else None
        name, size = frame
        position += size
        if position > len(data):
            # Less than a frame: a header alone is no proof.
            return name if position > size else None
    return name


def _mpeg_frame(header: bytes) -> tuple[str, int] | None:
    """Name and size (bytes) of the frame that begins so."""
    if len(header) < 6 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    if layer == 4:
        # No layer: the ADTS frame of AAC, with a size of its own.
        size = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
        is_adts = header[1] & 0xF0 == 0xF0 and header[2] >> 2 & 15 < 13 and size > 7
        return ("AAC", size) if is_adts else None
    kbits, rate = header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or kbits in (0, 15) or rate == 3:
        return None
    is_first = version == 3
    bits_per_sec = _MP3_KBITS[is_first, layer][kbits - 1] * 1000
    hz = _MP3_RATES[version][rate]
    padding = header[2] >> 1 & 1
    if layer == 1:
        return "MPEG audio", (12 * bits_per_sec // hz + padding) * 4
    samples = 72 if layer == 3 and not is_first else 144
    return ("MP3" if layer == 3 else "MPEG audio"), samples * bits_per_sec // hz + padding


def _text(data: bytes) -> str | None:
    head = data[:_TEXT_BYTES]
    if len(head) < _SHORTEST_TEXT_BYTES:
        return None
    if not all(0x20 <= byte < 0x7F or byte in b"\t\r\n" for byte in head):
        return None
    first = head.lstrip()[:1]
    if first in (b"{", b"["):
        return "JSON"
    return "HTML or XML" if first == b"<" else "text"


def not_pcm(name: str) -> AudioFormatError:
    """The error for data that is `name` where PCM or WAV was expected, with what to do."""
    if name in _TEXTS:
        advice = "it is an error message of the service, or audio that has to be decoded first"
    else:
        advice = "ask the speech service for 16-bit PCM or WAV"
    return AudioFormatError(f"expected PCM or a WAV file, found {name}: {advice}")

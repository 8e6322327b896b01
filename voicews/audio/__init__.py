"""PCM in, PCM out: resampling, channels and levels, WAV, DTMF tones, voice activity, utterances.

Audio is 16-bit little-endian PCM, interleaved, as `bytes`; rates are in Hz and times in seconds
of media. Nothing here does I/O on the live path, looks at a clock or imports Django.
"""

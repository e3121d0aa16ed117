"""Speech in noise for a voice activity detector: spoken phrases (Debian's asterisk-core-sounds-en-wav, 8 kHz) at random places among noise.

vad.py PHRASES OUT.npz makes 320 sequences of 64 frames. `input` float32 [sequences, frames, 288]: each frame is 256 new samples behind the 32 before
them, as silero-vad takes them at 8 kHz. `y` float32 [sequences, frames]: 1 where the phrase itself, before noise was added, is louder than a
thirtieth of its loudest frame. The same files give the same arrays.
"""

import pathlib
import sys
import wave

import numpy as np

SEQUENCES, FRAMES, HOP, CONTEXT = 320, 64, 256, 32


def phrase(path):
    with wave.open(str(path)) as file:
        assert file.getframerate() == 8000 and file.getsampwidth() == 2 and file.getnchannels() == 1, path
        return np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768


def sequence(phrases, random):
    length = FRAMES * HOP
    clean = np.zeros(length, np.float32)
    at = random.integers(2000, 9000)
    while at < length:
        spoken = phrases[random.integers(len(phrases))][: random.integers(4000, 9000)]
        n = min(len(spoken), length - at)
        clean[at : at + n] = spoken[:n]
        at += n + random.integers(2000, 7000)
    loudness = np.sqrt((clean.reshape(FRAMES, HOP) ** 2).mean(1))
    noise = random.standard_normal(length).astype(np.float32)
    if random.random() < 0.5:
        # Duller noise, as of an engine.
        noise = np.convolve(noise, np.full(8, 1 / 8, np.float32), "same")
    decibels = random.uniform(5, 25)
    power = (clean**2).sum() / max(1, np.count_nonzero(clean)) / 10 ** (decibels / 10)
    heard = clean + noise * np.sqrt(power) / noise.std()
    heard *= random.uniform(0.2, 0.9) / np.abs(heard).max()
    padded = np.concatenate([np.zeros(CONTEXT, np.float32), heard])
    frames = np.stack([padded[t * HOP : t * HOP + HOP + CONTEXT] for t in range(FRAMES)])
    return frames.astype(np.float32), (loudness > loudness.max() / 30).astype(np.float32)


def main():
    folder, out = pathlib.Path(sys.argv[1]), sys.argv[2]
    # Some of the files are silence.
    phrases = [p for p in map(phrase, sorted(folder.rglob("*.wav"))) if len(p) > 4000 and np.abs(p[:4000]).max() > 0.1]
    random = np.random.default_rng(7)
    frames, marks = zip(*(sequence(phrases, random) for _ in range(SEQUENCES)))
    np.savez(out, input=np.stack(frames), y=np.stack(marks))


main()

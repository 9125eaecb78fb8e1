"""Videos with sound or subtitles, and tiny random recognisers of speech, saved as real ones are."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from zsvg.backbones.quiet import quiet

RATE = 44_100


def write_talk(path: Path, sound: np.ndarray | None, *, late: float = 0.0, layout="stereo") -> Path:
    """Write a video of grey pictures with the given sound, (n,) float32 at 44.1 kHz."""
    seconds = 2 if sound is None else int(np.ceil(late + len(sound) / RATE))
    with av.open(str(path), "w") as sink:
        video = sink.add_stream("libx264", rate=5)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = None
        if sound is not None:
            codec = "pcm_s16le" if path.suffix == ".mkv" else "aac"
            audio = sink.add_stream(codec, rate=RATE, layout=layout)
        for number in range(5 * seconds):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8))
            frame.pts = number
            sink.mux(video.encode(frame))
        for first in range(0, 0 if sound is None else len(sound), 1024):
            piece = sound[first : first + 1024]
            channels = 2 if layout == "stereo" else 1
            planes = np.repeat(piece[None], channels, axis=0).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=layout)
            frame.sample_rate, frame.pts = RATE, first + round(late * RATE)
            sink.mux(audio.encode(frame))
        if audio is not None:
            sink.mux(audio.encode(None))
        sink.mux(video.encode(None))
    return path


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    """Return what random models react to."""
    random = np.random.default_rng(seed)
    return (0.3 * random.standard_normal(round(seconds * RATE))).clip(-1, 1).astype(np.float32)


LETTERS = "etaoinshrdlu"


def write_tiny_whisper(folder: Path, *, times: bool = True, languages=("en", "de")) -> Path:
    """Write a random Whisper for 2 s of sound that takes turns of words and times."""
    from tokenizers import AddedToken
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperTokenizer,
    )

    torch.manual_seed(0)
    words = [f"\u0120{letter}{letter}" for letter in LETTERS]  # as byte-level BPE writes a blank
    special = ["<|endoftext|>", "<|startoftranscript|>"]
    special += [f"<|{language}|>" for language in languages]
    special += ["<|transcribe|>", "<|notimestamps|>"]
    stamps = [f"<|{n * 0.02:.2f}|>" for n in range(101)]  # 0 to 2 s
    ids = {token: number for number, token in enumerate([*words, *special, *stamps])}
    tokenizer = WhisperTokenizer(
        vocab={word: ids[word] for word in words},
        merges=[],
        unk_token="<|endoftext|>",
        additional_special_tokens=special[1:],
    )
    tokenizer.add_tokens([AddedToken(stamp) for stamp in stamps])
    assert [tokenizer.convert_tokens_to_ids(token) for token in ids] == [*ids.values()]
    config = WhisperConfig(
        vocab_size=len(ids),
        num_mel_bins=20,
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_source_positions=100,
        max_target_positions=40,
        init_std=0.5,
        pad_token_id=ids["<|endoftext|>"],
        bos_token_id=ids["<|endoftext|>"],
        eos_token_id=ids["<|endoftext|>"],
        decoder_start_token_id=ids["<|startoftranscript|>"],
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    generation = GenerationConfig(
        max_length=30,
        pad_token_id=ids["<|endoftext|>"],
        bos_token_id=ids["<|endoftext|>"],
        eos_token_id=ids["<|endoftext|>"],
        decoder_start_token_id=ids["<|startoftranscript|>"],
        is_multilingual=bool(languages),
        max_initial_timestamp_index=50,
    )
    if languages:
        generation.lang_to_id = {f"<|{code}|>": ids[f"<|{code}|>"] for code in languages}
        generation.task_to_id = {"transcribe": ids["<|transcribe|>"]}
    if times:
        generation.no_timestamps_token_id = ids["<|notimestamps|>"]
    with quiet():
        model = WhisperForConditionalGeneration(config)
        model.generation_config = generation
        model.save_pretrained(folder)
        WhisperFeatureExtractor(feature_size=20, chunk_length=2).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def write_tiny_wav2vec2(folder: Path) -> Path:
    """Write a random wav2vec 2.0 with letters, 320 samples a frame as the real ones."""
    from transformers import (
        Wav2Vec2Config,
        Wav2Vec2CTCTokenizer,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2ForCTC,
    )

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = ["<pad>", "<s>", "</s>", "<unk>", "|", *LETTERS.upper()]
    ids = {token: number for number, token in enumerate(vocabulary)}
    (folder / "letters.json").write_text(json.dumps(ids), encoding="utf-8")
    config = Wav2Vec2Config(
        vocab_size=len(ids),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        initializer_range=0.5,
        pad_token_id=0,
    )
    with quiet():
        Wav2Vec2ForCTC(config).save_pretrained(folder)
        Wav2Vec2FeatureExtractor(return_attention_mask=False).save_pretrained(folder)
        Wav2Vec2CTCTokenizer(str(folder / "letters.json")).save_pretrained(folder)
    return folder


def write_tiny_moonshine(folder: Path) -> Path:
    """Write a random Moonshine, which writes words of `conftest.VOCABULARY`."""
    from conftest import write_tiny_tokenizer
    from transformers import (
        MoonshineConfig,
        MoonshineForConditionalGeneration,
        Wav2Vec2FeatureExtractor,
    )

    torch.manual_seed(0)
    words = write_tiny_tokenizer(folder)
    config = MoonshineConfig(
        vocab_size=words,
        hidden_size=32,
        intermediate_size=32,
        encoder_num_hidden_layers=1,
        decoder_num_hidden_layers=1,
        encoder_num_attention_heads=2,
        decoder_num_attention_heads=2,
        initializer_range=0.5,
        pad_token_id=0,
        bos_token_id=words - 2,
        eos_token_id=words - 1,
        decoder_start_token_id=words - 2,
    )
    with quiet():
        model = MoonshineForConditionalGeneration(config)
        model.generation_config.max_length = 8
        model.save_pretrained(folder)
        Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)
    return folder


ASS = """[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname
Style: Default,Arial

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:03.04,0:00:04.00,Default,,0,0,0,,{\\k20}o{\\k30}ver, {\\i1}there{\\i0}\\Nnow\\hgo
Comment: 0,0:00:03.00,0:00:04.50,Default,,0,0,0,,a comment
Dialogue: 0,0:00:05.00,0:00:06.50,Default,,0,0,0,,{\\p1}m 0 0 l 100 0 100 100{\\p0}
Dialogue: 0,0:00:01.00,0:00:02.50,Default,,0,0,0,,{\\pos(1,2)}Open, the fridge
"""


def write_video(path: Path, *subtitles: tuple[str, str, list], seconds: int = 5) -> Path:
    """Write a video with subtitle streams: (codec, language, [(start, duration, packet), ...])."""
    head = ASS.partition("Dialogue")[0].encode()
    with av.open(str(path), "w") as sink:
        video = sink.add_stream("libvpx" if path.suffix == ".webm" else "libx264", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.options = {"bf": "0"}
        streams = []
        for codec, language, _ in subtitles:
            stream = sink.add_stream(codec)
            if not hasattr(stream.codec_context, "subtitle_header"):
                pytest.skip("this PyAV reads streams of subtitles, but does not write them")
            stream.codec_context.subtitle_header = head
            stream.time_base, stream.metadata["language"] = Fraction(1, 1000), language
            streams.append(stream)
        for number in range(10 * seconds):
            pixels = np.full((48, 64, 3), number % 256, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels)
            frame.pts = number
            sink.mux(video.encode(frame))
        for stream, (_, _, cues) in zip(streams, subtitles, strict=True):
            for start, duration, data in cues:
                packet = av.Packet(data)
                packet.stream, packet.time_base = stream, Fraction(1, 1000)
                packet.pts = packet.dts = round(1000 * start)
                packet.duration = round(1000 * duration)
                sink.mux(packet)
        sink.mux(video.encode(None))
    return path

"""Speech on tiny random models, saved and loaded as real ones are: what they say means nothing."""

from __future__ import annotations

from itertools import pairwise

import av
import numpy as np
import pytest
from talks import (
    LETTERS,
    RATE,
    noise,
    silence,
    write_talk,
    write_tiny_moonshine,
    write_tiny_wav2vec2,
    write_tiny_whisper,
)

from zsvg.errors import BackboneError, TranscriptError, VideoError
from zsvg.transcripts import load_recogniser, said_in
from zsvg.transcripts.sound import Stretch, stretches
from zsvg.transcripts.speech import SpeechOptions, _joined


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    return write_tiny_whisper(tmp_path_factory.mktemp("models") / "whisper")


@pytest.fixture(scope="module")
def wav2vec2(tmp_path_factory):
    return write_tiny_wav2vec2(tmp_path_factory.mktemp("models") / "wav2vec2")


@pytest.fixture(scope="module")
def talk(tmp_path_factory):
    """Sound from 1 to 4 s and from 6 to 7 s of 8 s, else silence."""
    parts = [silence(1), noise(3), silence(2), noise(1, seed=1), silence(1)]
    return write_talk(tmp_path_factory.mktemp("videos") / "talk.mp4", np.concatenate(parts))


class TestSound:
    @pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
    def test_times_are_those_of_the_film(self, tmp_path, name):
        sound = silence(5)
        sound[2 * RATE : 2 * RATE + 50] = 0.9  # a click at 2 s
        (stretch,) = stretches(write_talk(tmp_path / name, sound))
        assert stretch.rate == 16_000
        click = stretch.start + np.abs(stretch.samples).argmax() / stretch.rate
        assert click == pytest.approx(2.0, abs=0.01)
        assert stretch.length == pytest.approx(5.0, abs=0.1)

    def test_sound_that_begins_late(self, tmp_path):
        sound = silence(3)
        sound[RATE : RATE + 50] = 0.9
        (stretch,) = stretches(write_talk(tmp_path / "a.mkv", sound, late=1.5))
        assert stretch.start == pytest.approx(1.5, abs=0.01)
        click = stretch.start + np.abs(stretch.samples).argmax() / stretch.rate
        assert click == pytest.approx(2.5, abs=0.01)

    def test_a_gap_begins_a_new_stretch(self, tmp_path):
        path = write_talk(tmp_path / "a.mkv", noise(6))
        with av.open(str(path)) as source, av.open(str(tmp_path / "gap.mkv"), "w") as sink:
            streams = [sink.add_stream_from_template(stream) for stream in source.streams]
            for packet in source.demux():
                lost = packet.stream_index == 1 and 2 <= float(packet.pts or 0) / 1000 < 4
                if packet.size and not lost:
                    packet.stream = streams[packet.stream_index]
                    sink.mux(packet)
        first, second = stretches(tmp_path / "gap.mkv")
        assert first.start == pytest.approx(0.0, abs=0.01)
        assert first.length == pytest.approx(2.0, abs=0.05)
        assert second.start == pytest.approx(4.0, abs=0.05)
        assert second.length == pytest.approx(2.0, abs=0.05)

    def test_long_sound_is_cut_where_it_is_quiet_and_nothing_is_lost(self, tmp_path):
        parts = [noise(2.7), silence(0.25), noise(3.05), noise(0.5) * 0.01, noise(1.5)]
        path = write_talk(tmp_path / "a.mkv", np.concatenate(parts), layout="mono")
        whole = next(stretches(path))
        found = list(stretches(path, longest=3.0))
        assert all(stretch.length <= 3.0 for stretch in found)
        assert found[1].start == pytest.approx(2.8, abs=0.15)  # in the pause
        for before, after in pairwise(found):
            assert after.start == pytest.approx(before.start + before.length)
        assert np.array_equal(np.concatenate([s.samples for s in found]), whole.samples)

    def test_only_one_stretch_is_held(self, tmp_path, monkeypatch):
        """Between two stretches, no more than the next one is decoded."""
        import zsvg.transcripts.sound as module

        decoded = []
        heard = module._heard

        def counting(*arguments):
            for begins, samples in heard(*arguments):
                decoded.append(len(samples))
                yield begins, samples

        monkeypatch.setattr(module, "_heard", counting)
        path = write_talk(tmp_path / "a.mkv", noise(20))
        told = 0
        for stretch in stretches(path, longest=2.0):
            told += len(stretch.samples)
            assert sum(decoded) - told <= 16_000 * 2.2

    def test_a_file_that_breaks_off_is_heard_until_there(self, tmp_path):
        path = write_talk(tmp_path / "a.mkv", noise(8))
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        (stretch,) = stretches(path)
        assert 3 < stretch.length < 5

    def test_no_sound_and_no_video(self, tmp_path):
        path = write_talk(tmp_path / "a.mp4", None)
        with pytest.raises(TranscriptError, match=r"a\.mp4: no audio stream") as error:
            list(stretches(path))
        assert "\n" not in str(error.value)
        with pytest.raises(VideoError, match="no such file"):
            list(stretches(tmp_path / "no.mp4"))


class TestWhisper:
    def test_segments_lie_within_the_sound(self, whisper, talk):
        recogniser = load_recogniser(str(whisper), "cpu")
        assert recogniser.window == 2.0  # what this one hears at once
        lines = recogniser.transcribe(talk)
        assert lines
        assert {line.language for line in lines} <= {"en", "de"}
        assert {line.source for line in lines} == {str(whisper)}
        starts = [stretch.start for stretch in stretches(talk, longest=2.0)]
        assert len(starts) >= 4
        assert all(0 <= line.start < line.end <= 8.1 for line in lines)
        assert all(set(line.text) <= {*LETTERS, " "} for line in lines)
        # Stamps are steps of 0.02 s from the beginning of a window.
        for line in lines:
            begun = max(start for start in starts if start <= line.start + 1e-6)
            steps = (line.start - begun) / 0.02
            assert steps == pytest.approx(round(steps), abs=1e-3)

    def test_stamps_become_times(self, whisper):
        """Words stand between two stamps; those after the last, until the end of the sound."""
        recogniser = load_recogniser(str(whisper), "cpu")
        number = recogniser.tokenizer.convert_tokens_to_ids
        tokens = ["<|0.10|>", "\u0120ee", "\u0120tt", "<|0.50|>", "<|0.70|>", "\u0120aa"]
        said = [cue for cue in recogniser._segments(list(map(number, tokens)), 1.6) if cue.rows]
        assert [(round(cue.start, 6), round(cue.end, 6), cue.rows) for cue in said] == [
            (0.1, 0.5, ("ee tt",)),
            (0.7, 1.6, ("aa",)),
        ]

    def test_batches_do_not_matter(self, whisper, talk):
        one = load_recogniser(str(whisper), "cpu", options=SpeechOptions(batch_size=1))
        many = load_recogniser(str(whisper), "cpu", options=SpeechOptions(batch_size=3))
        assert [line.text for line in one.transcribe(talk)] == [
            line.text for line in many.transcribe(talk)
        ]
        assert one.fingerprint == many.fingerprint

    def test_language(self, whisper, talk):
        told = load_recogniser(str(whisper), "cpu", options=SpeechOptions(language="de"))
        assert {line.language for line in told.transcribe(talk)} == {"de"}
        with pytest.raises(BackboneError, match="does not know the language 'xx'; it knows de, en"):
            load_recogniser(str(whisper), "cpu", options=SpeechOptions(language="xx"))

    @pytest.mark.parametrize("times", [True, False])
    def test_of_one_language(self, tmp_path, talk, times):
        folder = write_tiny_whisper(tmp_path / "en", times=times, languages=())
        lines = load_recogniser(f"local-dir:{folder}", "cpu").transcribe(talk)
        assert {line.language for line in lines} == {""}
        assert all(0 <= line.start < line.end <= 8.1 for line in lines)


class TestCtc:
    def test_letters_become_lines_within_the_sound(self, wav2vec2, talk):
        lines = load_recogniser(str(wav2vec2), "cpu").transcribe(talk)
        assert lines
        assert all(0 <= line.start < line.end <= 8.1 for line in lines)
        assert all(set(line.text) <= {*LETTERS.upper(), " "} for line in lines)

    def test_long_sound_is_heard_in_windows(self, wav2vec2, tmp_path):
        path = write_talk(tmp_path / "a.mkv", noise(12))
        recogniser = load_recogniser(str(wav2vec2), "cpu", options=SpeechOptions(window=3))
        heard = []
        forward = recogniser.model.forward
        recogniser.model.forward = lambda **inputs: (
            heard.append(tuple(inputs["input_values"].shape)) or forward(**inputs)
        )
        lines = recogniser.transcribe(path)
        assert all(length <= 3 * 16_000 for _, length in heard)
        assert sum(size for size, _ in heard) >= 4
        assert max(line.end for line in lines) > 9  # also what comes late is heard

    def test_letters_have_the_times_of_their_frames(self, wav2vec2):
        recogniser = load_recogniser(str(wav2vec2), "cpu")
        number = recogniser.tokenizer.convert_tokens_to_ids
        row = ["<pad>"] * 50 + ["T", "T", "<pad>", "O", "|", "|", "E"] + ["<pad>"] * 40
        row += ["N", "<pad>", "N", "<unk>"]
        cues = recogniser._spelled(list(map(number, row)), 0.02)
        assert [(round(cue.start, 6), round(cue.end, 6), cue.rows) for cue in cues] == [
            (1.0, 1.14, ("TO E",)),
            (1.94, 2.0, ("NN",)),
        ]
        assert [cue for cue in recogniser._spelled([0] * 50, 0.02) if cue.rows] == []

    def test_lines_do_not_grow_for_ever(self):
        words = [letter for n in range(20) for letter in ((f"a{n}", n, n + 0.9), (" ", n, n + 1))]
        cues = _joined(words)
        assert [cue.rows[0].split()[0] for cue in cues] == ["a0", "a7", "a14"]
        without_blanks = _joined((f"字{n}", n / 2, (n + 1) / 2) for n in range(60))
        assert [cue.end - cue.start for cue in without_blanks] == [12.0, 12.0, 6.0]


class TestOthers:
    def test_a_model_without_times_says_one_line_for_each_stretch(self, tmp_path):
        """Moonshine takes samples, writes text, and knows no times."""
        recogniser = load_recogniser(str(write_tiny_moonshine(tmp_path / "moonshine")), "cpu")
        path = write_talk(tmp_path / "a.mkv", noise(15))
        lines = recogniser.transcribe(path)
        first, second = stretches(path, longest=10.0)
        assert [(line.start, line.end) for line in lines] == [
            (0.0, pytest.approx(first.length)),
            (second.start, pytest.approx(15.0, abs=0.05)),
        ]


class TestSilence:
    @pytest.mark.parametrize("model", ["whisper", "wav2vec2"])
    def test_silence_is_no_line(self, model, request, tmp_path):
        path = write_talk(tmp_path / "a.mp4", silence(5))
        recogniser = load_recogniser(str(request.getfixturevalue(model)), "cpu")
        assert recogniser.transcribe(path) == []
        assert said_in(path, recogniser) == []

    def test_a_video_without_sound_is_one_line(self, whisper, tmp_path):
        path = write_talk(tmp_path / "a.mp4", None)
        lines = said_in(path, load_recogniser(str(whisper), "cpu"))
        assert lines == []
        assert lines.unusable == ()
        assert lines.silent.startswith(f"{path}: no audio stream")

    def test_what_is_said_is_gathered(self, wav2vec2, talk):
        recogniser = load_recogniser(str(wav2vec2), "cpu")
        assert said_in(talk, recogniser) == recogniser.transcribe(talk)

    def test_what_begins_after_the_sound_is_left_out(self):
        from zsvg.transcripts.lines import Cue
        from zsvg.transcripts.speech import _placed

        stretch = Stretch(10.0, np.zeros(16_000, np.float32), 16_000)
        cues = [Cue(0.5, 3.0, ("a",)), Cue(1.2, 1.5, ("b",)), Cue(0.8, 0.8, ("c",))]
        assert [tuple(cue) for cue in _placed(cues, stretch)] == [
            (10.5, 11.0, ("a",)),
            (10.8, 11.0, ("c",)),
        ]


class TestLoading:
    def test_nothing_is_downloaded_unless_allowed(self, monkeypatch):
        asked = []

        def refuse(source, **options):
            asked.append(options["local_files_only"])
            raise OSError(f"{source} is not here")

        monkeypatch.setattr("transformers.AutoConfig.from_pretrained", refuse)
        with pytest.raises(BackboneError, match=r"allow_download=True`\) fetches it"):
            load_recogniser("somebody/whisper")
        with pytest.raises(BackboneError, match="check the name and the network"):
            load_recogniser("somebody/whisper", allow_download=True)
        assert asked == [True, False]

    def test_unknown_names(self, tmp_path):
        with pytest.raises(BackboneError, match="neither a folder nor an ORG/NAME"):
            load_recogniser("whisper")
        with pytest.raises(BackboneError, match="check the files in that folder") as error:
            load_recogniser(str(tmp_path))
        assert "\n" not in str(error.value)

    def test_missing_weights(self, wav2vec2, tmp_path):
        import shutil

        from safetensors.torch import load_file, save_file

        folder = shutil.copytree(wav2vec2, tmp_path / "part")
        weights = load_file(folder / "model.safetensors")
        kept = {name: value for name, value in weights.items() if "lm_head" not in name}
        save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(BackboneError, match=r"lacks 2 weights \(lm_head.bias"):
            load_recogniser(str(folder), "cpu")

    def test_options(self):
        with pytest.raises(ValueError, match="window must be"):
            SpeechOptions(window=0)
        with pytest.raises(ValueError, match="batch_size must be"):
            SpeechOptions(batch_size=0)

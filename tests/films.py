"""Writes small films with sound, subtitles, tags and attached files for the tests; reads them."""

import fractions

import av
import numpy as np

TEXT_CODECS = ('srt', 'ass', 'mov_text', 'webvtt')
ASS_HEADER = b"""[Script Info]
ScriptType: v4.00+
PlayResX: 384
PlayResY: 288

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, \
Bold, Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, \
Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""
TEXTS = [(100, 400, 'Hello, {\\i1}world{\\i0}'), (500, 900, 'Grüße')]  # ms


def add_sound(container, codec='aac', *, rate=48000, layout='mono', begin=0.0, seconds=1.0):
    """Adds a track of sound to a container: silence, and a tone from second 0.5 on.

    Returns:
        The stream, and its packets, which the caller muxes after it has added all streams.
    """
    channels = av.AudioLayout(layout).nb_channels
    bits = channels * min(64_000, 4 * rate)  # per second
    stream = container.add_stream(codec, rate=rate, layout=layout, bit_rate=bits)

    def packets():
        for start in range(round(begin * rate), round((begin + seconds) * rate), 1024):
            places = np.arange(start, start + 1024)
            wave = np.where(places >= rate / 2, np.sin(places * 0.1), 0) * 0.5
            frame = av.AudioFrame.from_ndarray(
                np.repeat(wave[None].astype(np.float32), channels, 0), 'fltp', layout
            )
            frame.sample_rate, frame.pts = rate, start
            yield from stream.encode(frame)
        yield from stream.encode(None)

    return stream, packets


def make_film(path, *, sounds=({},), texts=(), cover=False, font=False, chapters=(), tags=None):
    """Writes a film of one second, black and from second 0.5 on white, with what is beside it.

    Args:
        path: the file; its suffix names the container.
        sounds: for each track of sound, options of `add_sound`, and `language`, `title` and
            `disposition`.
        texts: for each track of `TEXTS`, its `codec`, and `language`, `title` and `disposition`.
        cover: whether a picture is attached.
        font: whether a file is attached.
        chapters: pairs of a title and an end in ms.
        tags: of the file.
    """
    millisecond = fractions.Fraction(1, 1000)
    with av.open(str(path), 'w') as container:
        container.metadata.update(tags or {})
        stream = container.add_stream('libx264', rate=20, options={'bf': '0'})
        stream.height, stream.width, stream.pix_fmt = 32, 48, 'yuv420p'
        tracks = []
        for options in map(dict, [*sounds, *texts]):
            labels = {n: options.pop(n) for n in ('language', 'title') if n in options}
            disposition = options.pop('disposition', 0)
            if options.get('codec') in TEXT_CODECS:
                track = container.add_stream(options['codec'])
                track.codec_context.subtitle_header = ASS_HEADER
                track.codec_context.time_base = track.time_base = millisecond
                tracks.append((track, None))
            else:
                track, packets = add_sound(container, **options)
                tracks.append((track, packets))
            track.metadata.update(labels)
            track.disposition = disposition
        if cover:
            picture = av.VideoFrame.from_ndarray(np.full((16, 16, 3), 200, np.uint8), 'rgb24')
            container.add_attachment('cover.png', 'image/png', encode_png(picture))
        if font:
            container.add_attachment('font.ttf', 'application/x-truetype-font', b'letters')
        begins = [0, *(end for _, end in chapters)]
        container.set_chapters([
            {'id': i + 1, 'start': begin, 'end': end, 'time_base': millisecond,
             'metadata': {'title': title}}
            for i, ((title, end), begin) in enumerate(zip(chapters, begins, strict=False))
        ])  # fmt: skip
        for i in range(20):
            pixels = np.full((32, 48, 3), 255 if i >= 10 else 0, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format='rgb24')
            frame.pts, frame.time_base = i, fractions.Fraction(1, 20)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        for track, packets in tracks:
            if packets is not None:
                container.mux(list(packets()))
                continue
            for begin, end, text in TEXTS:
                subtitle = av.subtitles.subtitle.SubtitleSet.create(
                    f'0,0,Default,,0,0,0,,{text}'.encode(), 0, end - begin, begin
                )
                packet = track.codec_context.encode_subtitle(subtitle)
                packet.stream, packet.time_base = track, millisecond
                container.mux(packet)
    return path


def encode_png(frame):
    """Bytes of a PNG file."""
    context = av.CodecContext.create('png', 'w')
    context.width, context.height, context.pix_fmt = frame.width, frame.height, 'rgb24'
    context.time_base = fractions.Fraction(1, 25)
    return b''.join(map(bytes, [*context.encode(frame), *context.encode(None)]))


def offset(path, track=0):
    """Seconds from the first white frame to the first loud sample of a track of sound."""
    with av.open(str(path)) as container:
        stream = next(s for s in container.streams.video if not s.disposition & 1024)
        frames = ((f.time, f.to_ndarray(format='gray').mean()) for f in container.decode(stream))
        white = next(time for time, mean in frames if mean > 128)
    with av.open(str(path)) as container:
        resampler = av.AudioResampler('flt', 'mono')
        for frame in container.decode(audio=track):
            for part in resampler.resample(frame):
                loud = np.flatnonzero(np.abs(part.to_ndarray()[0]) > 0.1)
                if len(loud):
                    return frame.time + loud[0] / part.sample_rate - white
    return None


def tracks(path):
    """Kind, codec, language, title and flags of each track of sound and subtitles."""
    with av.open(str(path)) as container:
        return [
            (
                *(stream.type, stream.codec_context.codec.canonical_name),
                stream.metadata.get('language', 'und'),
                stream.metadata.get('title', stream.metadata.get('name')),
                int(stream.disposition),
            )
            for stream in container.streams
            if stream.type in ('audio', 'subtitle')
        ]


def texts(path, track=0):
    """Begin and end in ms, and text of each subtitle of a track."""
    with av.open(str(path)) as container:
        stream = container.streams.subtitles[track]
        found = []
        for packet in container.demux(stream):
            if packet.size and packet.dts is not None:
                ass = b' '.join(text.ass for text in packet.decode()).decode()
                begin = float(1000 * packet.pts * packet.time_base)
                end = begin + float(1000 * packet.duration * packet.time_base)
                if text := ass.split(',', 8)[-1]:
                    found.append((round(begin), round(end), text))
        return found

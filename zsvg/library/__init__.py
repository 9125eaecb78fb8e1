"""A library: the frame features of many videos in LanceDB, made once and searched by sentence.

    videos ─ sources ─ indexing ─ tables (videos, features, frames, events)
                                     │
    sentence ─ candidates (which videos) ─ search (`Grounder.ground` on their stored features)

`library` is the whole as one class, `manifest` says what a library was made with.
"""

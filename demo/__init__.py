"""The demo: a page in the browser over the public interface of zsvg.

    zsvg demo --model kitchen/

or, in a checkout,

    import zsvg
    from demo.app import build_demo, launch_options

    build_demo(zsvg.load("micro")).launch(**launch_options())

`app` is the whole page; `library`, `ground`, `label` and `tune` are its tabs; `searching`,
`learning`, `asking`, `labelling` and `tuning` the work behind them; `api` and `library_api` the
same for programs. `shelf` knows what of a library may be seen. Labelling, tuning and indexing run
in processes of their own (`jobs`, `worker`). What belongs to one visitor is a `visit.Visit`, known
again by a cookie (`visitors`) and kept on disk (`work`); no module keeps more.
"""

"""The site's own extensions, loaded together: one line in `_config.yml` stays enough."""


def setup(app):
    for name in (
        "offline_assets",
        "notebook_outputs",
        "claims",
        "benchmarks",
        "quiz",
        "course_page",
        "run_times",
        "docstrings",
        "page_meta",
        "unique_ids",
    ):
        app.setup_extension(name)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}

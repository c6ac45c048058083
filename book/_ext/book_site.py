"""The site's own extensions, loaded together: one line in `_config.yml` stays enough."""

PAGES = (
    "executed",
    "offline",
    "outputs",
    "claims_table",
    "claims_map",
    "benchmarks",
    "accuracy",
    "quiz",
    "assignments_list",
    "run_times",
    "docstrings",
    "meta",
    "unique_ids",
)


def setup(app):
    for name in PAGES:
        app.setup_extension(f"pages.{name}")
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}

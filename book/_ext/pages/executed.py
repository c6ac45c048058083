"""Before Sphinx reads a chapter, all chapters are executed, side by side, where they have to be.

MyST-NB then takes their outputs from the cache that `notebooks.store` keeps: the tests compare the
very same ones.
"""

from pathlib import Path

from notebooks import store
from notebooks.canonical import NotebookError, read
from notebooks.execute import cores, first_failure
from notebooks.toc import chapters
from sphinx.errors import ExtensionError
from sphinx.util import logging

logger = logging.getLogger(__name__)


def use_store(app, config):
    config.nb_execution_mode = "cache"
    config.nb_execution_cache_path = str(store.folder(Path(app.srcdir)))


def execute_all(app):
    """Run what has to be run and say so as it goes; a cell that fails ends the build."""
    root = Path(app.srcdir)
    try:
        paths = chapters(root)
        notebooks = [(path, read(path)) for path in paths]
    except NotebookError as error:
        raise ExtensionError(str(error)) from error
    jobs, failed, done = cores(), [], []

    def report(path, ran, kept):
        done.append(path)
        name = path.relative_to(root).as_posix()
        said = first_failure(ran)
        if said:
            failed.append(f"{name}: {said}")
        took = "executed before" if kept else f"{ran.seconds:.0f} s"
        word = "FAILED" if said else took
        logger.info("chapter %d of %d: %s (%s)", len(done), len(paths), name, word)

    logger.info("executing the chapters that have changed, %d at a time", jobs)
    try:
        store.executed(root, notebooks, jobs, report=report)
    except NotebookError as error:
        raise ExtensionError(str(error)) from error
    if failed:
        raise ExtensionError("a chapter does not run:\n" + "\n".join(failed))


def setup(app):
    app.connect("config-inited", use_store, priority=100)
    app.connect("builder-inited", execute_all, priority=100)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}

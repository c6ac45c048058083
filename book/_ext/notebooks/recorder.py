"""What runs in a notebook's kernel beside it: a register of what is made there and what is shown.

`register` sends this file as text before the first cell and reads `Recorder.found` after the last;
nothing here leans on the other tools.  As modules of `ntkbook` are imported, the few functions
through which every check, derivation and figure must pass are wrapped, and what each module holds
is noted: a cell that replaces any of it is found out when it ends.
"""

import functools
import hashlib
import json
import sys
from types import ModuleType

PACKAGE = "ntkbook"
HOOKS = {
    "ntkbook.evidence.checks": "checks",
    "ntkbook.evidence.chain": "lines",
    "ntkbook.evidence.figures": "figures",
}
PYTHON_MAKES = {
    "__annotations__",
    "__annotations_cache__",
    "__doc__",
}  # when somebody asks for them


def digest(bundle):
    """A word for what a display shows: all its texts and records, without pictures."""
    kept = {k: v for k, v in bundle.items() if not k.startswith("image/")}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


def inside_package(name):
    return (name or "").partition(".")[0] == PACKAGE


def inside(frame):
    """Whether a frame runs code of the package."""
    return inside_package(frame.f_globals.get("__name__"))


class Recorder:
    """The register of one kernel.

    Its entries begin with the number of cells that ran before; `found` says their execution count.
    """

    def __init__(self):
        self.counts = []  # of the cells that have ended
        self.objects = {}  # id: (object, what it held when the package made it)
        self.checks = []  # [cell, claim, record]
        self.lines = []  # (cell, line, by a rule?)
        self.shown = []  # [cell, digest], by a genuine object
        self.shown_lines = {}  # id of a line: the digests under which it was shown
        self.spoken = []  # [cell, text], likewise
        self.refused = []  # [cell, name, message]
        self.altered = []  # [cell, name]
        self.held = {}  # module or class: what it held after its import
        self.hooked = []

    # Importing

    def find_spec(self, name, path=None, target=None):
        """Part of `sys.meta_path`: the usual finders, and a hook after the module's own code."""
        if not inside_package(name):
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        specs = (finder.find_spec(name, path, target) for finder in others)
        spec = next(filter(None, specs), None)
        loader = spec and spec.loader
        run = getattr(loader, "exec_module", None)
        if run:
            vars(loader)["exec_module"] = lambda module: self.imported(module, run)
        return spec

    def imported(self, module, run):
        run(module)
        hook = HOOKS.get(module.__name__)
        if hook:
            getattr(self, f"watch_{hook}")(module)
            self.hooked.append(module.__name__)
        own = [v for v in vars(module).values() if isinstance(v, type)]
        for owner in [module, *(c for c in own if c.__module__ == module.__name__)]:
            self.held[owner] = _contents(owner)

    # Making

    def keep(self, item, facts):
        self.objects[id(item)] = item, facts
        return item

    def is_own(self, item, facts):
        """Whether the package made this object, and nobody altered it since."""
        kept, before = self.objects.get(id(item), (None, ()))
        return kept is item and _same(facts, before)

    def watch_checks(self, module):
        check = module.check

        @functools.wraps(check)
        def watched(*args, **kwargs):
            try:
                made = check(*args, **kwargs)
            except Exception as error:
                claim = str(args[0] if args else kwargs.get("claim", "check"))
                self.refused.append([len(self.counts), claim, str(error)])
                raise
            self.checks.append([len(self.counts), made.claim, made.record])
            return self.keep(made, _text_of(made))

        del watched.__wrapped__
        module.check = watched
        for kind in (module.Check, module.Report):
            self.watch_display(kind, lambda item: [(c, _text_of(c)) for c in _checks_of(item)])

    def watch_lines(self, module):
        line, guarded = module.Line, module.rule(lambda self, because: None).__code__
        begin, follow = line.__post_init__, line._line

        def started(self_):
            begin(self_)
            self.lines.append((len(self.counts), self.keep(self_, _fields(self_)), False))

        def followed(self_, *args, **kwargs):
            new = follow(self_, *args, **kwargs)
            if _called_from(guarded, sys._getframe(1)):  # else not by a rule: it stays a stranger
                self.lines.append((len(self.counts), self.keep(new, _fields(new)), True))
            return new

        def refuse(error, *args):
            ValueError.__init__(error, *args)
            if inside(sys._getframe(1)):
                name = str(args[0]).split(",")[0] if args else "a derivation"
                self.refused.append([len(self.counts), name, str(error)])

        line.__post_init__, line._line = started, followed
        module.DerivationError.__init__ = refuse
        self.watch_display(line, lambda item: [(one, _fields(one)) for one in _rests_on(item)])

    def watch_figures(self, module):
        figure = module.figure

        @functools.wraps(figure)
        def watched(*args, **kwargs):
            made = figure(*args, **kwargs)
            return self.keep(made, _fields(made))

        del watched.__wrapped__
        module.figure = watched
        self.watch_display(module.Figure, lambda item: [(item, _fields(item))])

    # Showing

    def watch_display(self, kind, parts):
        show, speak = kind._repr_mimebundle_, kind.__repr__

        def genuine(item):
            plain = inside_package(type(item).__module__)  # a subclass may show what it likes
            return plain and all(self.is_own(*part) for part in parts(item))

        def spoken(item):
            text = speak(item)
            if genuine(item):
                self.spoken.append([len(self.counts), text])
            return text

        def shown(item, include=None, exclude=None):
            bundle = show(item, include, exclude)
            if genuine(item):
                data = bundle[0] if isinstance(bundle, tuple) else bundle
                self.shown.append([len(self.counts), digest(data)])
                self.shown_lines.setdefault(id(item), []).append(digest(data))
            return bundle

        kind._repr_mimebundle_, kind.__repr__ = shown, spoken

    # Telling

    def ended(self, result):
        """After each cell: what of the package is no longer what it was after its import."""
        for owner, before in self.held.items():
            now = _contents(owner)
            for key in sorted({*before, *now} - PYTHON_MAKES):
                a, b = before.get(key, []), now.get(key, [])
                if _same(a, b[:1] if len(a) == 1 else b) or _is_module(b):
                    continue
                path = [getattr(owner, "__module__", None), owner.__name__, key]
                self.altered.append([len(self.counts), ".".join(filter(None, path))])
                before[key] = b
        self.counts.append(result.execution_count)

    def owed(self):
        """What must be shown: the end of each chain, and each line on which another chain rests.

        Of the latter it is enough that another line of the same chain is shown: a page refers to
        both by one label.
        """
        before = {id(line.previous) for _, line, _ in self.lines}
        used = {id(u) for _, line, _ in self.lines for u in line.uses}
        for cell, line, derived in self.lines:
            related = [line]
            if id(line) in used:
                related += [*line.lines, *(one for _, one, _ in self.lines if line in one.lines)]
            elif not derived or id(line) in before:
                continue
            digests = [d for one in related for d in self.shown_lines.get(id(one), [])]
            yield [cell, line.label, digests, "" if digests else repr(line)]

    @property
    def found(self):
        names = ("checks", "shown", "spoken", "refused", "altered")
        told = {name: [*getattr(self, name)] for name in names}  # what follows speaks, too
        told["lines"] = list(self.owed())
        told = {k: [[self.counts[n], *rest] for n, *rest in v] for k, v in told.items()}
        missing = sorted(set(HOOKS) - set(self.hooked)) if PACKAGE in sys.modules else []
        return json.dumps(told | {"missing": missing})


def _called_from(code, frame):
    """Whether this code called, itself or through other code of the package."""
    while frame and inside(frame):
        if frame.f_code is code:
            return True
        frame = frame.f_back
    return False


def _same(facts, before):
    """Whether two lists hold the very same objects, and equal texts."""
    if len(facts) != len(before):
        return False
    pairs = zip(facts, before, strict=True)
    return all(a is b or (isinstance(a, str) and a == b) for a, b in pairs)


def _is_module(held):
    """Whether this is a module of the package that was imported later, no alteration."""
    return bool(held) and isinstance(held[0], ModuleType)


def _contents(owner):
    """What a module or a class holds, by name, and what is in its tables.

    A table that is empty after the import is a cache, and may grow; so is the list of slots that
    pickling and copying leave on a class.
    """
    found = {key: [value] for key, value in vars(owner).items() if key != "__slotnames__"}
    for key, (value,) in found.items():
        if isinstance(value, dict | list | set) and not key.startswith("__"):
            found[key] += [*value, *(value.values() if isinstance(value, dict) else ())]
    return found


def _text_of(check):
    return [type(check).__name__, json.dumps(check.record, sort_keys=True)]


def _checks_of(item):
    return getattr(item, "checks", (item,))


def _fields(item):
    return [type(item), *(getattr(item, name) for name in type(item).__dataclass_fields__)]


def _rests_on(line):
    """A line, all before it, and all that they use."""
    found, todo = {}, [line]
    while todo:
        one = todo.pop()
        if id(one) not in found:
            found[id(one)] = one
            todo += [*one.uses, *([one.previous] if one.previous else [])]
    return list(found.values())


def begin(shell):
    """Install the register in this kernel."""
    recorder = Recorder()
    sys.meta_path.insert(0, recorder)
    shell.events.register("post_run_cell", recorder.ended)
    return recorder

"""Tests as TAP: each function decorated with @test is one subtest; run() prints plan and results.

A test that needs something of the host calls need("userns", condition): a missing one is a named skip, or
a failure when WABE_MUST_HAVE names it."""
import os
import sys
import traceback

_tests = []
LONG = bool(os.environ.get("WABE_TEST_LONG"))  # what takes minutes, too: suite "long"


class Skip(Exception):
    pass


def test(fn):
    _tests.append(fn)
    return fn


def need(what, present):
    if present:
        return
    if what in os.environ.get("WABE_MUST_HAVE", "").split(","):
        raise AssertionError(f"{what} is missing, and WABE_MUST_HAVE names it")
    raise Skip(f"{what} is missing on this host")


def note(text):
    print("# " + str(text).replace("\n", "\n# "), flush=True)


def equal(got, wanted, what=""):
    assert got == wanted, f"{what or 'value'}: got {got!r}, wanted {wanted!r}"


def contains(text, part, what=""):
    assert part in text, f"{what or 'text'}: {part!r} is not in {text!r}"


def run(setup=None, teardown=None, after=None):
    """setup() gives an object that each test gets; after(object) runs after each test, teardown(object) at the end,
    whatever happens."""
    chosen = [t for t in _tests if not sys.argv[1:] or t.__name__ in sys.argv[1:]]
    print(f"1..{len(chosen)}", flush=True)
    failed = 0
    context = setup() if setup else None
    try:
        for number, fn in enumerate(chosen, 1):
            title = (fn.__doc__ or fn.__name__).strip().splitlines()[0].replace("#", "")
            try:
                fn(context) if setup else fn()
                print(f"ok {number} - {title}", flush=True)
            except Skip as why:
                print(f"ok {number} - {title} # SKIP {why}", flush=True)
            except BaseException as e:
                failed += 1
                print(f"not ok {number} - {title}", flush=True)
                note(traceback.format_exc())
                if isinstance(e, KeyboardInterrupt):
                    break
            if after:
                after(context)
    finally:
        if teardown:
            teardown(context)
    sys.exit(1 if failed else 0)

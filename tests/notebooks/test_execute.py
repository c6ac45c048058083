"""What a canonical run shares with those of other machines."""

import os

import pytest
from notebooks.compiled import FOLDER, QUICKLY
from notebooks.execute import _environment, same_instructions


def test_processors_with_avx2_use_it_and_nothing_newer(tmp_path):
    about = tmp_path / "cpuinfo"
    about.write_text("flags : fpu avx avx2 avx512f\n")
    same = same_instructions("--xla_dump_to=x", about)
    assert same == {
        "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
        "OPENBLAS_CORETYPE": "Haswell",
        "XLA_FLAGS": "--xla_dump_to=x --xla_cpu_max_isa=AVX2",
    }
    assert same_instructions("", about)["XLA_FLAGS"] == "--xla_cpu_max_isa=AVX2"


@pytest.mark.parametrize("text", ["flags : fpu avx\n", "Features : fp asimd\n", None])
def test_others_keep_what_they_have(tmp_path, text):
    about = tmp_path / "cpuinfo"
    if text is not None:
        about.write_text(text)
    assert same_instructions("", about) == {}


def test_a_run_is_compiled_as_users_do_whatever_the_tests_set(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", QUICKLY)
    quick, plain = _environment("home", "cpu", None), same_instructions()
    assert quick["XLA_FLAGS"] == plain.get("XLA_FLAGS", "")
    monkeypatch.setenv("XLA_FLAGS", f"--xla_dump_to=x {QUICKLY}")
    assert "--xla_dump_to=x" in _environment("home", "cpu", None)["XLA_FLAGS"].split()
    assert not set(QUICKLY.split()) & set(_environment("home", "cpu", None)["XLA_FLAGS"].split())


def test_a_run_gets_them_beside_its_own_settings(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=x")
    whole = _environment("home", "cpu", None)
    assert whole["NTKBOOK_SIZE"] == "cpu"
    assert whole["XLA_FLAGS"].startswith("--xla_dump_to=x")
    assert whole.items() >= same_instructions(os.environ["XLA_FLAGS"]).items()


def test_two_runs_do_not_keep_programs_in_one_folder(monkeypatch, tmp_path):
    monkeypatch.setenv(FOLDER, str(tmp_path))
    assert FOLDER not in _environment("home", "cpu", None)
    assert _environment("home", "cpu", tmp_path / "own")[FOLDER] == str(tmp_path / "own")

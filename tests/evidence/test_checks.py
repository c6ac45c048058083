"""A check passes when theory and measurement agree, and could have failed."""

import numpy as np
import pytest

from ntkbook import CheckError, check, report
from ntkbook.evidence.checks import CHECK_MIME

widths = np.array([64, 128, 256, 512, 1024])


def exact(**changes):
    arguments = {"theory": 2.0, "measured": 1.999, "atol": 0.01, "rejects": {"factor 2": 4.0}}
    return check("C01/slope", "slope", **(arguments | changes))


def test_exact():
    result = exact()
    assert (result.theory, result.measured, result.bound) == ("2", "1.999", "within 0.01")


def test_arrays_are_compared_entry_by_entry():
    theory = np.array([1.0, 2.0])
    exact(theory=theory, measured=theory + 0.009, rejects={"swapped": theory[::-1]})
    with pytest.raises(CheckError, match="off by 0.011"):
        exact(theory=theory, measured=theory + [0, 0.011])


def test_violation_names_everything():
    with pytest.raises(CheckError, match="C01/slope: slope: theory 2, measured 2.5: off by 0.5"):
        exact(measured=2.5)


def test_a_bound_that_accepts_a_wrong_theory_is_refused():
    with pytest.raises(CheckError, match="would also accept 'factor 2'"):
        exact(rejects={"factor 2": 2.005})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"measured": np.nan}, "measured must be finite"),
        ({"theory": np.inf}, "theory must be finite"),
        ({"measured": []}, "measured is empty"),
        ({"rejects": {}}, "rejects must name"),
        ({"rejects": {"nan": np.nan}}, "finite"),
        ({"atol": 0.0}, "declare a bound"),
        ({"atol": -1.0}, "nonnegative"),
        ({"atol": np.nan}, "nonnegative"),
        ({"atol": 2.0}, "vacuous"),
        ({"atol": 0.0, "rtol": 1.0}, "vacuous"),
        ({"theory": 0.0, "measured": 0.0}, "give scale="),
        ({"theory": [2.0, 2.0]}, "shape"),
        ({"rejects": {"other shape": [1.0, 2.0]}}, "shape"),
        ({"x": widths}, "scaling"),
        ({"standard_error": 0.1}, "statistical"),
        ({"kind": "approximate"}, "kind must be"),
        ({"kind": "statistical", "atol": 0.0}, "standard_error goes with"),
        ({"kind": "statistical", "standard_error": 0.1}, "don't belong here"),
        ({"kind": "statistical", "atol": 0.0, "standard_error": 0.0}, "positive"),
        ({"kind": "scaling"}, "x goes with kind 'scaling'"),
        ({"kind": "scaling", "rtol": 0.1}, "slope by atol"),
        ({"norm": "mean"}, "norm must be 'max' or None"),
        ({"scale": -1.0}, "scale must be finite and positive"),
        ({"atol": 1.001}, "half of 2 is the most"),
    ],
)
def test_vacuous_or_malformed_checks_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        exact(**changes)


@pytest.mark.parametrize("claim", ["C1/slope", "C01", "C01/Slope", "slope"])
def test_bad_claim_id(claim):
    with pytest.raises(ValueError, match="claim must look like"):
        check(claim, "", theory=1.0, measured=1.0, atol=0.1, rejects={"two": 2.0})


def test_theory_is_not_measurement():
    value = np.array([1.0, 2.5])
    for measured in (value, value.copy(), value + 0.0):
        with pytest.raises(ValueError, match="to the last bit"):
            exact(theory=value, measured=measured)
    exact(theory=value, measured=value.copy(), identical=True)


@pytest.mark.parametrize("bad", [1 + 2j, "2.0", True, np.ma.array([1.0], mask=[True]), None])
def test_only_real_numbers_are_compared(bad):
    with pytest.raises(ValueError, match="measured must"):
        exact(measured=bad)


def test_the_margin_of_a_wrong_theory_is_recorded():
    result = exact(rejects={"close": 2.03, "far": 40.0})
    assert result.margins == ("3.1", ">99")
    assert result.record["wrong"] == ["2.03", "40"]
    assert "close (3.1×)" in repr(result)


def test_scale_counts_where_the_theory_is_zero_only():
    with pytest.raises(ValueError, match="vacuous"):
        exact(theory=1.0, measured=100.0, atol=200.0, scale=1e9, rejects={"far": 1e6})
    with pytest.raises(ValueError, match="scale must be finite"):
        exact(theory=0.0, measured=0.0, scale=np.inf)
    with pytest.raises(ValueError, match="theory is zero in 1 of 2 entries; give scale="):
        exact(theory=[2.0, 0.0], measured=[1.999, 0.001])
    exact(theory=[2.0, 0.0], measured=[1.999, 0.001], scale=0.5)


def test_no_entry_may_be_vacuous():
    error = np.array([0.01, 1e3, 1e3])
    with pytest.raises(ValueError, match="vacuous"):
        exact(
            theory=np.ones(3),
            measured=np.array([1.0, 90, -80]),
            atol=0.0,
            kind="statistical",
            standard_error=error,
            rejects={"two": 2.0},
        )


def test_small_entries_have_bounds_of_their_own():
    spectrum = np.array([100, 1, 0.01])
    arguments = {"theory": spectrum, "atol": 0.0, "rejects": {"doubled": 2 * spectrum}}
    with pytest.raises(CheckError, match="off by 0.5"):
        exact(measured=np.array([100.2, 1.3, 0.51]), rtol=0.005, **arguments)
    held_to_the_largest = exact(
        measured=np.array([100.2, 1.3, 0.51]), rtol=0.005, norm="max", **arguments
    )
    assert held_to_the_largest.bound == "within 0.005 of the largest"
    with pytest.raises(ValueError, match="vacuous in 1 of 3 entries: 0.01 is allowed"):
        exact(theory=spectrum, measured=spectrum + 1e-4, rejects={"doubled": 2 * spectrum})


def test_arrays_show_their_largest_deviation_beside_what_is_allowed():
    theory = np.array([1.0, 2.0, 4.0])
    arguments = {"theory": theory, "rejects": {"doubled": 2 * theory}, "atol": 0.0}
    result = exact(measured=theory + [0, -0.015, 0.005], rtol=0.01, **arguments)
    assert result.measured == "off by at most 0.015, 0.02 allowed (3 values)"
    close = exact(measured=theory + [0, 1e-5, 0], rtol=0.01, **arguments)
    assert close.measured == "off by less than a tenth of the 0.04 allowed (3 values)"
    for noise in ([3e-12, 0, 0], [0, 0, 3e-11]):
        rounding = exact(measured=theory + noise, rtol=1e-11, **arguments)
        assert rounding.measured == "off by less than the 4e-11 allowed (3 values)"


def test_statistical():
    arguments = {"kind": "statistical", "theory": 0.0, "scale": 1.0, "rejects": {"biased": 0.5}}
    check("C02/mean", "mean", measured=0.039, standard_error=0.01, **arguments)
    with pytest.raises(CheckError):
        check("C02/mean", "mean", measured=0.041, standard_error=0.01, **arguments)


def test_scaling():
    arguments = {"kind": "scaling", "theory": -0.5, "atol": 0.1, "rejects": {"no decay": 0.0}}
    result = check("C11/offdiag", "slope", x=widths, measured=3 / np.sqrt(widths), **arguments)
    assert result.measured == "-0.5 (halves -0.5 and -0.5)"
    with pytest.raises(CheckError):
        check("C11/offdiag", "slope", x=widths, measured=3 / widths, **arguments)
    for x, y, message in [
        (widths[:4], 1 / widths[:4], "at least 5"),
        (np.repeat(widths[:3], 3), 1 / np.repeat(widths[:3], 3), "at least 5"),
        (widths, -1.0 / widths, "positive"),
    ]:
        with pytest.raises(ValueError, match=message):
            check("C11/offdiag", "slope", x=x, measured=y, **arguments)


@pytest.mark.parametrize(
    ("law", "slope", "atol", "message"),
    [
        (lambda x: np.where(x < 181, x**2, 181.0**2), 1.0, 0.1, "scatter|no one power law"),
        (lambda x: 1 / x + 1 / 256, -0.33, 0.15, "no one power law"),
        (lambda x: x**-0.5 * 4.0 ** np.cos(x), -0.5, 0.2, "scatter too much"),
    ],
)
def test_what_is_no_power_law_has_no_slope(law, slope, atol, message):
    with pytest.raises((CheckError, ValueError), match=message):
        check(
            "C11/law",
            "law",
            kind="scaling",
            theory=slope,
            measured=law(widths.astype(float)),
            x=widths,
            atol=atol,
            rejects={"another": 3.0},
        )


def test_a_scaling_law_needs_a_decade_or_a_reason():
    x = np.linspace(1.5, 2.5, 9)
    arguments = {"kind": "scaling", "theory": 2.0, "atol": 0.1, "rejects": {"linear": 1.0}}
    with pytest.raises(ValueError, match="needs x over a decade, not 1.67-fold"):
        check("C11/law", "law", x=x, measured=x**2, **arguments)
    why = "larger ones don't fit into memory"
    assert why in check("C11/law", "law", x=x, measured=x**2, because=why, **arguments).bound


def test_a_loose_bound_says_why():
    arguments = {"kind": "bound", "theory": 1e3, "measured": 1.0, "rejects": {"half": 0.5}}
    with pytest.raises(ValueError, match="at most 0.001 of the bound is reached"):
        check("C52/bound", "bound", **arguments)
    assert check("C52/bound", "bound", because="a union bound", **arguments).bound == (
        "not above theory; a union bound"
    )
    with pytest.raises(ValueError, match="vacuous"):
        check("C52/bound", "bound", rtol=1e3, **arguments)


def test_bound():
    upper = np.exp(-widths / 100)
    arguments = {"kind": "bound", "theory": upper, "rejects": {"rate doubled": upper**2}}
    result = check("C22/decay", "loss", measured=0.9 * upper, **arguments)
    assert result.measured == "at most 0.9 of it"
    with pytest.raises(CheckError):
        check("C22/decay", "loss", measured=1.001 * upper, **arguments)
    check("C22/decay", "loss", measured=1.001 * upper, rtol=0.01, **arguments)
    tail = upper + 0.001 * upper[0]
    with pytest.raises(CheckError):  # the slack follows the bound down
        check("C22/decay", "loss", measured=tail, rtol=0.01, **arguments)


def test_rounding_noise_never_reaches_the_record():
    shown = {
        exact(theory=0.0, scale=1.0, atol=1e-10, measured=noise, rejects={"one": 1.0}).measured
        for noise in (3e-16, -2e-17, 0.0)
    }
    assert shown == {"0"}
    wrong = {
        exact(theory=[1.0, 2.0], measured=[1.001, 2.001], rejects={"one": [noise, 1.0]}).wrong
        for noise in (3e-16, -2e-17)
    }
    assert wrong == {("0 … 1 (2 values)",)}


def test_display():
    table = report(exact(), exact(rejects={"sign": -2.0, "factor 2": 4.0}))
    bundle = table._repr_mimebundle_()
    assert bundle["text/markdown"].count("\n") == 3
    assert "C01/slope" in bundle["text/plain"]
    assert [row["verdict"] for row in bundle[CHECK_MIME]] == ["pass", "pass"]
    assert bundle[CHECK_MIME][1]["rejects"] == ["sign", "factor 2"]
    assert exact()._repr_mimebundle_()[CHECK_MIME] == [exact().record]
    with pytest.raises(TypeError, match="report takes checks"):
        report("C01")

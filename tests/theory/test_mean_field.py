"""Order and chaos against mpmath, closed forms and published critical points."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

import ntkbook as ntk
from ntkbook import (
    Abs,
    Cos,
    Elementwise,
    Erf,
    Exp,
    Gelu,
    LeakyRelu,
    Polynomial,
    Relu,
    Sin,
    Tanh,
    chi,
    correlation_map,
    critical_line,
    critical_point,
    end_point,
    fixed_points,
    half_stable_points,
    mean_field,
    variance_map,
)

SILU = Elementwise(jax.nn.silu, name="silu")


def expectation(f, q):
    """E[f(√q z)] by mpmath."""
    with mp.workdps(25):
        weight = 1 / mp.sqrt(2 * mp.pi)
        return weight * mp.quad(
            lambda z: f(mp.sqrt(q) * z) * mp.exp(-z * z / 2), [-14, -4, -1, 0, 1, 4, 14]
        )


def erf_point(w_var, b_var, near):
    """q*, and c* below one if there is one, of erf, to 25 digits."""
    with mp.workdps(25):
        w_var, b_var = mp.mpf(w_var), mp.mpf(b_var)

        def kernel(q, c):
            return 2 * w_var / mp.pi * mp.asin(2 * q * c / (1 + 2 * q)) + b_var

        q = mp.findroot(lambda q: kernel(q, 1) - q, near)
        c = mp.findroot(lambda c: (kernel(q, c) / q - c) / (1 - c), 0.6)
        slope = 4 * w_var / mp.pi / mp.sqrt((1 + 2 * q) ** 2 - 4 * q * q * c * c)
        return q, c, 4 * w_var / mp.pi / mp.sqrt(1 + 4 * q), slope


def test_maps_agree_with_integrals():
    q, w_var, b_var = 0.7, 1.9, 0.3
    square = expectation(lambda z: mp.tanh(z) ** 2, q)
    slope = expectation(lambda z: mp.sech(z) ** 4, q)
    after = float(w_var * square + b_var)
    np.testing.assert_allclose(variance_map(Tanh(), q, w_var=w_var, b_var=b_var), after, rtol=1e-13)
    np.testing.assert_allclose(chi(Tanh(), q=q, w_var=w_var), float(w_var * slope), rtol=1e-13)
    kept = variance_map(Tanh(), q, w_var=w_var, b_var=b_var, keep=0.8)
    np.testing.assert_allclose(kept, float(w_var * square / 0.8 + b_var), rtol=1e-13)
    c = jnp.array([-1.0, -0.3, 0.4, 1.0])
    maps = {"q": q, "w_var": w_var, "b_var": b_var}
    erf = 2 * w_var / np.pi * np.arcsin(2 * q * np.asarray(c) / (1 + 2 * q)) + b_var
    diagonal = 2 * w_var / np.pi * np.arcsin(2 * q / (1 + 2 * q))
    np.testing.assert_allclose(
        correlation_map(Erf(), c, **maps), erf / (diagonal + b_var), rtol=1e-13
    )
    np.testing.assert_allclose(
        correlation_map(Erf(), c, **maps, keep=0.9), erf / (diagonal / 0.9 + b_var), rtol=1e-13
    )


def test_the_slope_is_the_derivative_of_the_map_at_a_stationary_variance():
    point = {"w_var": 1.5, "b_var": 0.05}
    q = float(mean_field(Erf(), **point).q)
    c = jnp.array([-0.6, 0.1, 0.8])
    slopes = jax.vmap(jax.grad(lambda c: correlation_map(Erf(), c, q=q, **point)))(c)
    np.testing.assert_allclose(slopes, chi(Erf(), c, q=q, w_var=1.5), rtol=1e-12)
    assert jax.jit(lambda q: variance_map(Erf(), q, **point))(q) == pytest.approx(q, rel=1e-14)


@pytest.mark.parametrize(("w_var", "near"), [(1.5, 0.6), (2.5, 1.35), (1.4, 0.53)])
def test_the_chaotic_fixed_point_to_all_digits(w_var, near):
    q, c, chi_1, chi_star = erf_point(w_var, 0.05, near)
    field = mean_field(Erf(), w_var=w_var, b_var=0.05)
    for name, value in (("q", q), ("correlation", c), ("chi_1", chi_1), ("chi_star", chi_star)):
        np.testing.assert_allclose(getattr(field, name), float(value), rtol=1e-13, err_msg=name)
    np.testing.assert_allclose(1 - field.correlation, float(1 - c), rtol=1e-11)
    np.testing.assert_allclose(field.xi_star, float(-1 / mp.log(chi_star)), rtol=1e-11)
    np.testing.assert_allclose(field.xi_1, float(1 / mp.log(chi_1)), rtol=1e-11)
    assert field.phase == 1


def test_the_ordered_phase_and_the_published_depth_scales():
    field = mean_field(Erf(), w_var=jnp.array([1.25, 1.5, 2.5]), b_var=0.05)
    np.testing.assert_allclose(field.q, [0.435166, 0.601753, 1.352681], atol=6e-7)
    np.testing.assert_allclose(field.correlation, [1, 0.820530, 0.273536], atol=6e-7)
    np.testing.assert_allclose(field.chi_1, [0.961374, 1.034700, 1.257177], atol=6e-7)
    np.testing.assert_allclose(field.xi_star, [25.39, 32.34, 7.600], atol=6e-3)
    assert field.correlation[0] == 1
    assert field.phase.tolist() == [-1, 1, 1]


CRITICAL = {
    (Tanh(), 0.05): (1.76095464, 0.57004788),
    (Tanh(), 0.1): (1.98607264, 0.80579918),
    (Tanh(), 0.2): (2.28515247, 1.16449629),
    (Erf(), 0.05): (1.37583901, 0.51717684),
    (Erf(), 0.1): (1.55211786, 0.72635923),
    (Erf(), 0.18): (1.74760375, 0.98778775),
}


@pytest.mark.parametrize(("at", "expected"), CRITICAL.items(), ids=str)
def test_critical_points(at, expected):
    activation, b_var = at
    point = critical_point(activation, b_var=b_var)
    np.testing.assert_allclose([point.w_var, point.q], expected, atol=6e-9)
    assert mean_field(activation, w_var=point.w_var, b_var=b_var).phase == 0


def test_critical_point_of_tanh_by_quadrature_in_mpmath():
    with mp.workdps(20):

        def off(q):
            gain = 1 / expectation(lambda z: mp.sech(z) ** 4, q)
            return q - gain * expectation(lambda z: mp.tanh(z) ** 2, q) - mp.mpf("0.05")

        q = mp.findroot(off, (0.56, 0.58), tol=1e-16)
        w_var = 1 / expectation(lambda z: mp.sech(z) ** 4, q)
    point = critical_point(Tanh(), b_var=0.05)
    np.testing.assert_allclose([point.q, point.w_var], [float(q), float(w_var)], rtol=1e-11)


def test_the_whole_line_of_erf_in_closed_form():
    q = jnp.array([0.0, 1e-6, 0.5, 20.0])
    line = critical_line(Erf(), q)
    np.testing.assert_allclose(line.w_var, np.pi / 4 * np.sqrt(1 + 4 * q), rtol=1e-14)
    b_var = q - 0.5 * np.sqrt(1 + 4 * q) * np.arcsin(2 * q / (1 + 2 * q))
    np.testing.assert_allclose(line.b_var, b_var, atol=1e-14)
    again = critical_point(Erf(), b_var=line.b_var[2])
    np.testing.assert_allclose([again.w_var, again.q], [line.w_var[2], 0.5], rtol=1e-12)


def test_half_stable_points():
    gelu, silu = half_stable_points(Gelu()), half_stable_points(SILU)
    np.testing.assert_allclose(gelu.q, [0, (3 + np.sqrt(17)) / 2], rtol=1e-12)
    np.testing.assert_allclose(gelu.w_var, [4, 1.9830582574], rtol=1e-10)
    np.testing.assert_allclose(gelu.b_var, [0, 0.1729223908], rtol=1e-9)
    # By mpmath to 25 digits: the root of E[zφφ']/q = E[φ'²].
    np.testing.assert_allclose(silu.q, [0, 14.3201736180257988], rtol=1e-12)
    np.testing.assert_allclose(silu.w_var, [4, 1.98800467826949200], rtol=1e-13)
    np.testing.assert_allclose(silu.b_var, [0, 0.555143170721530396], rtol=1e-11)
    assert half_stable_points(Tanh()).q.tolist() == [0]
    at = fixed_points(Gelu(), w_var=gelu.w_var[1], b_var=gelu.b_var[1])
    assert at.stability == ("stable", "half-stable")
    np.testing.assert_allclose(at.q[1], gelu.q[1], rtol=1e-7)  # of a double root
    np.testing.assert_allclose(at.slope[1], 1, rtol=1e-12)


def test_end_points():
    for activation, w_var, limit in ((Erf(), np.pi / 4, 0.5), (Tanh(), 1, 0.5), (Sin(), 1, 1)):
        end = end_point(activation)
        np.testing.assert_allclose(
            [end.w_var, end.variance, end.diagonal], [w_var, limit, limit], rtol=1e-14
        )
        np.testing.assert_allclose(critical_line(activation, 0.0).w_var, w_var, rtol=1e-14)
        at = fixed_points(activation, w_var=end.w_var, b_var=0.0)
        assert at.q.tolist() == [0]
        assert at.stability == ("stable",)
        assert critical_point(activation, b_var=0.0).q == 0
    skew = Polynomial((0, 2, 0.5, -1))  # r_2 = 1/2, r_3 = -3
    end = end_point(skew)
    np.testing.assert_allclose([1 / end.variance, 1 / end.diagonal], [3 - 3 / 16, 3 - 1 / 4])
    with pytest.raises(ValueError, match="drives signals away"):
        end_point(Gelu())
    for third in (-0.8, -1.0):  # γ = -0.2 and 0, and β > 0
        with pytest.raises(ValueError, match="γ = .*grows without bound"):
            end_point(Polynomial((0, 1, 0.5, third / 6)))
    for refused in (Relu(), Cos(), Exp()):
        with pytest.raises(ValueError, match="smooth at zero"):
            end_point(refused)


def test_all_fixed_points_and_their_stability():
    def of(activation, w_var, b_var, keep=1.0):
        found = fixed_points(activation, w_var=w_var, b_var=b_var, keep=keep)
        after = variance_map(activation, found.q, w_var=w_var, b_var=b_var, keep=keep)
        np.testing.assert_allclose(after, found.q, rtol=1e-13)
        return found

    assert of(Erf(), 1.5, 0.0).stability == ("unstable", "stable")
    assert of(Erf(), 1.5, 0.05).stability == ("stable",)
    line = of(LeakyRelu(0.5), 1.0, 0.3)
    np.testing.assert_allclose([line.q, line.slope], [[0.8], [0.625]], rtol=1e-14)
    np.testing.assert_allclose(of(Relu(), 1.0, 0.25, keep=0.625).q, 1.25, rtol=1e-14)
    # z + z³ has V = a (q + 6 q² + 15 q³) + b: roots of a cubic.
    cubic = of(Polynomial((0, 1, 0, 1)), 0.5, 0.01)
    roots = np.roots([7.5, 3, -0.5, 0.01])
    np.testing.assert_allclose(cubic.q, np.sort(roots[roots > 0]), rtol=1e-12)
    assert cubic.stability == ("stable", "unstable")
    growing = of(Exp(), 0.1, 0.0)  # 0.1 exp(2q) = q, by Lambert's W
    roots = [float(-mp.lambertw(-0.2, k).real / 2) for k in (0, -1)]
    np.testing.assert_allclose(growing.q, roots, rtol=1e-12)
    assert of(Cos(), 9.0, 0.0).slope[0] > -0.5  # so that no variance alternates


def test_dropout_destroys_the_fixed_point_at_one():
    point, keep = critical_point(Erf(), b_var=0.05), 1 - 10.0 ** -np.arange(2, 6)
    field = mean_field(Erf(), w_var=point.w_var, b_var=0.05, keep=keep)
    assert (field.correlation < 1).all()
    np.testing.assert_allclose(field.xi_star, [13.797, 41.227, 127.434, 399.898], atol=6e-4)
    again = correlation_map(
        Erf(), field.correlation, q=field.q, w_var=point.w_var, b_var=0.05, keep=keep
    )
    np.testing.assert_allclose(1 - again, 1 - field.correlation, rtol=1e-10)


def test_nine_hundred_points_agree_with_iteration():
    w_var, b_var = jnp.meshgrid(jnp.linspace(0.5, 4, 30), jnp.linspace(0, 0.5, 30))
    field = mean_field(Erf(), w_var=w_var, b_var=b_var)
    assert field.q.shape == (30, 30)
    q, c = 1.0 + 0 * w_var, 0.3 + 0 * w_var
    for _ in range(3000):
        kernel = 2 * w_var / np.pi * np.arcsin(2 * q * c / (1 + 2 * q)) + b_var
        q = 2 * w_var / np.pi * np.arcsin(2 * q / (1 + 2 * q)) + b_var
        c = kernel / q
    settled = (np.abs(field.chi_1 - 1) > 0.02) & (field.q > 0)
    np.testing.assert_allclose(field.q[settled], np.asarray(q)[settled], rtol=1e-10)
    np.testing.assert_allclose(field.correlation[settled], np.asarray(c)[settled], atol=1e-8)


def test_scale_invariance_keeps_the_start():
    field = mean_field(Relu(), w_var=2.0, b_var=0.0, start=0.37)
    assert (field.q, field.correlation, field.phase) == (0.37, 1, 0)
    assert np.isinf(field.xi_star)


def test_angles_do_not_decay_where_the_signal_dies_out():
    field = mean_field(Erf(), w_var=jnp.array([0.5, np.pi / 4]), b_var=0.0)
    assert field.q.tolist() == [0, 0]
    assert np.isinf(field.xi_star).all()
    np.testing.assert_allclose(field.chi_1, [2 / np.pi, 1], rtol=1e-14)
    deep = ntk.deep_signal(Erf(), 0.5, [100, 200], w_var=0.5, b_var=0.0, q=1.0)
    assert abs(deep.gap[1] - deep.gap[0]) < 1e-15 < abs(deep.gap[0] - 0.5)


def test_results_are_float64_also_without_x64():
    with jax.enable_x64(False):
        field = mean_field(Erf(), w_var=1.5, b_var=0.05)
        point = critical_point(Erf(), b_var=0.05)
    assert field.q.dtype == np.float64
    np.testing.assert_allclose(point.q, 0.51717684, atol=6e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fixed_points(Relu(), w_var=2.0, b_var=0.1), "grows without bound"),
        (lambda: fixed_points(Relu(), w_var=2.0, b_var=0.0), "each one stays"),
        (lambda: mean_field(Relu(), w_var=2.5, b_var=0.1), "grows without bound"),
        (lambda: mean_field(Relu(), w_var=2.5, b_var=0.0), "grows without bound"),
        (lambda: critical_point(Relu(), b_var=0.1), "no variance is stationary"),
        (lambda: half_stable_points(Abs()), "each variance is one"),
        (lambda: critical_point(Erf(), b_var=-0.1), "b_var must not be negative"),
        (lambda: variance_map(Erf(), -1.0, w_var=1, b_var=0), "q must not be negative"),
        (lambda: variance_map(Erf(), jnp.nan, w_var=1, b_var=0), "q must be finite"),
        (lambda: mean_field(Erf(), w_var=1, b_var=0, keep=1.5), "keep must be a probability"),
        (
            lambda: correlation_map(Erf(), 1.5, q=1, w_var=1, b_var=0),
            r"correlation must be in \[-1, 1\]",
        ),
        (
            lambda: mean_field(
                Elementwise(lambda z: jnp.maximum(z, 1), "bent"), w_var=0.5, b_var=0.1
            ),
            "smooth but for a kink at zero",
        ),
    ],
)
def test_what_has_no_answer_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_what_is_no_activation_is_refused():
    for call in (
        lambda: mean_field(jnp.tanh, w_var=1.0, b_var=0.0),
        lambda: critical_line(ntk.Dense(3), 1.0),
    ):
        with pytest.raises(TypeError, match="activation must be one of a layer"):
            call()

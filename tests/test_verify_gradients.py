"""The witnesses of gradients on functions whose derivatives are known, and checks on planted faults. Share: 0.2 s."""
import numpy as np
import pytest

from npdvae.verify import check_adjoint, check_gradient
from npdvae.verify.gradients import complex_step, dot_test, finite_differences, witnesses

X = np.array([[0.3, -2.5], [0.0, 10.0]])


def outer(x):
    """[2, 2] -> [3, 2]: the squares of the first column, products, powers of five."""
    return np.stack([x[:, 0] ** 2, x[:, 0] * x[::-1, 1], x[:, 1] ** 5 / 100])


def jacobian(x):
    """d outer[r, i] / d x[j, c]: [3, 2, 2, 2]."""
    found = np.zeros((3, 2, 2, 2))
    for i in range(2):
        found[0, i, i, 0] = 2 * x[i, 0]
        found[1, i, i, 0] = x[1 - i, 1]
        found[1, i, 1 - i, 1] = x[i, 0]
        found[2, i, i, 1] = x[i, 1] ** 4 / 20
    return found


@pytest.mark.parametrize("witness, tolerance", [(complex_step, 1e-15), (finite_differences, 1e-9)])
def test_a_witness_gives_the_jacobian_with_the_functions_axes_first(witness, tolerance):
    found = witness(outer, X)
    assert found.shape == (3, 2, 2, 2)
    assert np.abs(found - jacobian(X)).max() <= tolerance * np.abs(jacobian(X)).max()


@pytest.mark.parametrize("witness", [complex_step, finite_differences])
def test_a_witness_takes_one_number_and_whole_numbers(witness):
    assert abs(witness(lambda x: x[0] ** 2, np.array([3]))[0] - 6) <= 1e-9
    assert witness(lambda x: x ** 2, np.array(3.0)).shape == ()


@pytest.mark.parametrize("x", [-4.0, -0.25, 0.0, 0.5, 3.0])
def test_finite_differences_are_of_fourth_order_with_a_step_in_proportion(x):
    """On x^5 the rule is off by -4 step^4, on lower powers by nothing; the step is h max(1, |x|)."""
    step = 0.125 * max(1.0, abs(x))
    found = finite_differences(lambda v: v ** np.arange(6.0), np.array([x]), h=0.125)[:, 0]
    exact = np.array([n * x ** (n - 1) if n else 0.0 for n in range(6)])
    assert np.abs(found - exact - [0, 0, 0, 0, 0, -4 * step ** 4]).max() <= 1e-12 * max(1, x ** 4)


def test_finite_differences_stay_within_two_steps():
    seen = []
    finite_differences(lambda v: seen.append(v[0]) or v[0], np.array([2.0]))
    assert np.abs(np.array(seen) - [1.996, 1.998, 2.002, 2.004]).max() <= 1e-15


@pytest.mark.parametrize("factor, gap", [(1, 0), (2, 1 / 10), (0.5, 0.5 / 5), (-1, 2 / 5), (0, 1 / 5)])
def test_the_dot_tests_gap_is_relative_to_the_absolute_products(factor, gap):
    """f(x) = x: <v, u> = 3 - 2 against factor <v, u>, on the scale of 3 + 2 or of factor times that."""
    u, v = np.array([1.0, 2.0]), np.array([3.0, -1.0])
    assert abs(dot_test(lambda x: x, lambda dy: factor * dy, np.array([0.7, 0.1]), u, v) - gap) <= 1e-15


def test_the_dot_test_steps_along_u_at_x():
    x, u, v = np.array([2.0, -1.0]), np.array([0.5, 3.0]), np.array([1.0, 2.0])
    assert dot_test(lambda x: x ** 3, lambda dy: 3 * x ** 2 * dy, x, u, v) <= 1e-15
    assert dot_test(lambda x: x ** 3, lambda dy: 3 * dy, x, u, v) > 0.1
    assert dot_test(lambda x: 0 * x, lambda dy: 0 * dy, x, u, v) == 0   # nothing against nothing agrees


def backward(dy):
    """The adjoint of `outer` at X."""
    return np.tensordot(dy, jacobian(X), 2)


def changed(where, by):
    """`backward` with one entry of the Jacobian changed."""
    wrong = jacobian(X)
    wrong[where] = by(wrong[where])
    return lambda dy: np.tensordot(dy, wrong, 2)


def test_a_right_backward_and_a_right_gradient_pass():
    for analytic, finite in ((True, True), (True, False), (False, True)):
        check_adjoint(outer, backward, X, analytic=analytic, finite=finite)
        check_gradient(lambda x: (x ** 3).sum(), lambda x: 3 * x ** 2, X, analytic=analytic, finite=finite)
    check_adjoint(lambda x: 0 * x, lambda dy: 0 * dy, X)            # all zeros: no scale to be relative to
    check_adjoint(lambda x: x.sum(), lambda dy: dy * np.ones(3), [0, 1, 2])     # a list, whole numbers, one output
    check_gradient(lambda x: (x / 2).sum(), lambda x: x / 2 - (x - 1) / 2, [0, 1, 2])


@pytest.mark.parametrize("kind, name", [({"finite": False}, "complex steps"), ({"analytic": False}, "central diff")])
@pytest.mark.parametrize("by", [lambda j: -j, lambda j: 0])
def test_a_wrong_entry_is_named_with_both_numbers(kind, name, by):
    """d outer[1, 0] / d x[0, 0] is x[1, 1] = 10."""
    with pytest.raises(AssertionError) as caught:
        check_adjoint(outer, changed((1, 0, 0, 0), by), X, **kind)
    text = str(caught.value)
    assert text.startswith(f"d f[1, 0] / d x[0, 0]: got {by(10.0):.15g}, {name}") and "\n" not in text
    assert abs(float(text.split(" give ")[1].split(":")[0]) - 10) <= 1e-8       # differences: 1e-9 of 500


@pytest.mark.parametrize("kind, name", [({"finite": False}, "complex steps"), ({"analytic": False}, "central diff")])
@pytest.mark.parametrize("wrong", [-4.0, 0.0, np.nan, np.inf])
def test_a_wrong_entry_of_a_gradient_is_named(kind, name, wrong):
    with pytest.raises(AssertionError, match=rf"^d f / d x\[0, 1\]: got {wrong:.15g}, {name}"):
        check_gradient(lambda x: (x ** 2).sum(), lambda x: [[2 * x[0, 0], wrong]], np.array([[1.0, 2.0]]), **kind)


@pytest.mark.parametrize("kind, tolerance", [
    ({"finite": False}, 1e-12), ({"analytic": False}, 1e-9), ({}, 1e-12), ({"finite": False, "tolerance": 1e-6}, 1e-6),
    ({"analytic": False, "tolerance": 1e-8}, 1e-5)])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_tolerance_is_relative_to_the_largest_entry(kind, tolerance, sign):
    """The largest entry is -10^4 / 20 = -500; the error, in an entry of 0, and the tolerance are in the message."""
    def f(x):
        return -outer(x)

    def off(factor):
        wrong = changed((0, 0, 0, 1), lambda j: sign * factor * tolerance * 500)
        return lambda dy: -wrong(dy)

    check_adjoint(f, off(0.7), X, directions=0, **kind)
    check_gradient(lambda x: 500 * x.sum(), lambda x: np.full(2, 500 * (1 + 0.7 * tolerance)), np.ones(2), **kind)
    with pytest.raises(AssertionError):
        check_gradient(lambda x: 500 * x.sum(), lambda x: np.full(2, 500 * (1 + 1.4 * tolerance)), np.ones(2), **kind)
    with pytest.raises(AssertionError) as caught:
        check_adjoint(f, off(1.4), X, **kind)
    words = str(caught.value).split(": ")[-1].replace(",", "").split()
    assert words[0] == "error" and words[2] == "tolerance" and abs(float(words[3]) / tolerance - 500) <= 3
    assert 1.1 * tolerance * 500 <= float(words[1]) <= 1.7 * tolerance * 500


@pytest.mark.parametrize("kind", [{"finite": False}, {"analytic": False}])
def test_a_backward_that_is_not_linear_fails(kind):
    with pytest.raises(AssertionError, match="a random dy: .* tolerance 1e-12"):
        check_adjoint(outer, lambda dy: backward(dy * np.abs(dy)), X, **kind)   # right for every unit cotangent
    with pytest.raises(AssertionError, match="a random dy: .* error nan"):
        check_adjoint(outer, lambda dy: backward(dy) * (1 if (dy >= 0).all() else np.nan), X, **kind)


@pytest.mark.parametrize("relative", [0.9e-12, 1.2e-12])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_random_cotangent_is_held_to_the_sum_of_absolute_entries(relative, sign):
    """Entries 1 and -3, sum 4: where dy is no unit, backward is off by `relative` times that in one entry."""
    def off(dy):
        units = set(dy.tolist()) <= {0.0, 1.0}
        return dy * [1.0, -3.0] + (0 if units else np.array([0.0, sign * 4 * relative]))

    arguments = (lambda x: x * [1.0, -3.0], off, np.array([0.3, 0.4]))
    check_adjoint(*arguments, analytic=False, tolerance=2e-12)
    if relative < 1e-12:
        check_adjoint(*arguments, analytic=False)
    else:
        with pytest.raises(AssertionError, match=r"a random dy: .* error 1.2e-12, tolerance 1e-12"):
            check_adjoint(*arguments, analytic=False)


def test_the_dot_test_takes_part_where_steps_are_complex():
    """Two branches that agree in every single direction and not in a joint one."""
    def f(x):
        return x * (1 if np.count_nonzero(np.imag(x)) < 2 else 2)

    check_adjoint(f, lambda dy: dy, X, analytic=False)
    with pytest.raises(AssertionError, match="a random dy"):
        check_adjoint(f, lambda dy: dy, X, finite=False)


@pytest.mark.parametrize("directions", [None, 0, 3])
def test_so_many_random_cotangents_are_tried_each_another(directions):
    seen = []
    options = {"analytic": False} if directions is None else {"analytic": False, "directions": directions}
    check_adjoint(lambda x: 2 * x, lambda dy: seen.append(dy) or 2 * dy, np.zeros(4), **options)
    tried = [tuple(dy) for dy in seen[4:]]
    assert len(tried) == (20 if directions is None else directions) == len(set(tried))
    again = []
    check_adjoint(lambda x: 2 * x, lambda dy: again.append(dy) or 2 * dy, np.zeros(4), seed=1, **options)
    assert not tried or tuple(again[4]) != tried[0]


def test_a_gradient_of_another_shape_is_told():
    with pytest.raises(AssertionError, match=r"expected the shape of x, \[2, 3\], got \[3, 2\]"):
        check_adjoint(lambda x: x.T, lambda dy: dy, np.ones((2, 3)))
    with pytest.raises(AssertionError, match=r"expected the shape of x, \[3\], got \[\]"):
        check_gradient(lambda x: x.sum(), lambda x: 1.0, np.ones(3))


def test_a_check_against_nothing_is_refused():
    for check in (check_adjoint, check_gradient):
        with pytest.raises(ValueError, match="nothing to check against"):
            check(lambda x: x.sum(), lambda dy: dy * np.ones(2), np.ones(2), analytic=False, finite=False)


@pytest.mark.parametrize("arguments, message", [
    (dict(tolerance=np.nan), "tolerance must be a positive finite number, got nan"),
    (dict(tolerance=-1e-12), "tolerance"), (dict(tolerance=np.inf), "tolerance"),
    (dict(x=[1.0, np.nan]), r"x must have entries, all finite, got shape \[2\] with 1 that are not"),
    (dict(x=[]), r"x must have entries, all finite, got shape \[0\]$")])
def test_what_allows_no_verdict_is_refused(arguments, message):
    arguments = {"x": np.ones(2), **arguments}
    for check, backward in ((check_adjoint, lambda dy: dy * np.ones(2)), (check_gradient, np.ones_like)):
        with pytest.raises(ValueError, match=message):
            check(lambda x: x.sum(), backward, **arguments)


def test_a_number_of_random_cotangents_is_whole_and_not_negative():
    for directions in (-1, 0.5):
        with pytest.raises(ValueError, match=f"directions must be a whole number, at least 0, got {directions}"):
            check_adjoint(lambda x: x.sum(), lambda dy: dy * np.ones(2), np.ones(2), directions=directions)


def test_each_check_leaves_out_what_it_is_told_to():
    check_adjoint(lambda x: np.array(abs(x[0])), lambda dy: np.array([dy]), np.ones(1), analytic=False)  # not analytic
    with pytest.raises(AssertionError, match="complex steps give 0"):
        check_adjoint(lambda x: np.array(abs(x[0])), lambda dy: np.array([dy]), np.ones(1))
    kink = np.array([1e-3])
    check_adjoint(lambda x: x * (x.real > 0), lambda dy: dy, kink, finite=False)
    with pytest.raises(AssertionError, match="central differences give"):
        check_adjoint(lambda x: x * (x.real > 0), lambda dy: dy, kink)


def test_differences_are_held_to_a_thousandth_of_the_sharpness_of_complex_steps():
    found = list(witnesses(outer, X, True, True))
    assert [(name, factor) for name, _, factor in found] == [("complex steps", 1), ("central differences", 1000)]
    assert [w[0] for w in witnesses(outer, X, False, True)] == ["central differences"]

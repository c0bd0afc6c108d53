"""The witnesses of gradients on functions whose derivatives are known. Share: 0.1 s."""
import numpy as np
import pytest

from npdvae.verify.gradients import complex_step, dot_test, finite_differences

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

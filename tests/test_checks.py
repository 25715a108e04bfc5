import math

import numpy as np
import pytest

from batchlab.checks import positive_number, whole_number


@pytest.mark.parametrize("value", [3, np.int8(3)])
def test_whole_numbers_become_ints(value):
    number = whole_number(value, "n", 0)
    assert number == 3
    assert type(number) is int


@pytest.mark.parametrize("value", [2.5, 3.0, "3", True, None, np.float64(3)], ids=repr)
def test_what_is_not_whole_is_a_type_error(value):
    with pytest.raises(TypeError, match=r"`n` is .*; give a whole number of at least 0\."):
        whole_number(value, "n", 0)


@pytest.mark.parametrize("value", [0, 5])
def test_what_is_out_of_range_is_a_value_error(value):
    with pytest.raises(ValueError, match=rf"`n` is {value}; give a whole number from 1 to 4\."):
        whole_number(value, "n", 1, 4)


def test_positive_numbers_become_floats():
    assert type(positive_number(np.float32(0.5), "rate")) is float
    assert positive_number(2, "rate") == 2


@pytest.mark.parametrize("value", ["0.1", True, None, 1j], ids=repr)
def test_what_is_no_real_number_is_a_type_error(value):
    with pytest.raises(TypeError, match=r"`rate` is .*; give a finite number above 0\."):
        positive_number(value, "rate")


@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan])
def test_what_is_not_above_0_and_finite_is_a_value_error(value):
    with pytest.raises(ValueError, match=rf"`rate` is {value}; give"):
        positive_number(value, "rate")

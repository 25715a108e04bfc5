"""TensorFlow's random numbers, number for number, in operations that XLA compiles well and that many runs can share.

On the processor TensorFlow draws by Philox-4x32-10 (J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel
random numbers: as easy as 1, 2, 3", SC 2011). Within XLA it would draw other numbers, and slowly; `tf.vectorized_map`
has no form for it. Written out, a compiled Dropout has the masks that it has in Keras's own steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from batchlab.training import keras_internals as internals
from batchlab.training.programs.loop import CannotCompileError
from batchlab.training.programs.patches import replaced

_OPERATION = "StatelessRandomUniform"
_ROUNDS = 10
_ROUNDS_A_TURN = 2
_FACTORS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_OF_SEEDS = (0x3EC8F720, 0x02461E29)  # the key with which TensorFlow scrambles a seed
_LEAST_UNIFORM = 1.0e-7  # TensorFlow's guard of the logarithm


@contextmanager
def written_out(fractions: Callable | None = None) -> Iterator[None]:
    """Have float32 numbers of known shapes drawn as here, by the functions of TensorFlow that Keras's layers call.

    Args:
        fractions: What draws them; see `mapped`.
    """
    fractions = fractions or _fractions
    with (
        replaced(tf.random, "stateless_uniform", lambda own: _in_place_of(own, uniform, fractions)),
        replaced(tf.random, "stateless_normal", lambda own: _in_place_of(own, normal, fractions)),
        replaced(tf.nn.experimental, "stateless_dropout", lambda own: _dropout_in_place_of(own, fractions)),
    ):
        yield


@contextmanager
def mapped() -> Iterator[None]:
    """As `written_out`, within a function that `tf.vectorized_map` maps over seeds.

    To map what is written out operation by operation takes a second for each layer. So the function holds one
    operation, in whose place the numbers of all seeds are written out when it is mapped.

    Raises:
        CannotCompileError: In the end, if one was left as it is: it depends on no seed that is mapped.
    """
    asked = drawn = 0

    def one_operation(number: int, seed: tf.Tensor) -> tf.Tensor:
        nonlocal asked
        asked += 1
        return tf.raw_ops.StatelessRandomUniform(shape=[-(-number // 4), 4], seed=seed)

    def of_all_seeds(given: Any) -> Any:  # noqa: ANN401
        nonlocal drawn
        drawn += 1
        return internals.mapped_result(_fractions(math.prod(given.outputs[0].shape), given.stacked_input(1)))

    with written_out(one_operation):
        converters = internals.converters_of_mapping()
        own, converters[_OPERATION] = converters[_OPERATION], of_all_seeds
        try:
            yield
        finally:
            converters[_OPERATION] = own
    if drawn < asked:
        raise CannotCompileError("a layer draws the same random numbers in all runs")


def uniform(shape: tuple[int, ...], seed: tf.Tensor, fractions: Callable | None = None) -> tf.Tensor:
    """Draw what `tf.random.stateless_uniform` draws, float32 in [0, 1).

    Args:
        shape: Of the result.
        seed: Two int32.
        fractions: What draws them.
    """
    number = math.prod(shape)
    return tf.reshape(tf.reshape((fractions or _fractions)(number, seed), [-1])[:number], shape)


def normal(shape: tuple[int, ...], seed: tf.Tensor, fractions: Callable | None = None) -> tf.Tensor:
    """Draw what `tf.random.stateless_normal` draws, to rounding: by Box and Muller's formula from pairs of fractions.

    Args:
        shape: Of the result.
        seed: Two int32.
        fractions: What draws the fractions.
    """
    number = math.prod(shape)
    first, second = tf.unstack(tf.reshape((fractions or _fractions)(number, seed), [-1, 2]), axis=1)
    radius = tf.sqrt(-2.0 * tf.math.log(tf.maximum(first, _LEAST_UNIFORM)))
    angle = 2.0 * math.pi * second
    pairs = tf.stack([radius * tf.sin(angle), radius * tf.cos(angle)], 1)
    return tf.reshape(tf.reshape(pairs, [-1])[:number], shape)


def _in_place_of(own: Callable, draw: Callable, fractions: Callable) -> Callable:
    """Return TensorFlow's function, which draws as here what can be."""
    low, high = ("minval", "maxval") if draw is uniform else ("mean", "stddev")

    def drawn(shape: Any, seed: Any, *args: Any, **named: Any) -> tf.Tensor:  # noqa: ANN401
        known = _known(shape)
        dtype = tf.as_dtype(named.get("dtype", tf.float32))
        if args or known is None or dtype != tf.float32 or not {low, high, "dtype"} >= set(named):
            return own(shape, seed, *args, **named)
        numbers = draw(known, tf.cast(seed, tf.int32), fractions)
        first, second = (tf.cast(named.get(name, default), dtype) for name, default in ((low, 0.0), (high, 1.0)))
        return numbers * (second - first) + first if draw is uniform else numbers * second + first

    return drawn


def _dropout_in_place_of(own: Callable, fractions: Callable) -> Callable:
    def dropped(x: Any, rate: Any, seed: Any, rng_alg: Any = None, noise_shape: Any = None, **named: Any) -> tf.Tensor:  # noqa: ANN401
        known = _known(tf.shape(x) if noise_shape is None else noise_shape)
        plain = isinstance(rate, int | float) and 0 < rate < 1 and rng_alg is None and not named
        if not plain or known is None or x.dtype != tf.float32:
            named |= {"noise_shape": noise_shape} | ({} if rng_alg is None else {"rng_alg": rng_alg})
            return own(x, rate, seed, **named)
        kept = uniform(known, tf.cast(seed, tf.int32), fractions) >= rate
        return tf.where(kept, x * tf.constant(1 / (1 - rate), x.dtype), tf.zeros([], x.dtype))

    return dropped


def _known(shape: Any) -> tuple[int, ...] | None:  # noqa: ANN401
    """Return a shape as numbers, if TensorFlow knows them while it traces."""
    known = tf.zeros(shape).shape
    return tuple(known) if known.is_fully_defined() else None


def _fractions(number: int, seed: tf.Tensor) -> tf.Tensor:
    """Return at least so many numbers in [0, 1), in rows of four: the words of a block, of which 23 bits count.

    Args:
        number: How many.
        seed: Two int32, shape (…, 2); leading axes are those of the result, shape (…, blocks, 4).
    """
    scrambled = _philox(_halves(seed), [tf.constant([value], tf.uint32) for value in _OF_SEEDS])
    block = tf.cast(tf.range(-(-number // 4), dtype=tf.int32), tf.uint32)
    nothing = tf.zeros_like(block) * scrambled[2]
    words = _philox([block + nothing, nothing, nothing + scrambled[2], nothing + scrambled[3]], scrambled[:2])
    bits = tf.bitwise.bitwise_and(tf.stack(words, -1), _word(0x7FFFFF))
    return tf.cast(tf.cast(bits, tf.int32), tf.float32) * tf.constant(2.0**-23)


def _halves(seed: tf.Tensor) -> list[tf.Tensor]:
    """Return pairs of int32, extended to 64 bits with their signs, as four words, the lower one of each first."""
    low = tf.cast(seed, tf.uint32)
    high = tf.where(seed < 0, _word(0xFFFFFFFF), _word(0))
    return [low[..., :1], high[..., :1], low[..., 1:], high[..., 1:]]


def _philox(counter: Sequence[tf.Tensor], key: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
    """Encrypt arrays of four words by two.

    XLA computes anew what it can for each use of it, in ten rounds a thousand times over. It cannot across the turns of
    a loop, so two rounds are one turn.
    """
    xor = tf.bitwise.bitwise_xor

    def turn(i: tf.Tensor, a: tf.Tensor, b: tf.Tensor, c: tf.Tensor, d: tf.Tensor, *key: tf.Tensor) -> tuple:
        for _ in range(_ROUNDS_A_TURN):
            (a_high, a_low), (c_high, c_low) = (_product(word, by) for word, by in zip((a, c), _FACTORS, strict=True))
            a, b, c, d = xor(xor(c_high, b), key[0]), c_low, xor(xor(a_high, d), key[1]), a_low
            key = tuple(word + _word(step) for word, step in zip(key, _KEY_STEPS, strict=True))
        return i + 1, a, b, c, d, *key

    return tf.while_loop(lambda i, *_: i < _ROUNDS // _ROUNDS_A_TURN, turn, (0, *counter, *key))[1:5]


def _product(word: tf.Tensor, factor: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Multiply words; return the upper and the lower half of each product."""
    product = tf.cast(word, tf.uint64) * tf.constant(factor, tf.uint64)
    return tf.cast(tf.bitwise.right_shift(product, tf.constant(32, tf.uint64)), tf.uint32), tf.cast(product, tf.uint32)


def _word(value: int) -> tf.Tensor:
    return tf.constant(value, tf.uint32)

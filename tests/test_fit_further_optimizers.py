"""`fit` equals `keras.Model.fit` with optimizers beyond the most used ones, or hands over to it; see `twins`."""

import pytest
from keras import optimizers
from twins import (
    assert_twins,
    documented,
)

pytestmark = pytest.mark.thorough

# --- further optimizers ------------------------------------------------------------------------------

FURTHER_OPTIMIZERS = {
    "centered rmsprop with momentum": lambda: optimizers.RMSprop(centered=True, momentum=0.5),
    "amsgrad": lambda: optimizers.Adam(amsgrad=True),
    "nadam": lambda: optimizers.Nadam(),
    "adagrad": lambda: optimizers.Adagrad(0.02),
    "adamax": lambda: optimizers.Adamax(),
    "clipvalue": lambda: optimizers.SGD(0.1, clipvalue=0.003),
    "weight decay": lambda: optimizers.SGD(0.05, weight_decay=0.1),
    "moving average": lambda: optimizers.SGD(0.1, use_ema=True, ema_momentum=0.8),
    "moving average that overwrites": lambda: optimizers.SGD(
        0.1, use_ema=True, ema_momentum=0.8, ema_overwrite_frequency=4
    ),
}
# Not elementwise, or with a rhythm of their own: computed right or handed over, never wrong.
DELICATE_OPTIMIZERS = {
    "global_clipnorm": lambda: optimizers.SGD(0.1, global_clipnorm=0.05),
    "lamb": lambda: optimizers.Lamb(),
    "muon": lambda: optimizers.Muon(0.001),
    "adafactor": lambda: optimizers.Adafactor(0.01),
    "lion": lambda: optimizers.Lion(0.0005),
    "accumulation": lambda: optimizers.SGD(0.2, gradient_accumulation_steps=3),  # 10 steps an epoch: crosses its end
    "scaled loss": lambda: optimizers.LossScaleOptimizer(optimizers.SGD(0.1), initial_scale=8, dynamic_growth_steps=7),
}


@pytest.mark.parametrize("optimizer", FURTHER_OPTIMIZERS)
def test_further_optimizers(optimizer):
    assert_twins(lambda: documented(FURTHER_OPTIMIZERS[optimizer]()), validation_split=0.0)


@pytest.mark.parametrize("optimizer", DELICATE_OPTIMIZERS)
def test_delicate_optimizers_are_right_or_handed_over(optimizer):
    assert_twins(lambda: documented(DELICATE_OPTIMIZERS[optimizer]()), may_hand_over=True, validation_split=0.0)

"""What a new kernel does until its first curve is drawn. `bench.py` starts it and holds the watch.

The last line that it prints is JSON: seconds from this file's first line to the end of each stage, and the processor
seconds of the whole process so far.
"""

import time

START = time.perf_counter()

import io  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from batchlab.environment import prepare  # noqa: E402

stages = {}
prepare()
stages["TensorFlow imported"] = time.perf_counter() - START

import helpers  # noqa: E402

stages["helpers imported"] = time.perf_counter() - START

x, y = helpers.scale_features(helpers.load_ads(ROOT / "data" / "stand_in.csv"))
model = helpers.build_model(seed=0)
stages["model built"] = time.perf_counter() - START

history = helpers.fit(model, x, y, batch_size=250, epochs=10, validation_split=0.2)
stages["first fit done"] = time.perf_counter() - START

png = io.BytesIO()
helpers.plot_history(history, batch_size=250)[0].figure.savefig(png, format="png", dpi=160)
stages["curve drawn"] = time.perf_counter() - START
stages["processor time of it all"] = time.process_time()
print(json.dumps(stages), flush=True)

"""The advertising table under the name that others import it by; `batchlab.table` is where it is made."""

from batchlab.table.ads import CANONICAL_FINGERPRINT, COLUMNS, FEATURES, TARGET, URLS, fingerprint, load_ads
from batchlab.table.schema import DataError

__all__ = ["CANONICAL_FINGERPRINT", "COLUMNS", "FEATURES", "TARGET", "URLS", "DataError", "fingerprint", "load_ads"]

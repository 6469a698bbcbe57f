"""Where a network of the user's own comes from. No torch: the workflow asks before any job."""

from __future__ import annotations

import contextlib
from importlib.util import find_spec


def source_of(named: str) -> tuple[str, ...]:
    """The file of the module in ``module:function``; none if it cannot be found, which its import explains later."""
    with contextlib.suppress(ImportError, ValueError):
        found = find_spec(named.partition(":")[0])
        if found is not None and found.has_location and found.origin is not None:
            return (found.origin,)
    return ()

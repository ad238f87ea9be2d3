"""The task of the peers: 300 bytes of text in capitals, as `host/assets/upper.rs` does it for everybody else.

`STRONGROOM_BENCH_REDIS` is the port of the broker, which is the backend of the results, too.
"""

import os

PORT = os.environ["STRONGROOM_BENCH_REDIS"]
URL = f"redis://127.0.0.1:{PORT}/0"
TEXT = ("a line of text that becomes capitals\n" * 9)[:300]

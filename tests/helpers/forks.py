"""A process that has loaded torch, and forks one for each piece of code: a fresh start without its seconds.

`python -m helpers.forks` reads lines of JSON, code and folders of packages, and answers each with what was printed.
"""

import json
import os
import sys
import tempfile

if __name__ == "__main__":
    import spiking_lfp.data  # noqa: F401

    for line in sys.stdin:
        code, paths = json.loads(line)
        with tempfile.TemporaryFile() as printed:
            child = os.fork()
            if child == 0:
                for stream in (1, 2):
                    os.dup2(printed.fileno(), stream)
                sys.path[:0] = paths
                exec(code, {"__name__": "__main__"})
                sys.exit()
            os.waitpid(child, 0)
            printed.seek(0)
            print(json.dumps(printed.read().decode()), flush=True)

"""Every command line that is seen on this host until a file is there, each once, into a file.

Looks as often as it can: a secret that stands in an argument for a hundredth of a second is seen.
"""

import glob
import os
import sys
import time

stop, told = sys.argv[1:3]
seen = set()
with open(told, "w", encoding="utf-8", errors="replace") as file:
    while not os.path.exists(stop):
        for path in glob.glob("/proc/[0-9]*/cmdline"):
            try:
                with open(path, "rb") as one:
                    line = one.read()
            except OSError:
                continue
            if line not in seen:
                seen.add(line)
                file.write(line.replace(b"\0", b" ").decode("utf-8", "replace") + "\n")
                file.flush()
        time.sleep(0.003)

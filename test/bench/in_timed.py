"""In a host: run a command, tell its seconds and output."""

import json
import subprocess
import sys
import time

wanted = json.loads(sys.argv[1])
began = time.monotonic()
done = subprocess.run(wanted["argv"], capture_output=True, text=True, check=False)
took = time.monotonic() - began
text = done.stdout + done.stderr
print(json.dumps({"seconds": took, "code": done.returncode, "out": done.stdout, "text": text}))

"""Prints the bytes of the arena that TensorFlow Lite Micro takes for a file, or `absent` without the package."""

import os
import re
import sys
import tempfile

try:
    from tflite_micro.python.tflite_micro import runtime
except ImportError:
    print("absent")
    sys.exit()

interpreter = runtime.Interpreter.from_file(sys.argv[1])
shape = interpreter.get_input_details(0)["shape"]
with tempfile.TemporaryFile() as log:
    # The allocations are printed on the C++ side of standard error.
    keep = os.dup(2)
    os.dup2(log.fileno(), 2)
    interpreter.print_allocations()
    os.dup2(keep, 2)
    log.seek(0)
    print(re.search(rb"Arena allocation total (\d+)", log.read())[1].decode())

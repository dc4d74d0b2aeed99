"""Run one of gem5's generators on ptshare's SimObjects: ``gem5py_m5 generate.py SCRIPT ARGS...``.

gem5's generators know only the declarations inside gem5; this adds the folder of this file to them.
"""

import os
import runpy
import sys

import importer

importer.install()
import m5.objects  # noqa: E402  (only there after install)

m5.objects.__path__.append(os.path.dirname(os.path.abspath(__file__)))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")

"""Our clients beside the published SDK, in one run: `python benches/compare.py --samples 30`.

The benchmark itself ships with the package, so that users can run it without a checkout.
"""

import sys

from schematic_native.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", *sys.argv[1:]]))

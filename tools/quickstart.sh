#!/usr/bin/env bash
# From a folder of images to a better detector: installs what is missing, then mcl-mm quickstart.
#
#   bash tools/quickstart.sh                 on drawn scenes, with a detector
#   bash tools/quickstart.sh --images DIR    on your own images
#   bash tools/quickstart.sh --help          all options
set -euo pipefail
. "$(dirname "$0")/install.sh"
. "$ROOT/tools/allocator.sh"
exec python -m mcl_mm quickstart "$@"

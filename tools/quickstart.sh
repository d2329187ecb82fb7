#!/usr/bin/env bash
# From a folder of images to a better detector: installs what is missing, then runs mcl-mm quickstart.
#
#   bash tools/quickstart.sh                 on drawn scenes, with a detector
#   bash tools/quickstart.sh --images DIR    on your own images
#   --seeds N, --work-dir DIR                see mcl-mm quickstart --help
set -euo pipefail
case " $* " in *' -h '* | *' --help '*) sed -n '2,6s/^# \?//p' "$0" && exit ;; esac
ARGUMENTS=("$@")
set --
. "$(dirname "$0")/install.sh"
. "$ROOT/tools/allocator.sh"
exec python -m mcl_mm quickstart "${ARGUMENTS[@]}"
